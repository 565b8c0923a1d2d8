"""Tables of a study: means over seeds, paired differences to the reference, all records in one file."""

import lzma
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from math import sqrt
from multiprocessing import get_context
from typing import Any

import numpy as np
from scipy.special import stdtr, stdtrit

from rmbench.core.files import canonical_json
from rmbench.evaluation.run import Outcome
from rmbench.format.tables import csv_text, value_low_high
from rmbench.metrics import Suite
from rmbench.metrics.kinds import at_largest_n
from rmbench.results.compare import Common, CommonItems
from rmbench.results.record import Record, sealed
from rmbench.results.run import Run
from rmbench.stats import Comparison, Statistic, combine, compare
from rmbench.study.run import Cell
from rmbench.study.spec import StudySpec

METRICS = (
    "accuracy", "nll", "nll_scaled", "ece", "ece_scaled", "temperature", "margin_mean", "win_rate@max",
    "gold@max", "overoptimization_drop",
)  # fmt: skip
"""Metrics of the tables, where a task has them."""

_MANY = 200
"""Number of records from which processes pay off."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one base, data set, task and metric."""

    base: str
    data: str
    method: str
    task: str
    metric: str
    mean: float
    """Mean over seeds."""
    deviation: float | None
    """Standard deviation over seeds; None for a single one."""
    n_seeds: int
    n_undefined: int
    """Seeds without a value (such as an infinite temperature); the mean is over the others."""
    difference: Comparison | None
    """Difference to the reference on the same prompts and seeds; None for the reference or without error."""
    seeds: tuple[float, ...] = ()
    """The difference on each seed that has one, in order."""
    items: tuple[int, int] | None = None
    """Fewest items, of how many, that a seed's difference rests on: those that both models answered, where
    one left items out."""


@dataclass(frozen=True, slots=True)
class Seed:
    """One method's numbers on one seed: the record's values of `METRICS`."""

    run: Run
    suite: Suite

    @property
    def metrics(self) -> Mapping[str, Statistic]:
        """Name -> number."""
        return self.suite.metrics


class Pairing:
    """Numbers of two seeds on common items; panels are read only if some items lack rewards."""

    def __init__(self) -> None:
        self._common = CommonItems()

    def of(self, a: Seed, b: Seed, name: str) -> Common:
        """Return a metric of both, on their common items."""
        if a.suite.without(name) is None and b.suite.without(name) is None:
            return Common(a.metrics.get(name), b.metrics.get(name))
        return self._common.of(a.run, b.run, name)


@dataclass(frozen=True, slots=True)
class Versus:
    """Comparison with a method other than the reference."""

    method: str
    other: str
    rows: tuple[Row, ...]
    """The method's rows, with differences to the other method."""


def rows_of_study(
    spec: StudySpec, outcomes: Mapping[tuple[str, str], Outcome]
) -> tuple[list[Row], list[Versus]]:
    """Return the rows in the order of the study's file, and the comparisons of its key `versus`."""
    suites, pairing = _measured(outcomes), Pairing()
    names = {task: outcome.run.record.task for (_, task), outcome in outcomes.items()}
    versus = []
    for method, other in spec.versus:
        both = replace(
            spec, methods=tuple(m for m in spec.methods if m.name in (method, other)), reference=other
        )
        found = [r for r in _all_rows(both, suites, names, pairing) if r.method == method]
        versus.append(Versus(method, other, tuple(found)))
    return _all_rows(spec, suites, names, pairing), versus


def _all_rows(
    spec: StudySpec,
    suites: Mapping[tuple[str, str], Seed],
    names: Mapping[str, str],
    pairing: Pairing,
) -> list[Row]:
    rows = []
    for base in spec.bases:
        for data in spec.data:
            for task in dict.fromkeys(e.task for e in spec.evaluate):
                by_method = {
                    m.name: [suites[Cell(base, data, m, seed).name, task] for seed in range(spec.seeds)]
                    for m in spec.methods
                }
                for metric in METRICS:
                    place = (base, data.name, names[task])
                    rows += _rows(place, metric, by_method, spec.reference, pairing)
    return rows


def _measured(
    outcomes: Mapping[tuple[str, str], Outcome],
) -> dict[tuple[str, str], Seed]:
    """Return the numbers of all records, ready for pairing; uses processes if there are many records."""
    runs = [outcome.run for outcome in outcomes.values()]
    if len(runs) < _MANY:
        return dict(zip(outcomes, map(seed_of, runs), strict=True))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return dict(zip(outcomes, pool.map(seed_of, runs, chunksize=16), strict=True))


def seed_of(run: Run) -> Seed:
    """Return the numbers of one record that the tables show."""
    stems = {m.partition("@")[0] for m in METRICS}
    suite = run.suite
    metrics = {name: s for name, s in suite.metrics.items() if name.partition("@")[0] in stems}
    return Seed(run, Suite(metrics, {}, {}, {}, kind_of=suite.kind_of, left_out=suite.left_out))


