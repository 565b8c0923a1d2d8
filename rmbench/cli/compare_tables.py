"""What `rmbench compare` prints."""

import shutil
from collections.abc import Mapping
from math import isnan
from typing import Any

from rmbench.comparison import ManyReport, MetricComparison, PairedReport
from rmbench.disagreements import Disagreement
from rmbench.escape import one_line
from rmbench.records import estimate_to_json
from rmbench.stats.compare import ALPHA
from rmbench.tabular import Block, Cell, Column, Number, Table, as_text, cell_of

ADJUSTED = "Holm's correction over the {n} pairs of models, within each metric"


def blocks_of(report: ManyReport, prompts: Mapping[str, str], n_items: int, *, terminal: bool) -> list[Block]:
    """Return the report: the differences, for three models or more as matrices too, and disagreements.

    Args:
        report: What to show.
        prompts: Item id -> its prompt, where known.
        n_items: How many disagreements were asked for.
        terminal: Whether it must fit into a terminal.
    """
    if len(report.models) == 2:
        blocks = [_two(report, terminal)]
    else:
        blocks = [_estimates(report), *_matrices(report, terminal), _differences(report, terminal)]
    return [*blocks, *_items(report, prompts, n_items)]


def values_of(report: ManyReport) -> Table:
    """Return the numbers: a row per metric and pair of models."""
    heads = (
        *(Column(head, "text") for head in ("task", "metric", "first", "second")),
        *(Column(head) for head in ("first_value", "second_value", "difference")),
        *(Column(head, "number") for head in ("p", "p_holm")),
    )
    rows = [
        (
            *(report.task, m.metric, pair.first, pair.second),
            *map(cell_of, (m.first, m.second, m.paired.difference)),
            *(_p(m.paired.p_value), _p(m.p_holm)),
        )
        for pair, m in _by_metric(report)
    ]
    return Table(heads, tuple(rows))


def as_json_values(report: ManyReport) -> dict[str, Any]:
    """Return the report as JSON values; that of two models is the one of their pair."""
    pairs = [_pair_json(report, pair) for pair in report.pairs]
    if len(pairs) == 1:
        return pairs[0]
    return {
        "task": report.task,
        "models": list(report.models),
        "adjustment": ADJUSTED.format(n=len(pairs)),
        "measure": report.measure,
        "undefined": {name: dict(why) for name, why in report.undefined.items()},
        "pairs": pairs,
        "disagreements": [
            {
                "item": d.item,
                "values": dict(zip(report.models, map(_or_none, d.values), strict=True)),
            }
            for d in report.disagreements
        ],
    }


def _pair_json(report: ManyReport, pair: PairedReport) -> dict[str, Any]:
    names = (pair.first, pair.second)
    undefined = {n: {m: w for m, w in why.items() if m in names} for n, why in report.undefined.items()}
    return {
        "task": report.task,
        "first": pair.first,
        "second": pair.second,
        "metrics": {
            m.metric: {
                "first": estimate_to_json(m.first),
                "second": estimate_to_json(m.second),
                "difference": estimate_to_json(m.paired.difference),
                "p_value": m.paired.p_value,
                "p_holm": m.p_holm,
            }
            for m in pair.metrics
        },
        "undefined": {name: why for name, why in undefined.items() if why},
        "disagreements": [
            {"item": d.item, "first": _or_none(d.first), "second": _or_none(d.second)}
            for d in pair.disagreements
        ],
    }


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value


def _p(value: float | None) -> Cell:
    return None if value is None else Number(value, form="probability")


def _told_apart(m: MetricComparison) -> bool:
    return m.p_holm is not None and m.p_holm < ALPHA


def _by_metric(report: ManyReport) -> list[tuple[PairedReport, MetricComparison]]:
    """Return every comparison, all pairs of one metric together."""
    return [
        (pair, m)
        for metric in report.estimates
        for pair in report.pairs
        for m in pair.metrics
        if m.metric == metric
    ]


def undefined_lines(report: ManyReport) -> list[str]:
    """Return a line per model and reason: which metrics have no value."""
    found: dict[tuple[str, str], list[str]] = {}
    for metric, why in report.undefined.items():
        for model, reason in why.items():
            found.setdefault((model, reason), []).append(metric)
    return [
        f"no {', '.join(metrics)} for {one_line(model, 40)}: {reason}"
        for (model, reason), metrics in found.items()
    ]


def _two(report: ManyReport, terminal: bool) -> Block:
    (pair,) = report.pairs
    columns = (
        Column(report.task, "text"),
        Column(pair.first, limit=30),
        Column(pair.second, limit=30),
        Column("difference (paired)"),
        Column("p", "number"),
    )
    rows = [
        (
            m.metric,
            *map(cell_of, (m.first, m.second)),
            cell_of(m.paired.difference, strong=_told_apart(m)),
            _p(m.paired.p_value),
        )
        for m in pair.metrics
    ]
    bold = () if terminal else ("Bold: p < 0.05, for each metric by itself.",)
    caption = (
        f"{pair.first} and {pair.second} on the same items of {report.task}",
        "95% intervals; the tests are paired and clustered by prompt",
    )
    notes = (*bold, *undefined_lines(report))
    return Block(f"compare-{report.task}", (), Table(columns, tuple(rows)), notes, caption=caption)


