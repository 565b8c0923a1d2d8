"""Two models on their common items: an item that one leaves out because of its rewards counts for neither.

Under `invalid=drop`, and wherever no reward can stand for an invalid one, a model's number rests on the items
that it answered. Without this, a difference of two such numbers would compare sets of items, not models.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.core.escape import one_line
from rmbench.metrics import Suite
from rmbench.results.run import Run, named
from rmbench.stats import Statistic


@dataclass(frozen=True, slots=True)
class ItemCount:
    """How many items two models' numbers rest on, where at least one of them left items out."""

    both: int
    """Items that both answered."""
    first: int
    """Items that the first model answered."""
    second: int
    of: int
    """Items in all."""


@dataclass(frozen=True, slots=True)
class Common:
    """One metric of two models on their common items."""

    first: Statistic | None
    """None where it has no value on these items, which `why` says."""
    second: Statistic | None
    count: ItemCount | None = None
    """None where neither left an item out: the numbers are the models' own."""
    why: str = ""


class CommonItems:
    """Measures runs again on the items that two have in common: each run once for each set of items."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, bytes], Suite] = {}

    def of(self, a: Run, b: Run, metric: str) -> Common:
        """Return a metric of two runs on the items that neither leaves out; both panels hold the same items.

        Where neither left an item out, or both left out the same ones, nothing is measured again.

        Args:
            a: The first run.
            b: The second.
            metric: Its name; of `win_rate@max` the largest n on the common items counts.
        """
        first, second = (named(metric, run.suite) for run in (a, b))
        if first is None or second is None:
            return Common(a.suite.metrics.get(first or ""), b.suite.metrics.get(second or ""))
        without = a.suite.without(first), b.suite.without(second)
        left_out = [w for w in without if w is not None]
        if not left_out:
            return Common(a.suite.metrics[first], b.suite.metrics[second])
        keep = ~np.any(left_out, axis=0)
        count = ItemCount(int(keep.sum()), a.n_answered(first), b.n_answered(second), len(keep))
        if count.both == 0:
            return Common(None, None, count, "no item that both answered")
        numbers = []
        for run, name in ((a, first), (b, second)):
            suite = self._measured(run, name, keep)
            if (found := named(metric, suite)) is None:
                why = suite.undefined.get(metric, "it has no value")
                return Common(None, None, count, f"{why} ({run.model}, {_on(count)})")
            numbers.append(suite.metrics[found])
        return Common(numbers[0], numbers[1], count)

    def _measured(self, run: Run, metric: str, keep: NDArray[np.bool_]) -> Suite:
        """Return the numbers of a metric's task kind on the items `keep`, shape (I,)."""
        if run.n_answered(metric) == int(keep.sum()):
            return run.suite
        kind = run.suite.kind_of.get(metric, "")
        place = (run.record.run_id, kind, np.packbits(keep).tobytes())
        if place not in self._found:
            kinds = [kind] if kind else []
            self._found[place] = run.measure_on(run.panel.take(keep), kinds)
        return self._found[place]


def _on(count: ItemCount) -> str:
    return f"on the {count.both:,} of {count.of:,} items that both answered"


def basis_lines(
    models: tuple[str, str], counts: Mapping[str, ItemCount], lacking: Mapping[str, str]
) -> list[str]:
    """Return a line for all metrics that rest on equally many items, and one for each without a value.

    Args:
        models: Their names.
        counts: Metric -> what its comparison rests on, where that is not all items.
        lacking: Metric -> why there is no comparison of it.
    """
    first, second = (one_line(name, 40) for name in models)
    found: dict[ItemCount, list[str]] = {}
    for metric, count in counts.items():
        found.setdefault(count, []).append(metric)
    lines = [
        f"{', '.join(metrics)}: {first} and {second} {_on(count)} "
        f"({first} answered {count.first:,}, {second} {count.second:,})"
        for count, metrics in found.items()
    ]
    reasons: dict[str, list[str]] = {}
    for metric, why in lacking.items():
        reasons.setdefault(why, []).append(metric)
    for why, metrics in reasons.items():
        lines.append(f"no {', '.join(metrics)} of {first} against {second}: {why}")
    return lines