def _rows(
    place: tuple[str, str, str],
    metric: str,
    by_method: Mapping[str, Sequence[Seed]],
    reference: str,
    pairing: Pairing,
) -> list[Row]:
    base, data, task = place
    known = {name for seeds in by_method.values() for seed in seeds for name in seed.metrics}
    name = at_largest_n(metric, [known])
    if name not in known:
        return []
    rows = []
    for method, seeds in by_method.items():
        values = [s.metrics[name].value for s in seeds if name in s.metrics]
        if not values:
            continue
        difference, items = None, None
        by_seed: tuple[float, ...] = ()
        if method != reference:
            difference, by_seed, items = paired_over_seeds(seeds, by_method[reference], name, pairing)
        rows.append(
            Row(
                base=base, data=data, method=method, task=task, metric=name, mean=float(np.mean(values)),
                deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None, n_seeds=len(values),
                n_undefined=len(seeds) - len(values), difference=difference, seeds=by_seed, items=items,
            )
        )  # fmt: skip
    return rows


def paired_over_seeds(
    a: Sequence[Seed], b: Sequence[Seed], name: str, pairing: Pairing
) -> tuple[Comparison | None, tuple[float, ...], tuple[int, int] | None]:
    """Return the comparison over seeds, each seed's difference, and (fewest common items, all items) or None.

    Args:
        a: One method's numbers, a `Seed` per seed.
        b: The other method's, in the same order.
        name: Metric.
        pairing: Finds the items that both models of a seed answered.
    """
    found = [pairing.of(x, y, name) for x, y in zip(a, b, strict=True)]
    counts = [(c.count.both, c.count.of) for c in found if c.count is not None]
    both = [(c.first, c.second) for c in found if c.first is not None and c.second is not None]
    by_seed = tuple(float(first.value - second.value) for first, second in both)
    return compare_over_seeds(both), by_seed, min(counts, default=None)


def compare_over_seeds(both: Sequence[tuple[Statistic, Statistic]]) -> Comparison | None:
    """Compare means over seeds, each on the items that both models have a value on; `both` has a pair a seed.

    Two sources of error add up: the choice of prompts (clustered error of the mean difference) and of seeds
    (standard deviation of the difference over seeds, over the root of their number). The degrees of freedom
    are Satterthwaite's.
    """
    if not both or any(s.influence is None or s.log_scale for pair in both for s in pair):
        return None
    prompts = compare(*(combine(seeds, n=seeds[0].n) for seeds in zip(*both, strict=True)))
    paired = prompts.difference
    if paired.stderr is None or prompts.freedom is None or len(both) < 2:
        return Comparison(paired, None)
    by_prompt = paired.stderr**2
    by_seed = float(np.var([x.value - y.value for x, y in both], ddof=1)) / len(both)
    total = by_prompt + by_seed
    if total < 1e-24:
        return Comparison(paired, 1.0 if abs(paired.value) < 1e-12 else 0.0)
    freedom = total**2 / (by_prompt**2 / prompts.freedom + by_seed**2 / (len(both) - 1))
    half = float(stdtrit(freedom, 0.975)) * sqrt(total)
    p = 2.0 * float(stdtr(freedom, -abs(paired.value) / sqrt(total)))
    interval = (paired.value - half, paired.value + half)
    return Comparison(replace(paired, stderr=sqrt(total), ci95=interval), p)


def to_csv(rows: Sequence[Row]) -> str:
    """Return all rows as CSV, one per method, base, data set, task and metric."""
    heads = ["base", "data", "method", "task", "metric", "mean", "sd_over_seeds", "seeds", "undefined",
             "difference", "low", "high", "p"]  # fmt: skip
    some = any(r.items for r in rows)
    heads += ["items", "of_items"] * some
    lines = []
    for r in rows:
        difference = r.difference.difference if r.difference else None
        lines.append(
            [
                *(r.base, r.data, r.method, r.task, r.metric),
                *(r.mean, r.deviation, r.n_seeds, r.n_undefined),
                *value_low_high(difference),
                r.difference.p_value if r.difference else None,
                *(r.items or (None, None)) * some,
            ]
        )
    return csv_text(heads, lines)


def packed_records(records: Iterable[Record]) -> bytes:
    """Return the records as JSON Lines in xz, by model and task; the same records give the same bytes.

    Curves are left out: they are most of a record, and the figures show them. Paths of data and models are
    cut to their last name, because the file is for others.
    """
    ordered = sorted(records, key=lambda record: (record.model, record.task))
    return lzma.compress("".join(canonical_json(_shared(r)) + "\n" for r in ordered).encode(), preset=9)


def _shared(record: Record) -> dict[str, Any]:
    full = record.to_json()
    provenance = dict(full["provenance"])
    for key in ("data", "model"):
        if isinstance(provenance.get(key), str):
            provenance[key] = provenance[key].replace("\\", "/").rpartition("/")[2]
    return sealed({**full, "curves": {}, "provenance": provenance})