def _estimates(report: ManyReport) -> Block:
    line = f"{one_line(report.task)}: {len(report.models)} models on the same items, 95% intervals by prompt"
    columns = (Column("model", "text", 40), *map(Column, report.estimates))
    rows = [
        (name, *(cell_of(found[n]) for found in report.estimates.values()))
        for n, name in enumerate(report.models)
    ]
    name = f"compare-{report.task}"
    return Block(name, (line,), Table(columns, tuple(rows)), tuple(undefined_lines(report)))


def differences(report: ManyReport) -> Table:
    """Return the differences of every two models, all pairs of one metric together."""
    columns = (
        *(Column("metric", "text"), Column("A", "text", 30), Column("B", "text", 30)),
        Column("A - B (paired)"),
        *(Column("p", "number"), Column("p (Holm)", "number")),
    )
    rows = [
        (
            *(m.metric, pair.first, pair.second),
            cell_of(m.paired.difference, "signed", strong=_told_apart(m)),
            *(_p(m.paired.p_value), _p(m.p_holm)),
        )
        for pair, m in _by_metric(report)
    ]
    return Table(columns, tuple(rows))


def _differences(report: ManyReport, terminal: bool) -> Block:
    notes = [f"p (Holm): after {ADJUSTED.format(n=len(report.pairs))}."]
    untested = sum(m.p_holm is None for _, m in _by_metric(report))
    if untested:
        notes.append(f"{untested} differences have no test (no error is known), and are not corrected for.")
    if not terminal:
        notes.append("Bold: p (Holm) < 0.05.")
    line = f"Differences of every two models on {one_line(report.task)}:"
    return Block(f"compare-{report.task}-pairs", (line,), differences(report), tuple(notes))


def _matrices(report: ManyReport, terminal: bool) -> list[Block]:
    """Return a matrix per metric; for a terminal only if all of them fit."""
    blocks = [_matrix(report, metric) for metric in report.estimates]
    if not terminal:
        return blocks
    need = max((len(line) for block in blocks for line in as_text([block]).splitlines()), default=0)
    if need <= shutil.get_terminal_size((100, 24)).columns:
        return blocks
    line = (
        f"Matrices of differences would need {need} columns here; --html, --markdown and --latex have them."
    )
    return [Block("", (line,), None)]


def matrix_cell(
    report: ManyReport, metric: str, row: int, column: int
) -> tuple[Cell, MetricComparison | None]:
    """Return the difference of two models by their places, row less column, and the test that it is from."""
    first, second = (report.models[n] for n in sorted((row, column)))
    pairs = [p for p in report.pairs if row != column and (p.first, p.second) == (first, second)]
    m = next((m for p in pairs for m in p.metrics if m.metric == metric), None)
    if m is None:
        return None, None
    apart, sign = _told_apart(m), 1.0 if row < column else -1.0
    difference = sign * m.paired.difference.value
    return Number(difference, form="signed", strong=apart, mark="*" if apart else ""), m


def _matrix(report: ManyReport, metric: str) -> Block:
    places = range(len(report.models))
    columns = (Column("", "text", 30), *(Column(f"({n + 1})", "number") for n in places))
    rows = [
        (f"({i + 1}) {report.models[i]}", *(matrix_cell(report, metric, i, j)[0] for j in places))
        for i in places
    ]
    line = f"{metric}, row minus column; *: p (Holm) < 0.05:"
    return Block(
        f"compare-{report.task}-{metric}",
        (line,),
        Table(columns, tuple(rows)),
        caption=(f"{report.task}: {line}",),
    )


def _items(report: ManyReport, prompts: Mapping[str, str], n_items: int) -> list[Block]:
    name = f"compare-{report.task}-items"
    if not report.disagreements:
        two = "two models" if len(report.models) == 2 else "models"
        return [Block(name, (f"The {two} never disagree.",), None)] if n_items else []
    texts = Column("prompt" if prompts else "", "text", 80)
    columns: tuple[Column, ...]
    cells: list[tuple[Cell, ...]]
    if len(report.models) == 2:
        columns = tuple(Column(model, "number", 30) for model in report.models)
        cells = [tuple(map(Number, d.values)) for d in report.disagreements]
    else:
        ends = (Column(end, "text", 30) for end in ("lowest", "highest"))
        columns = tuple(part for end in ends for part in (end, Column("", "number")))
        cells = [_ends(report, d) for d in report.disagreements]
    rows = [
        (d.item, *found, prompts.get(d.item, ""))
        for d, found in zip(report.disagreements, cells, strict=True)
    ]
    columns = (Column("item", "text", 40), *columns, texts)
    line = f"Items where they disagree most ({report.measure}):"
    return [Block(name, (line,), Table(columns, tuple(rows)))]


def _ends(report: ManyReport, found: Disagreement) -> tuple[Cell, ...]:
    """Return the model with the lowest value, that value, and both of the highest; the first of equals."""
    known = [n for n, value in enumerate(found.values) if not isnan(value)]
    low, high = min(known, key=lambda n: found.values[n]), max(known, key=lambda n: found.values[n])
    ends = ((report.models[n], Number(found.values[n])) for n in (low, high))
    return tuple(part for end in ends for part in end)
