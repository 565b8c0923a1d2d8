"""One page on one model or several: numbers, figures, the worst items, and what it all rests on."""

from rmbench.report.gather import Section, runs_of, sections_of
from rmbench.report.page import Report, make_report
from rmbench.report.pictures import figure_files
from rmbench.report.worst import data_by_task

__all__ = ["Report", "Section", "data_by_task", "figure_files", "make_report", "runs_of", "sections_of"]
