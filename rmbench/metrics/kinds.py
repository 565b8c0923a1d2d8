"""What measuring one task kind returns, and the registry of kinds.

The metrics that a task kind is known by, in the order that tables and pages show them.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmbench.core.registry import Registry
from rmbench.metrics.panel import Panel
from rmbench.stats import Statistic


@dataclass(frozen=True, slots=True)
class Measured:
    """The numbers of one task kind on one panel."""

    metrics: dict[str, Statistic]
    """Metric name -> statistic, in display order."""
    counts: dict[str, int] = field(default_factory=dict)
    """What was tied, invalid or left out: name -> number."""
    undefined: dict[str, str] = field(default_factory=dict)
    """Metric name -> why it has no value here. Never a NaN, never a made-up 0."""
    curves: dict[str, Any] = field(default_factory=dict)
    """Tables for plots, JSON values only: reliability, margin deciles, gold against n."""
    left_out: NDArray[np.bool_] | None = None
    """Items of the panel that are left out because of the model's own rewards, shape (I,); None for none. A
    kind that leaves such items out must name them: a comparison leaves them out of the other model too."""


Measure: TypeAlias = Callable[[Panel, Mapping[str, Any]], Measured]
"""(panel, params) -> numbers. Pure: no model, no file, no clock. `params` holds `seed` and the kind's own."""

KINDS: Registry[Measure] = Registry(
    "task kind",
    group="rmbench.kinds",
    homes=("rmbench.metrics", "rmbench.benchmarks", "rmbench.benchmarks.rewardbench"),
)


_SECTIONS = ("official_chat", "official_chat_hard", "official_safety", "official_reasoning")
HEADLINES: Mapping[str, tuple[str, ...]] = {
    "rewardbench": ("official", *_SECTIONS, "official_prior_sets", "official_micro"),
    "rewardbench2": (
        "official", "official_factuality", "official_precise_if", "official_math", "official_safety",
        "official_focus", "official_ties",
    ),
    "rm-bench": (
        "official", "official_easy", "official_normal", "official_hard", "official_chat", "official_code",
        "official_math", "official_safety",
    ),
    "judgebench": (
        "official", "official_knowledge", "official_reasoning", "official_math", "official_coding",
    ),
    "ppe": (
        "official", "official_auc", "official_max", "official_end", "official_loss", "official_mmlu_pro",
        "official_math", "official_gpqa", "official_mbpp_plus", "official_ifeval", "official_hard",
        "official_english",
    ),
    "preference": (
        "accuracy", "accuracy_macro", "accuracy_length_controlled", "longer_wins_length_controlled",
        "longer_wins", "accuracy_of_ceiling", "ceiling",
    ),
    "calibration": ("ece", "ece_debiased", "ece_scaled", "temperature", "brier", "nll", "auroc_margin"),
    "best_of_n": ("win_rate@max", "gold@1", "gold@max", "oracle@max", "recovery@max", "best_n"),
}  # fmt: skip
"""Columns per task kind; all other metrics are in the record."""


def at_largest_n(metric: str, held: Sequence[Iterable[str]]) -> str:
    """Return `gold@24` for `gold@max`: the largest n among the metrics held (of one task they share it)."""
    if not metric.endswith("@max"):
        return metric
    stem = metric.removesuffix("max")
    found = [int(m.removeprefix(stem)) for names in held for m in names if m.startswith(stem)]
    return f"{stem}{max(found)}" if found else metric
