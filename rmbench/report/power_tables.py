"""Tables of `rmbench power`: the resolution of records, or of a task's data."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.format.tables import Block, Cell, Column, Number, Table, no_value, number
from rmbench.metrics import resolve_metric
from rmbench.report.compare_tables import by_metric, undefined_lines
from rmbench.results.compare import compare_many, headline_metrics
from rmbench.results.read import find_run
from rmbench.results.run import Run
from rmbench.stats import Resolution, resolution_of_data, resolution_of_one
from rmbench.stats.power import ALPHA, MOST_CLUSTERS
from rmbench.tasks import read_task_items
from rmbench.tasks.spec import TaskSpec
from rmbench.types import Item

CORRELATION = 0.5
"""Assumed correlation of two models' values over prompts."""
ACCURACY = 0.7
"""Assumed accuracy of both models."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The question: which difference, with which power."""

    difference: float | None
    """In the metric's unit; None: the smallest differences are asked for."""
    power: float
    n_tests: int
    """Number of tests in the family that Holm's correction covers; the larger of the two families."""

    @property
    def levels(self) -> tuple[float, float]:
        """The level of one test alone, and of the first of the family."""
        return ALPHA, ALPHA / self.n_tests


@dataclass(frozen=True, slots=True)
class Case:
    """Resolution of one metric, for two models or for an assumption."""

    metric: str
    first: str
    second: str
    resolution: Resolution | None


@dataclass(frozen=True, slots=True)
class Resolutions:
    """Resolutions of a task, and their basis."""

    task: str
    basis: str
    rows: tuple[Case, ...]
    n_tests: int
    notes: tuple[str, ...] = ()


def of_models(
    models: Sequence[str],
    results: Path,
    task: str,
    metrics: Sequence[str],
    convention: str,
    correlation: float | None,
) -> Resolutions:
    """Return the resolution of every pair of models; of a single model, that of it and an equal one."""
    runs = [find_run(results, name, task) for name in models]
    wanted = metrics or headline_metrics(runs, convention)
    if len(runs) == 1:
        return _of_one(runs[0], wanted, CORRELATION if correlation is None else correlation)
    report = compare_many(runs, wanted, 0)
    tests = by_metric(report)
    return Resolutions(
        task,
        "From the paired difference of the models, its error clustered by prompt",
        tuple(Case(m.metric, pair.first, pair.second, m.paired.resolution) for pair, m in tests),
        max([1, *(m.test.n_tests for _, m in tests)]),
        tuple(undefined_lines(report)),
    )


def _of_one(run: Run, wanted: Sequence[str], correlation: float) -> Resolutions:
    suite = run.suite
    rows, missing = [], dict[str, str]()
    for name in wanted:
        try:
            metric = resolve_metric(name, suite.metrics)
        except UnknownNameError:
            if name not in suite.undefined:
                raise
            missing[name] = suite.undefined[name]
            continue
        found = resolution_of_one(suite.metrics[metric], correlation)
        rows.append(Case(metric, run.model, "another", found))
    basis = (
        f"Assumed: another model with the same error, and a correlation of {correlation:g} between the two "
        "over prompts (--correlation)"
    )
    return Resolutions(run.task, basis, tuple(rows), 1, tuple(no_value([(run.model, missing)])))


def of_data(
    spec: TaskSpec,
    data: Path | None,
    accuracy: float | None,
    correlation: float | None,
    discordance: float | None,
    *,
    on_bad: str,
    offline: bool,
) -> Resolutions:
    """Return the resolution of the accuracies of two models on a task's data.

    Raises:
        ConfigError: If the task measures no accuracy, or has pairs of fewer than two prompts.
    """
    if "preference" not in spec.kinds:
        raise ConfigError(
            f"task {spec.name!r} has no accuracy, and its data alone do not say how its metrics vary; "
            f"evaluate a model, then type rmbench power MODEL --task {spec.name}"
        )
    if discordance is not None and not (accuracy is None and correlation is None):
        raise ConfigError("--discordance says all; leave --accuracy and --correlation out")
    found = read_task_items(spec, data, on_bad=on_bad, offline=offline)
    sizes = Counter[str]()
    for item in found.items:
        sizes[item.cluster] += _pairs(item)
    counts = np.array([n for n in sizes.values() if n], dtype=np.float64)
    if len(counts) < 2:
        raise ConfigError(f"task {spec.name!r}: pairs of {len(counts)} prompts; expected two or more")
    p, r = ACCURACY if accuracy is None else accuracy, CORRELATION if correlation is None else correlation
    share = 2.0 * p * (1.0 - p) * (1.0 - r) if discordance is None else discordance
    why = f"two models of accuracy {p:g}, a correlation of {r:g} over pairs (--accuracy, --correlation): "
    single = bool((counts == 1).all())
    kinds = {"": False} if single else {"independent": False, "copies": True}
    notes = [f"{counts.sum():,.0f} pairs of {len(counts):,} prompts."]
    if not single:
        notes.append(
            "Pairs of one prompt are taken to be independent, and to be copies. The truth lies between; the "
            f"record of one model says where: rmbench power MODEL --task {spec.name}."
        )
    notes += [f"{n:,} rows left out: {reason}" for reason, n in found.dropped.items()]
    return Resolutions(
        spec.name,
        f"Assumed: {'' if discordance is not None else why}one alone is right on {share:.3g} of the pairs"
        + (" (--discordance)" if discordance is not None else ""),
        tuple(
            Case(
                "accuracy",
                f"pairs of a prompt: {name}" if name else "data",
                "",
                resolution_of_data(counts, share, copies=copies),
            )
            for name, copies in kinds.items()
        ),
        1,
        tuple(notes),
    )


