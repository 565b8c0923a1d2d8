"""Metrics: pure functions of items and rewards. Importing this package registers the task kinds."""

from rmbench.metrics import (  # noqa: F401
    best_of_n,
    calibration,
    judgebench,
    m_rewardbench,
    plan_rewardbench,
    ppe,
    preference,
    reward_math,
    rewardbench,
    rewardbench2,
    rm_bench,
    rmb,
)
from rmbench.metrics.panel import Panel, PanelRow, build_panel, panel_of
from rmbench.metrics.result import KINDS, Measured
from rmbench.metrics.suite import METRICS_VERSION, Suite, measure_suite, resolve_metric, with_flips

__all__ = [
    "KINDS",
    "METRICS_VERSION",
    "Measured",
    "Panel",
    "PanelRow",
    "Suite",
    "build_panel",
    "measure_suite",
    "panel_of",
    "resolve_metric",
    "with_flips",
]
