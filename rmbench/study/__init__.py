"""Studies: methods x bases x data x seeds, trained, evaluated and compared in pairs."""

from rmbench.study.figures import render_figures
from rmbench.study.run import Cell, cells_of, run_study
from rmbench.study.spec import StudySpec, load_study
from rmbench.study.tables import Row, rows_of_study, to_csv, to_markdown

__all__ = [
    "Cell",
    "Row",
    "StudySpec",
    "cells_of",
    "load_study",
    "render_figures",
    "rows_of_study",
    "run_study",
    "to_csv",
    "to_markdown",
]