def _pairs(item: Item) -> int:
    """Return the number of pairs of responses with different gold."""
    gold = Counter(r.gold for r in item.responses if r.gold is not None)
    n = sum(gold.values())
    return n * (n - 1) // 2 - sum(c * (c - 1) // 2 for c in gold.values())


def block_of(shown: Resolutions, asked: Asked) -> Block:
    """Return the table for people."""
    tests = f"{asked.n_tests:,} test{'s' if asked.n_tests > 1 else ''}"
    lines = (
        f"{shown.task}: the smallest difference that a paired test shows with {asked.power:.0%} power",
        shown.basis,
    )
    notes = [
        f"shows from: of a two-sided test at 5%. (Holm): at 5% / {asked.n_tests}, for a family of {tests}."
    ]
    if asked.difference is not None:
        notes.append(
            f"prompts for {asked.difference:g}: as many, of this kind, show a difference of that size."
        )
        if any(None in _prompts(row.resolution, asked) for row in shown.rows if row.resolution):
            notes.append(
                f"A dash there: no difference of {asked.difference:g} is possible, or more than "
                f"{MOST_CLUSTERS:,} prompts would be needed."
            )
    if any(
        row.resolution is None or row.resolution.smallest(asked.levels[1], asked.power) is None
        for row in shown.rows
    ):
        notes.append("A dash: no difference that is possible would be found, or no error is known.")
    return Block(f"power-{shown.task}", lines, _table(shown, asked), (*notes, *shown.notes))


def _table(shown: Resolutions, asked: Asked) -> Table:
    heads = ("A", "B") if any(row.second for row in shown.rows) else ("case",)
    columns = [
        *(Column("metric", "text"), *(Column(head, "text", 30) for head in heads)),
        *(Column("prompts", "count"), Column("stderr", "number")),
        *(Column(head, "number") for head in ("shows from", "shows from (Holm)")),
    ]
    if asked.difference is not None:
        head = f"prompts for {asked.difference:g}"
        columns += [Column(head, "count"), Column(f"{head} (Holm)", "count")]
    rows = tuple(
        (row.metric, *(row.first, row.second)[: len(heads)], *_cells(row.resolution, asked))
        for row in shown.rows
    )
    return Table(tuple(columns), rows)


def _cells(found: Resolution | None, asked: Asked) -> tuple[Cell, ...]:
    n_more = 0 if asked.difference is None else 2
    if found is None:
        return (None,) * (4 + n_more)
    cells: tuple[Cell, ...] = (
        found.n_clusters,
        Number(found.stderr),
        *(number(found.smallest(alpha, asked.power)) for alpha in asked.levels),
    )
    return cells if asked.difference is None else (*cells, *_prompts(found, asked))


def _prompts(found: Resolution, asked: Asked) -> list[int | None]:
    """Return the number of prompts that the difference needs, alone and in its family; None if impossible."""
    if asked.difference is None or (found.largest is not None and asked.difference > found.largest):
        return [None, None]
    return [found.clusters_for(asked.difference, alpha, asked.power) for alpha in asked.levels]


def values_of(shown: Resolutions, asked: Asked) -> Table:
    """Return the numbers for CSV."""
    table = _table(shown, asked)
    names = {"A": "first", "B": "second", "shows from": "shows_from", "shows from (Holm)": "shows_from_holm"}
    heads = [names.get(c.head, c.head) for c in table.columns]
    if asked.difference is not None:
        heads[-2:] = ["prompts_needed", "prompts_needed_holm"]
    columns = tuple(Column(head, c.kind) for head, c in zip(heads, table.columns, strict=True))
    return Table(columns, table.rows)


def as_json_values(shown: Resolutions, asked: Asked) -> dict[str, Any]:
    """Return the numbers as JSON values."""
    return {
        "task": shown.task,
        "basis": shown.basis,
        "power": asked.power,
        "alpha": ALPHA,
        "tests": asked.n_tests,
        "difference": asked.difference,
        "rows": [_row_json(row, asked) for row in shown.rows],
        "notes": list(shown.notes),
    }


def _row_json(row: Case, asked: Asked) -> dict[str, Any]:
    value: dict[str, Any] = {"metric": row.metric, "first": row.first, "second": row.second}
    found = row.resolution
    if found is None:
        names = ["prompts", "stderr", "freedom", "shows_from", "shows_from_holm"]
        names += ["prompts_needed", "prompts_needed_holm"] * (asked.difference is not None)
        return {**value, **dict.fromkeys(names)}
    shows, holm = (found.smallest(alpha, asked.power) for alpha in asked.levels)
    value |= {"prompts": found.n_clusters, "stderr": found.stderr, "freedom": found.freedom}
    value |= {"shows_from": shows, "shows_from_holm": holm}
    if asked.difference is not None:
        value["prompts_needed"], value["prompts_needed_holm"] = _prompts(found, asked)
    return value
