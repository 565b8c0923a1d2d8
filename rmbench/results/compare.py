"""Comparison of models on the same items: paired tests of every pair, and the items on which they disagree.

Under `invalid=drop`, and if no reward can replace an invalid one, a model's metric is over the items that it
answered. Two such metrics would compare sets of items, not models. So an item that one of two models leaves
out because of its rewards counts for neither.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from rmbench.core.escape import one_line
from rmbench.errors import ConfigError
from rmbench.format.tables import Block, Cell, Column, Table, as_html, cell_of, number
from rmbench.metrics import Panel, Suite, resolve_metric
from rmbench.metrics.kinds import kinds_of, known_kind
from rmbench.results.disagree import Disagreement, per_item, worst
from rmbench.results.run import Run, named, shown_name
from rmbench.stats import Comparison, Statistic, Tested, family
from rmbench.types import Estimate


@dataclass(frozen=True, slots=True)
class ItemCount:
    """Numbers of items under a comparison of two models, at least one of which left items out."""

    both: int
    """Number of items that both answered."""
    first: int
    """Items that the first model answered."""
    second: int
    of: int
    """Number of all items."""


@dataclass(frozen=True, slots=True)
class Common:
    """One metric of two models on their common items."""

    first: Statistic | None
    """None if it has no value on these items; `why` gives the reason."""
    second: Statistic | None
    count: ItemCount | None = None
    """None if neither left an item out: the metrics are those of all items."""
    why: str = ""


class CommonItems:
    """Measures runs again on the items that two runs have in common: each run once for each set of items."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, bytes], Suite] = {}

    def of(self, a: Run, b: Run, metric: str) -> Common:
        """Return a metric of two runs on the items that neither leaves out; both panels hold the same items.

        If neither left an item out, or both left out the same ones, nothing is measured again.

        Args:
            a: The first run.
            b: The second run.
            metric: Its name; `win_rate@max` means the largest n on the common items.

        Raises:
            ConfigError: If their rewards are of other items, although both records name the same data.
        """
        check_same_prompts(a, b)
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
        """Return the metrics of a metric's task kind on the items `keep`, shape (I,)."""
        if run.n_answered(metric) == int(keep.sum()):
            return run.suite
        kind = run.suite.kind_of.get(metric, "")
        place = (run.record.run_id, kind, np.packbits(keep).tobytes())
        if place not in self._found:
            kinds = [kind] if kind else []
            self._found[place] = run.measure_on(run.panel.take(keep), kinds)
        return self._found[place]


def check_same_prompts(a: Run, b: Run) -> None:
    """Raise ConfigError if two runs have rewards of other items, though they name the same data."""
    first, second = a.suite, b.suite
    if first.n_items != second.n_items or first.clusters != second.clusters:
        raise ConfigError(
            f"{a.rewards_path} and {b.rewards_path} hold other items or prompts, though their records name"
            " the same data; evaluate both models again"
        )


def _on(count: ItemCount) -> str:
    return f"on the {count.both:,} of {count.of:,} items that both answered"


def basis_lines(
    models: tuple[str, str], counts: Mapping[str, ItemCount], lacking: Mapping[str, str]
) -> list[str]:
    """Return one line for all metrics over equally many items, and one for each metric without a value.

    Args:
        models: Names of the models.
        counts: Metric -> items of its comparison, if not all.
        lacking: Metric -> the reason why it has no comparison.
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


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of two models, on the items that both answered."""

    metric: str
    first: Estimate
    second: Estimate
    test: Tested
    """The paired test in its family: of every pair of models on the headline, or on all other metrics."""
    count: ItemCount | None = None
    """Items of the three numbers; None: all items, as neither model left one out."""

    @property
    def paired(self) -> Comparison:
        """The paired difference with its own p-value."""
        return self.test.paired

    @property
    def p_holm(self) -> float | None:
        """The p-value after Holm's correction over the family; None without a test."""
        return self.test.p_holm


def test_columns(*, items: bool) -> tuple[Column, ...]:
    """Return the columns of a paired test; with `items` also the number of its items."""
    heads = {"p": 3, "p (Holm)": 2, "shows from": 1}
    numbers = [Column(head, "number", drop=drop) for head, drop in heads.items()]
    verdict = (*numbers[:2], Column("verdict", "text"), numbers[2])
    return (*verdict, Column("items", "text")) if items else verdict


def test_cells(m: MetricComparison, *, items: bool) -> tuple[Cell, ...]:
    """Return the cells of `test_columns`."""
    p_values = (number(p, "probability") for p in (m.paired.p_value, m.p_holm))
    cells = (*p_values, m.test.words, number(m.test.smallest()))
    basis = "all" if m.count is None else f"{m.count.both:,} of {m.count.of:,}"
    return (*cells, basis) if items else cells


