"""What measuring one task kind returns, and the registry of kinds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.panel import Panel
from rmbench.registry import Registry
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

KINDS: Registry[Measure] = Registry("task kind", group="rmbench.kinds")
