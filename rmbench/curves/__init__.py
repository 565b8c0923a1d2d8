"""Best-of-n curves of stored records: gold, win rate and KL against n, as figures and tables."""

from rmbench.curves.draw import draw_curves
from rmbench.curves.gather import Layout, Left, Series, gather, notes_of
from rmbench.curves.tables import curves_csv, curves_json, curves_latex, fits_csv

__all__ = [
    "Layout",
    "Left",
    "Series",
    "curves_csv",
    "curves_json",
    "curves_latex",
    "draw_curves",
    "fits_csv",
    "gather",
    "notes_of",
]