@dataclass(frozen=True, slots=True)
class PairedReport:
    """The comparison of two models."""

    task: str
    first: str
    """Name of the first model."""
    second: str
    measure: str
    """Meaning of the values of `Disagreement`."""
    metrics: tuple[MetricComparison, ...]
    disagreements: tuple[Disagreement, ...]
    lacking: Mapping[str, str] = field(default_factory=dict)
    """Metric of both models -> the reason why it has no value on the items that both answered."""

    def table(self, head: str = "metric") -> Table:
        """Return a row per metric: both values, their difference and its test; `head` heads the metrics."""
        items = any(m.count is not None for m in self.metrics)
        columns = (
            Column(head, "text"),
            *(Column(name, limit=30) for name in (self.first, self.second)),
            Column("difference (paired)"),
            *test_columns(items=items),
        )
        rows = tuple(
            (
                m.metric,
                *map(cell_of, (m.first, m.second)),
                cell_of(m.paired.difference, strong=m.test.told_apart),
                *test_cells(m, items=items),
            )
            for m in self.metrics
        )
        return Table(columns, rows)

    def _repr_html_(self) -> str:
        """Return the comparison as HTML, for notebooks."""
        line = f"{self.task}: {self.first} against {self.second}"
        return as_html([Block("", (line,), self.table(), tuple(self.basis_lines()))])

    def basis_lines(self) -> list[str]:
        """Return the metrics over a part of the items, with their numbers of items; empty if all use all."""
        counts = {m.metric: m.count for m in self.metrics if m.count is not None}
        return basis_lines((self.first, self.second), counts, self.lacking)


@dataclass(frozen=True, slots=True)
class ManyReport:
    """The comparison of two models or more."""

    task: str
    measure: str
    """Meaning of the values of `Disagreement`."""
    models: tuple[str, ...]
    """Distinct names, in the given order."""
    estimates: Mapping[str, tuple[Estimate | None, ...]]
    """Metric -> its value for each model; None without a value."""
    pairs: tuple[PairedReport, ...]
    """Every pair of models, in order."""
    disagreements: tuple[Disagreement, ...]
    """Disagreements over all models: largest value of an item minus the smallest."""
    undefined: Mapping[str, Mapping[str, str]]
    """Metric -> model -> the reason for no value: pairs with such a model are not compared on it."""
    margin: float | None = None
    """Margin below which models are called equivalent; None: not tested."""
    answered: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Metric -> number of items of each model's value in `estimates`, if one left items out."""
    headline: str = ""
    """Metric whose tests are a family of their own; those of the other metrics are a second one."""


def verdict_metric(runs: Sequence[Run], metrics: Sequence[str]) -> str:
    """Return the metric that the verdict is on: the first that was asked for, else the task's headline."""
    known = {name: None for run in runs for name in (*run.record.metrics, *run.record.undefined)}
    return resolve_metric(metrics[0] if metrics else runs[0].record.primary, known)


def headline_metrics(runs: Sequence[Run], convention: str = "both") -> list[str]:
    """Return the default metrics for a comparison of records of one task.

    Raises:
        ConfigError: If the task has no metric of the requested convention.
    """
    first = runs[0].record
    kinds = kinds_of(runs[0].kinds, convention)
    if not kinds:
        raise ConfigError(f"task {first.task!r} has no {convention} convention")
    known = {name for run in runs for name in (*run.record.metrics, *run.record.undefined)}
    return [
        m.name
        for kind in filter(None, map(known_kind, kinds))
        for m in kind.metrics
        if m.headline and m.compared and (m.name in known or m.name.endswith("@max"))
    ]


def compare_runs(
    a: Run,
    b: Run,
    metrics: Sequence[str],
    n_items: int,
    margin: float | None = None,
    headline: str | None = None,
) -> PairedReport:
    """Compare two records of one task, metric by metric, on the same prompts: see `compare_many`."""
    return compare_many([a, b], metrics, n_items, margin, headline).pairs[0]


