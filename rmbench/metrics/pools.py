"""Pools of candidates as rectangles, a bounded number of values at a time."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from rmbench.metrics.panel import Panel
from rmbench.stats.clusters import Floats, Ints

_VALUES_AT_A_TIME = 1 << 20


@dataclass(frozen=True, slots=True)
class Pools:
    """Prompts with their candidates; pools may differ in size."""

    rewards: Floats
    """Shape (R,)."""
    gold: Floats
    """Shape (R,)."""
    offsets: Ints
    """Shape (I + 1,)."""

    @property
    def n_prompts(self) -> int:
        """Number of pools."""
        return len(self.offsets) - 1

    def chunks(self) -> Iterator[tuple[Ints, Floats, Floats]]:
        """Yield (prompt indices (i,), rewards (i, M), gold (i, M)), pools of one size M at a time."""
        sizes = np.diff(self.offsets)
        for size in np.unique(sizes):
            of_size = np.flatnonzero(sizes == size)
            step = max(1, _VALUES_AT_A_TIME // int(size))
            for start in range(0, len(of_size), step):
                prompts = of_size[start : start + step]
                rows = self.offsets[prompts][:, None] + np.arange(size)
                yield prompts, self.rewards[rows], self.gold[rows]

    def n_with_equal_gold(self) -> int:
        """Return how many pools have the same gold throughout: no selection can help there."""
        return sum(int((np.ptp(gold, axis=1) == 0.0).sum()) for _, _, gold in self.chunks())


def pools_of(panel: Panel) -> Pools:
    """Return the pools of a panel whose gold is known everywhere."""
    return Pools(panel.rewards, panel.gold, panel.offsets)
