"""Studies: methods x bases x data x seeds, trained, evaluated and compared in pairs."""

from rmbench.study.figures import render_figures
from rmbench.study.finding import forest_files, forests_of
from rmbench.study.page import study_page
from rmbench.study.report import to_latex, to_markdown
from rmbench.study.run import BatchRow, Cell, StudyRun, batch_rows, cells_of, run_study
from rmbench.study.spec import StudySpec, load_study
from rmbench.study.tables import Row, Versus, packed_records, rows_of_study, to_csv

__all__ = [
    "BatchRow",
    "Cell",
    "Row",
    "StudyRun",
    "StudySpec",
    "Versus",
    "batch_rows",
    "cells_of",
    "forest_files",
    "forests_of",
    "load_study",
    "packed_records",
    "render_figures",
    "rows_of_study",
    "run_study",
    "study_page",
    "to_csv",
    "to_latex",
    "to_markdown",
]