def compare_many(
    runs: Sequence[Run],
    metrics: Sequence[str],
    n_items: int,
    margin: float | None = None,
    headline: str | None = None,
) -> ManyReport:
    """Compare every pair of records of one task, metric by metric, on the same prompts.

    Args:
        runs: Two or more runs.
        metrics: Names; `win_rate@max` is the one with the largest n.
        n_items: Number of disagreements to return, over all models and for every pair.
        margin: Margin within which models are called equivalent, in each metric's unit; None: not tested.
        headline: The metric that was named before the data was looked at. Its tests are a family of their own
            for Holm's correction, those of all other metrics a second one. None: the task's primary metric,
            or the first of `metrics` if that is not among them.

    Raises:
        ConfigError: If the runs are not of the same items, since a paired comparison would be meaningless;
            if the margin is not above 0.
    """
    for other in runs[1:]:
        _check_same(runs[0], other)
    first = runs[0]
    if any(not _same_items(run.panel, first.panel) for run in runs):
        raise ConfigError("the records hold different items; evaluate all models again")
    models = _names(runs)
    names = dict.fromkeys(_resolved(wanted, runs) for wanted in metrics)
    pairs = list(combinations(range(len(runs)), 2))
    items = CommonItems()
    common = {(name, i, j): items.of(runs[i], runs[j], name) for name in names for i, j in pairs}
    headline = headline or verdict_metric(runs, ())
    headline = headline if headline in names else next(iter(names), headline)
    tested = _tested(common, margin, headline)
    measure = per_item(first)[0]
    values = np.array([per_item(run)[1] for run in runs])
    ids = first.panel.ids
    reports = [
        PairedReport(
            runs[0].record.task,
            models[i],
            models[j],
            measure,
            tuple(tested[name, i, j] for name in names if (name, i, j) in tested),
            worst(ids, values[[i, j]], n_items),
            {name: reason for name in names if (reason := common[name, i, j].why)},
        )
        for i, j in pairs
    ]
    return ManyReport(
        runs[0].record.task,
        measure,
        models,
        {n: tuple(s.estimate() if (s := m.suite.metrics.get(n)) else None for m in runs) for n in names},
        tuple(reports),
        worst(ids, values, n_items),
        {n: why for n in names if (why := _undefined(n, models, runs))},
        margin,
        {n: tuple(m.n_answered(n) for m in runs) for n in names if _some_left_out(n, runs)},
        headline,
    )


def _resolved(wanted: str, runs: Sequence[Run]) -> str:
    """Return the metric's name, also of a metric that has no value for any model, but a reason."""
    if all(wanted in run.suite.undefined for run in runs):
        return wanted
    return resolve_metric(wanted, {name: None for run in runs for name in run.suite.metrics})


_SAME = ("task", "data", "limit", "seed")
"""Keys of the identity that compared records share."""


def comparable(runs: Sequence[Run]) -> bool:
    """Say whether records are of the same items, task and settings, so that they can be compared."""
    first = [runs[0].record.identity[key] for key in _SAME]
    alike = all([run.record.identity[key] for key in _SAME] == first for run in runs)
    return alike and all(_same_items(run.panel, runs[0].panel) for run in runs)


def _check_same(a: Run, b: Run) -> None:
    """Raise ConfigError unless both runs are of the same items."""
    for key in _SAME:
        if a.record.identity[key] != b.record.identity[key]:
            raise ConfigError(
                f"{a.record.model!r} and {b.record.model!r} were not measured on the same items: their {key} "
                f"differs ({one_line(str(a.record.identity[key]), 60)} against "
                f"{one_line(str(b.record.identity[key]), 60)})"
            )


def _same_items(a: Panel, b: Panel) -> bool:
    """Return whether two panels hold the same items: ids, prompts and gold. Lengths may be unknown in one."""
    return (
        (a.ids, a.cluster_names) == (b.ids, b.cluster_names)
        and np.array_equal(a.offsets, b.offsets)
        and np.array_equal(a.cluster, b.cluster)
        and np.array_equal(a.gold, b.gold, equal_nan=True)
        and np.array_equal(a.gold_kind, b.gold_kind)
    )


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    """Return the models' names, with the record's id if two records share a name.

    Raises:
        ConfigError: If one of more than two records occurs twice.
    """
    names = [shown_name(run, runs) for run in runs]
    ids = [run.record.run_id for run in runs]
    if len(runs) > 2 and len(set(ids)) < len(ids):
        twice = next(n for n, i in zip(names, ids, strict=True) if ids.count(i) > 1)
        raise ConfigError(f"{twice!r} is given twice")
    return tuple(
        f"{name} ({i[:8]})" if names.count(name) > 1 and len(set(ids)) > 1 else name
        for name, i in zip(names, ids, strict=True)
    )


def _tested(
    common: Mapping[tuple[str, int, int], Common], margin: float | None, headline: str
) -> dict[tuple[str, int, int], MetricComparison]:
    """Return the comparisons by metric and pair of models.

    Two families for Holm's correction: the metric that was named before, and all others.
    """
    compared = {
        key: (both.first, both.second)
        for key, both in common.items()
        if both.first is not None and both.second is not None
    }
    found: dict[tuple[str, int, int], MetricComparison] = {}
    for of_headline in (True, False):
        members = {key: both for key, both in compared.items() if (key[0] == headline) is of_headline}
        for (key, (a, b)), test in zip(members.items(), family(list(members.values()), margin), strict=True):
            found[key] = MetricComparison(key[0], a.estimate(), b.estimate(), test, common[key].count)
    return found


def _some_left_out(name: str, runs: Sequence[Run]) -> bool:
    return any(name in r.suite.metrics and r.suite.without(name) is not None for r in runs)


def _undefined(name: str, models: Sequence[str], runs: Sequence[Run]) -> dict[str, str]:
    return {
        model: run.suite.undefined.get(name, "not measured")
        for model, run in zip(models, runs, strict=True)
        if name not in run.suite.metrics
    }
