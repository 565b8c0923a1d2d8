"""Metrics: pure functions of items and rewards."""

from rmbench.metrics.kinds import KINDS, Kind, Measured, Metric, Params, register_kind
from rmbench.metrics.panel import Panel, PanelRow, build_panel, panel_of
from rmbench.metrics.suite import (
    METRICS_VERSION,
    Suite,
    measure_suite,
    resolve_metric,
    with_contradictions,
    with_flips,
)

__all__ = [
    "KINDS",
    "METRICS_VERSION",
    "Kind",
    "Measured",
    "Metric",
    "Panel",
    "PanelRow",
    "Params",
    "Suite",
    "build_panel",
    "measure_suite",
    "panel_of",
    "register_kind",
    "resolve_metric",
    "with_contradictions",
    "with_flips",
]
