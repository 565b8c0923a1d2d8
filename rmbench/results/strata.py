"""Where two models part: the paired difference of one metric within each stratum of the items."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rmbench.metrics.kinds import known_kind, stem
from rmbench.results.compare import Common, check_same_prompts
from rmbench.results.run import Run, named
from rmbench.stats import Tested, family

MOST = 30
"""Most strata of one key that are compared: those with the most items."""


@dataclass(frozen=True, slots=True)
class StratumDifference:
    """The difference of two models within one stratum."""

    key: str
    value: str
    n_items: int
    test: Tested
    """First minus second; one family with all other strata."""

    @property
    def label(self) -> str:
        """The stratum, as `key=value`."""
        return f"{self.key}={self.value}"


@dataclass(frozen=True, slots=True)
class StrataReport:
    """The differences of two models within the strata."""

    metric: str
    rows: tuple[StratumDifference, ...]
    """By key, strata of most items first."""
    n_left: int
    """Strata without a difference: too many of a key, or no value in them."""

    @property
    def apart(self) -> tuple[StratumDifference, ...]:
        """The strata in which the models are told apart, largest differences first."""
        found = [row for row in self.rows if row.test.told_apart]
        return tuple(sorted(found, key=lambda row: -abs(row.test.paired.difference.value)))


def strata_of(a: Run, b: Run, metric: str) -> StrataReport:
    """Return the paired difference of a metric within each stratum; Holm's correction over all of them.

    A metric that has no numbers within strata, and a run without strata, give no rows.

    Args:
        a: The first run.
        b: The second, of the same items.
        metric: Name of the metric.
    """
    check_same_prompts(a, b)
    kind = a.suite.kind_of.get(metric, "")
    of_kind = known_kind(kind)
    if of_kind is None or stem(metric) not in of_kind.in_strata:
        return StrataReport(metric, (), 0)
    left, found = 0, list[tuple[str, str, int, Common]]()
    for key in (key for key in a.strata if key in a.panel.strata):
        values = np.array(a.panel.strata[key], dtype=object)
        names, counts = np.unique(values, return_counts=True)
        order = [n for n in np.lexsort((np.arange(len(names)), -counts)) if names[n] != ""]
        if len(order) < 2:
            continue
        left += max(0, len(order) - MOST)
        for n in order[:MOST]:
            both = _within(a, b, metric, kind, values == names[n])
            if both.first is None or both.second is None:
                left += 1
            else:
                found.append((key, str(names[n]), int(counts[n]), both))
    pairs = [(c.first, c.second) for *_, c in found if c.first is not None and c.second is not None]
    rows = (
        StratumDifference(key, value, n, test)
        for (key, value, n, _), test in zip(found, family(pairs), strict=True)
    )
    return StrataReport(metric, tuple(rows), left)


def _within(a: Run, b: Run, metric: str, kind: str, keep: NDArray[np.bool_]) -> Common:
    """Return the metric of both runs on the items of a stratum that both answered."""
    for run in (a, b):
        without = run.suite.without(metric)
        keep = keep if without is None else keep & ~without
    if not keep.any():
        return Common(None, None)
    first, second = (run.measure_on(run.panel.take(keep), [kind], short=True) for run in (a, b))
    found = [named(metric, suite) for suite in (first, second)]
    if None in found:
        return Common(None, None)
    return Common(first.metrics[found[0] or ""], second.metrics[found[1] or ""])
