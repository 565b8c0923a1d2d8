"""What a study found: means over seeds, and paired differences to the reference method."""

from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from math import sqrt
from multiprocessing import get_context

import numpy as np
from scipy.stats import t as student_t

from rmbench.evaluation import Outcome
from rmbench.metrics import resolve_metric
from rmbench.record_reader import StoredRun, stored_suite
from rmbench.stats import Comparison, Statistic, combine, compare
from rmbench.study.run import Cell
from rmbench.study.spec import StudySpec
from rmbench.tabular import csv_text

METRICS = (
    "accuracy", "nll", "nll_scaled", "ece", "ece_scaled", "temperature", "margin_mean", "win_rate@max",
    "gold@max", "overoptimization_drop",
)  # fmt: skip
"""Of these, whatever a task has."""

_MANY = 200
"""Records from which it pays to start processes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One method on one base, data set, task and metric."""

    base: str
    data: str
    method: str
    task: str
    metric: str
    mean: float
    """Over seeds."""
    deviation: float | None
    """Standard deviation over seeds; None for a single one."""
    n_seeds: int
    n_undefined: int
    """Seeds without a value (a temperature that does not exist); the mean is over the others."""
    difference: Comparison | None
    """To the reference on the same prompts and seeds; None for the reference, or where no error is known."""


@dataclass(frozen=True, slots=True)
class Versus:
    """One method against another than the reference."""

    method: str
    other: str
    rows: tuple[Row, ...]
    """The method's; their differences are to the other."""


def rows_of_study(
    spec: StudySpec, outcomes: Mapping[tuple[str, str], Outcome]
) -> tuple[list[Row], list[Versus]]:
    """Return the rows in the order of the study's file, and those of its key `versus`."""
    suites = _measured(outcomes)
    names = {task: outcome.run.record.task for (_, task), outcome in outcomes.items()}
    versus = []
    for method, other in spec.versus:
        both = replace(
            spec, methods=tuple(m for m in spec.methods if m.name in (method, other)), reference=other
        )
        found = [r for r in _all_rows(both, suites, names) if r.method == method]
        versus.append(Versus(method, other, tuple(found)))
    return _all_rows(spec, suites, names), versus


def _all_rows(
    spec: StudySpec,
    suites: Mapping[tuple[str, str], Mapping[str, Statistic]],
    names: Mapping[str, str],
) -> list[Row]:
    rows = []
    for base in spec.bases:
        for data in spec.data:
            for task in dict.fromkeys(e.task for e in spec.evaluate):
                by_method = {
                    m.name: [suites[Cell(base, data, m, seed).name, task] for seed in spec.seeds]
                    for m in spec.methods
                }
                for metric in METRICS:
                    found = _rows(base, data.name, names[task], metric, by_method, spec.reference)
                    rows += found
    return rows


def _measured(
    outcomes: Mapping[tuple[str, str], Outcome],
) -> dict[tuple[str, str], Mapping[str, Statistic]]:
    """Return the numbers of all records with what pairs them; in processes where that is much work."""
    runs = [outcome.run for outcome in outcomes.values()]
    if len(runs) < _MANY:
        return dict(zip(outcomes, map(_metrics_of, runs), strict=True))
    with ProcessPoolExecutor(mp_context=get_context("spawn")) as pool:
        return dict(zip(outcomes, pool.map(_metrics_of, runs, chunksize=16), strict=True))


def _metrics_of(run: StoredRun) -> Mapping[str, Statistic]:
    stems = {m.partition("@")[0] for m in METRICS}
    found = stored_suite(run, strata=False)[0].metrics
    return {name: s for name, s in found.items() if name.partition("@")[0] in stems}


def _rows(
    base: str,
    data: str,
    task: str,
    metric: str,
    by_method: Mapping[str, Sequence[Mapping[str, Statistic]]],
    reference: str,
) -> list[Row]:
    known = {name for suites in by_method.values() for suite in suites for name in suite}
    stem = metric.removesuffix("max")
    if metric not in known and not (metric.endswith("@max") and any(n.startswith(stem) for n in known)):
        return []
    name = resolve_metric(metric, dict.fromkeys(known))
    rows = []
    for method, suites in by_method.items():
        values = [s[name].value for s in suites if name in s]
        if not values:
            continue
        rows.append(
            Row(
                base=base, data=data, method=method, task=task, metric=name, mean=float(np.mean(values)),
                deviation=float(np.std(values, ddof=1)) if len(values) > 1 else None, n_seeds=len(values),
                n_undefined=len(suites) - len(values),
                difference=None if method == reference else _paired(suites, by_method[reference], name),
            )
        )  # fmt: skip
    return rows


def _paired(
    a: Sequence[Mapping[str, Statistic]], b: Sequence[Mapping[str, Statistic]], name: str
) -> Comparison | None:
    """Compare means over seeds on the same prompts; seeds where either has no value are left out.

    Two sources of chance add up: which prompts were asked (clustered error of the mean difference) and which
    seeds were drawn (standard deviation of the difference over seeds, by the root of their number). The
    degrees of freedom are Satterthwaite's.
    """
    both = [(x[name], y[name]) for x, y in zip(a, b, strict=True) if name in x and name in y]
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
    half = float(student_t.ppf(0.975, freedom)) * sqrt(total)
    p = 2.0 * float(student_t.sf(abs(paired.value) / sqrt(total), freedom))
    interval = (paired.value - half, paired.value + half)
    return Comparison(replace(paired, stderr=sqrt(total), ci95=interval), p)


def to_csv(rows: Sequence[Row]) -> str:
    """Return all rows as CSV, one per method, base, data set, task and metric."""
    heads = ["base", "data", "method", "task", "metric", "mean", "sd_over_seeds", "seeds", "undefined",
             "difference", "low", "high", "p"]  # fmt: skip
    lines = []
    for r in rows:
        difference = r.difference.difference if r.difference else None
        low, high = (difference.ci95 if difference else None) or (None, None)
        lines.append(
            [
                *(r.base, r.data, r.method, r.task, r.metric),
                *(r.mean, r.deviation, r.n_seeds, r.n_undefined),
                *(difference.value if difference else None, low, high),
                r.difference.p_value if r.difference else None,
            ]
        )
    return csv_text(heads, lines)
