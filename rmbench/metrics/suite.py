"""All metrics of a task: its kinds on the whole panel, and the short list on each stratum."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.metrics.kinds import KINDS, at_largest_n, stem
from rmbench.metrics.panel import Panel
from rmbench.stats import Statistic, ratio
from rmbench.stats.clusters import Floats, Ints
from rmbench.types import Estimate

METRICS_VERSION = 2
"""Bumped when any number could change for the same rewards; part of every run's identity."""


@dataclass(frozen=True, slots=True)
class Suite:
    """All metrics of one panel."""

    metrics: dict[str, Statistic]
    counts: dict[str, dict[str, int]]
    """Task kind -> counts of tied pairs, invalid items and items left out."""
    undefined: dict[str, str]
    curves: dict[str, Any]
    strata: dict[str, dict[str, dict[str, Estimate]]] = field(default_factory=dict)
    """Stratum key -> stratum -> metric -> number. Point estimates and intervals
    only; influence vectors are kept for the whole set alone."""
    kind_of: dict[str, str] = field(default_factory=dict)
    """Metric -> its task kind."""
    left_out: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    """Task kind (or `flip_rate`) -> items that its metrics leave out because of the model's rewards, shape
    (I,). Kinds that leave no item out are absent."""
    clusters: tuple[str, ...] = ()
    """Names of the C clusters, in the order of influences and shares."""
    n_items: int = 0
    """Items of the panel."""

    def without(self, metric: str) -> NDArray[np.bool_] | None:
        """Return the items that a metric leaves out because of the model's rewards, (I,); None: no item."""
        return self.left_out.get(self.kind_of.get(metric, metric))


def measure_suite(
    panel: Panel,
    kinds: Sequence[str],
    params: Mapping[str, Any],
    strata: Sequence[str] = (),
    *,
    flips: tuple[Sequence[int], Sequence[int]] | None = None,
    contradictions: Sequence[tuple[int, int]] | None = None,
    report_strata: bool = True,
) -> Suite:
    """Measure every kind of a task on `panel`.

    Args:
        panel: Items and rewards.
        kinds: Names of task kinds.
        params: Parameters of the kinds, and `seed`.
        strata: Stratum keys to report on; `accuracy_macro` averages over the first.
        flips: For pairwise models, per item: pairs whose winner depends on the order, and pairs compared;
            None: those of the panel, if any.
        contradictions: For judges that vote, per item: pairs of votes on the same question that contradict
            each other, and pairs of votes.
        report_strata: False leaves the numbers of each stratum out (the macro mean stays).

    Returns:
        All metrics. The same input gives the same output to the last bit.
    """
    keys = [key for key in strata if key in panel.strata]
    full = {**params, "macro_over": keys[0] if keys else None}
    if flips is not None:
        panel = with_flips(panel, flips)
    whole = _measure(panel, kinds, full)
    if panel.flips is not None and panel.comparisons is not None:
        _put_flip_rate(whole, panel, panel.flips, panel.comparisons)
    if contradictions is not None:
        _put_self_contradiction(whole, panel, np.array(contradictions, dtype=np.float64).reshape(-1, 2))
    by_stratum: dict[str, dict[str, dict[str, Estimate]]] = {}
    for key in keys if report_strata else ():
        values = np.array(panel.strata[key], dtype=object)
        by_stratum[key] = {
            str(value): _short_list(panel.take(values == value), kinds, {**full, "short": True})
            for value in np.unique(values)
        }
    return replace(whole, strata=by_stratum)


def with_flips(panel: Panel, flips: tuple[Sequence[int], Sequence[int]]) -> Panel:
    """Return the panel of a pairwise model: per item, pairs whose winner depends on the order, and pairs."""
    first, second = (np.array(values, dtype=np.int64) for values in flips)
    return replace(panel, flips=first, comparisons=second)


def resolve_metric(name: str, metrics: Mapping[str, object]) -> str:
    """Return the metric that `name` means: `win_rate@max` is the one with the largest n.

    Raises:
        UnknownNameError: If no metric has the name.
    """
    found = at_largest_n(name, [metrics])
    if found in metrics:
        return found
    raise UnknownNameError("metric", name, metrics)


def _measure(panel: Panel, kinds: Sequence[str], params: Mapping[str, Any]) -> Suite:
    suite = Suite({}, {}, {}, {}, clusters=panel.cluster_names, n_items=panel.n_items)
    for kind, measured in {kind: KINDS.get(kind)(panel, params) for kind in kinds}.items():
        if twice := set(suite.metrics) & set(measured.metrics):
            raise ConfigError(f"task kind {kind!r} gives {min(twice)!r} a second time")
        suite.metrics.update(measured.metrics)
        suite.undefined.update(measured.undefined)
        suite.curves.update(measured.curves)
        suite.counts[kind] = measured.counts
        suite.kind_of.update(dict.fromkeys((*measured.metrics, *measured.undefined), kind))
        if measured.left_out is not None and measured.left_out.any():
            suite.left_out[kind] = measured.left_out
    return suite


def _short_list(panel: Panel, kinds: Sequence[str], params: Mapping[str, Any]) -> dict[str, Estimate]:
    wanted = {kind: names for kind in kinds if (names := KINDS.get(kind).in_strata)}
    found = _measure(panel, list(wanted), params)
    return {
        name: m.estimate() for name, m in found.metrics.items() if stem(name) in wanted[found.kind_of[name]]
    }


def _put_flip_rate(suite: Suite, panel: Panel, flips: Ints, comparisons: Ints) -> None:
    compared = panel.per_cluster(comparisons.astype(np.float64))
    if not compared.any():
        suite.undefined["flip_rate"] = "no pair was compared in both orders"
        return
    flipped = panel.per_cluster(flips.astype(np.float64))
    rate = ratio(flipped, compared, n=int(compared.sum()), bounded=True)
    suite.metrics["flip_rate"] = replace(rate, higher_is_better=False)
    if (alone := (comparisons == 0) & (panel.sizes > 1)).any():
        suite.left_out["flip_rate"] = alone


def _put_self_contradiction(suite: Suite, panel: Panel, counts: Floats) -> None:
    against, pairs = panel.per_cluster(counts[:, 0]), panel.per_cluster(counts[:, 1])
    if not pairs.any():
        suite.undefined["self_contradiction"] = "no question has two votes with an answer"
        return
    rate = ratio(against, pairs, n=int(pairs.sum()), bounded=True)
    suite.metrics["self_contradiction"] = replace(rate, higher_is_better=False)
