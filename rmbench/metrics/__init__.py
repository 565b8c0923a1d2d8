"""Metrics: pure functions of items and rewards. Importing this package registers the task kinds."""

from rmbench.metrics import best_of_n, calibration, preference  # noqa: F401
from rmbench.metrics.panel import Panel, build_panel, panel_of
from rmbench.metrics.result import KINDS, Measured, measure_strata

__all__ = ["KINDS", "Measured", "Panel", "build_panel", "measure_strata", "panel_of"]
