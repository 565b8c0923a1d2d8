"""Tables, CSV and JSON of `rmbench compare`.

If a model left items out, they say on how many items each number rests.
"""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Any

from rmbench.core.digits import digits_of_estimates, significant
from rmbench.core.escape import one_line
from rmbench.format.tables import Block, Cell, Column, Number, Table, cell_of, no_value, number
from rmbench.format.terminal import as_text, terminal_width
from rmbench.results.compare import (
    ManyReport,
    MetricComparison,
    PairedReport,
    test_cells,
    test_columns,
)
from rmbench.results.disagree import Disagreement
from rmbench.results.record import estimate_to_json
from rmbench.stats import Tested
from rmbench.types import Estimate


def value_columns(report: ManyReport) -> tuple[Column, ...]:
    """Return the columns of CSV with items: answered by both, by each, and in all."""
    heads = ("items_both", "items_first", "items_second", "items")
    return tuple(Column(head, "count") for head in heads) if _some(report) else ()


def value_cells(report: ManyReport, m: MetricComparison) -> tuple[Cell, ...]:
    """Return a row's cells of `value_columns`; empty if both answered all items."""
    if not _some(report):
        return ()
    count = m.count
    return (None,) * 4 if count is None else (count.both, count.first, count.second, count.of)


def basis_json(report: ManyReport, pair: PairedReport, m: MetricComparison) -> dict[str, Any]:
    """Return the entries of a metric's JSON on its items, with each model's own number."""
    if m.count is None:
        return {}
    count = m.count
    own = (_own(report, m.metric, name) for name in (pair.first, pair.second))
    return {
        "items": {"both": count.both, "first": count.first, "second": count.second, "of": count.of},
        "own": {k: estimate_to_json(e) for k, e in zip(("first", "second"), own, strict=True) if e},
    }


def answered_json(report: ManyReport) -> dict[str, Any]:
    """Return the entry of the report's JSON with the items that each model answered, by metric."""
    if not report.answered:
        return {}
    return {"answered": {m: dict(zip(report.models, n, strict=True)) for m, n in report.answered.items()}}


def basis_notes(report: ManyReport) -> list[str]:
    """Return a line per pair and set of metrics with the same items; then why some are not compared."""
    return [line for pair in report.pairs for line in pair.basis_lines()]


def own_notes(report: ManyReport) -> list[str]:
    """Return a line with a model's own numbers if it answered more items than both did."""
    (pair,) = report.pairs
    both = {m.metric: m.count.both for m in pair.metrics if m.count is not None}
    found: dict[tuple[str, int], list[str]] = {}
    for metric, answered in report.answered.items():
        for model, n, value in zip(report.models, answered, report.estimates[metric], strict=True):
            if value is not None and n != both.get(metric):
                found.setdefault((one_line(model, 40), n), []).append(f"{metric} {_text(value)}")
    return [
        f"{model} on all {n:,} items that it answered: {', '.join(numbers)}"
        for (model, n), numbers in found.items()
    ]


def answered_notes(report: ManyReport) -> list[str]:
    """Return a line per model whose own numbers rest on fewer items than another's."""
    found: dict[tuple[str, int, int], list[str]] = {}
    for metric, answered in report.answered.items():
        for model, n, value in zip(report.models, answered, report.estimates[metric], strict=True):
            if value is not None and n < max(answered):
                found.setdefault((one_line(model, 40), n, max(answered)), []).append(metric)
    lines = [
        f"{model} answered {n:,} items, another model {most:,}: its {', '.join(metrics)} above rests on these"
        for (model, n, most), metrics in found.items()
    ]
    return [*lines, "Such values are not comparable: the differences are on common items."] if lines else []


def _some(report: ManyReport) -> bool:
    return any(m.count is not None for pair in report.pairs for m in pair.metrics)


def _own(report: ManyReport, metric: str, model: str) -> Estimate | None:
    return report.estimates[metric][report.models.index(model)]


def _text(estimate: Estimate) -> str:
    return digits_of_estimates([estimate]).estimate(estimate.value, estimate.ci95)


def family_words(report: ManyReport) -> str:
    """Return which tests are corrected together, in words."""
    tests = [m for _, m in by_metric(report) if m.p_holm is not None]
    n_pairs, n_models, n_metrics = len(report.pairs), len(report.models), len(report.estimates)
    pairs = "1 pair" if n_pairs == 1 else f"{n_pairs:,} pairs"
    of = f"{pairs} of {n_models} models on {n_metrics} metric{'s' if n_metrics > 1 else ''}"
    if not tests:
        return f"no test ({of}): no error is known, or no item is common to two models"
    n_named = sum(m.metric == report.headline for m in tests)
    n_further = len(tests) - n_named
    missing = n_pairs * n_metrics - len(tests)
    why = "no error is known" + ", or no item in common" * any(pair.lacking for pair in report.pairs)
    left = f"; {missing:,} without a test ({why})" if missing else ""
    if n_further == 0:
        return f"{_corrected(report.headline, n_named)} ({of}){left}"
    further = _corrected(f"the other metric{'s' if n_metrics > 2 else ''}", n_further)
    return f"{_corrected(report.headline, n_named)}; {further} ({of}){left}"


def _corrected(what: str, n_tests: int) -> str:
    """Return over how many tests a family is corrected, in words."""
    if n_tests == 0:
        return f"{what}: no test"
    if n_tests == 1:
        return f"{what}: one test, nothing to correct for"
    return f"{what}: Holm's correction at 5% over {n_tests:,} tests"


def smallest_alone(m: MetricComparison) -> float | None:
    """Return the smallest difference that a single test at 5% finds with 80% power."""
    return None if m.paired.resolution is None else m.paired.resolution.smallest()


def by_metric(report: ManyReport) -> list[tuple[PairedReport, MetricComparison]]:
    """Return every comparison, all pairs of one metric together."""
    return [
        (pair, m)
        for metric in report.estimates
        for pair in report.pairs
        for m in pair.metrics
        if m.metric == metric
    ]


def values_of(report: ManyReport) -> Table:
    """Return the numbers: a row per metric and pair of models."""
    heads = (
        *(Column(head, "text") for head in ("task", "metric", "first", "second")),
        *(Column(head) for head in ("first_value", "second_value", "difference")),
        *(Column(head, "number") for head in ("p", "p_holm")),
        Column("verdict", "text"),
        *(Column(head, "number") for head in ("shows_from", "shows_from_alone", "p_equivalence_holm")),
        *value_columns(report),
    )
    rows = [
        (
            *(report.task, m.metric, pair.first, pair.second),
            *map(cell_of, (m.first, m.second, m.paired.difference)),
            *(number(m.paired.p_value, "probability"), number(m.p_holm, "probability"), m.test.words),
            *(number(m.test.smallest()), number(smallest_alone(m))),
            number(m.test.p_equivalence_holm, "probability"),
            *value_cells(report, m),
        )
        for pair, m in by_metric(report)
    ]
    return Table(heads, tuple(rows))


def as_json_values(report: ManyReport) -> dict[str, Any]:
    """Return the report as JSON values; of two models, the values of their pair."""
    pairs = [_pair_json(report, pair) for pair in report.pairs]
    tests = {"adjustment": family_words(report), "margin": report.margin}
    if len(pairs) == 1:
        return {**pairs[0], **tests}
    return {
        "task": report.task,
        "models": list(report.models),
        **tests,
        "measure": report.measure,
        "undefined": {name: dict(why) for name, why in report.undefined.items()},
        **answered_json(report),
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
                **_verdict_json(m),
                **basis_json(report, pair, m),
            }
            for m in pair.metrics
        },
        "undefined": {name: why for name, why in undefined.items() if why},
        **({"lacking": dict(pair.lacking)} if pair.lacking else {}),
        "disagreements": [
            {"item": d.item, "first": _or_none(d.first), "second": _or_none(d.second)}
            for d in pair.disagreements
        ],
    }


def _verdict_json(m: MetricComparison) -> dict[str, Any]:
    return {
        "verdict": m.test.verdict,
        "within_margin": None if m.test.margin is None else m.test.within_margin,
        "p_equivalence": m.test.p_equivalence,
        "p_equivalence_holm": m.test.p_equivalence_holm,
        "shows_from": m.test.smallest(),
        "shows_from_alone": smallest_alone(m),
    }


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value


SHOWS = "shows from: the smallest difference that these data show with 80% power, after the correction"
_BOLD = "Bold: p (Holm) < 0.05."


def blocks_of(report: ManyReport, prompts: Mapping[str, str], n_items: int, *, terminal: bool) -> list[Block]:
    """Return the report: the differences, for three models or more as matrices too, and disagreements.

    Args:
        report: The comparison.
        prompts: Item id -> its prompt, where known.
        n_items: Number of disagreements that were asked for.
        terminal: Whether the tables must fit into a terminal.
    """
    if len(report.models) == 2:
        blocks = [_two(report, terminal)]
    else:
        blocks = [_estimates(report), *_matrices(report, terminal), _differences(report, terminal)]
    return [*blocks, *item_blocks(report, prompts, n_items)]


def undefined_lines(report: ManyReport) -> list[str]:
    """Return a line per reason why metrics have no value."""
    return no_value(
        (one_line(model, 40), {m: why[model] for m, why in report.undefined.items() if model in why})
        for model in report.models
    )


def _two(report: ManyReport, terminal: bool) -> Block:
    (pair,) = report.pairs
    bold = () if terminal else (_BOLD,)
    caption = (
        f"{pair.first} and {pair.second} on the same items of {report.task}",
        "95% intervals; the tests are paired and clustered by prompt",
    )
    notes = (
        *bold,
        *basis_notes(report),
        *own_notes(report),
        *test_notes(report),
        *undefined_lines(report),
    )
    return Block(f"compare-{report.task}", (), pair.table(report.task), notes, caption=caption)


def _estimates(report: ManyReport) -> Block:
    line = f"{one_line(report.task)}: {len(report.models)} models on the same items, 95% intervals by prompt"
    columns = (Column("model", "text", 40), *map(Column, report.estimates))
    rows = [
        (name, *(cell_of(found[n]) for found in report.estimates.values()))
        for n, name in enumerate(report.models)
    ]
    name = f"compare-{report.task}"
    return Block(
        name, (line,), Table(columns, tuple(rows)), (*answered_notes(report), *undefined_lines(report))
    )


def differences(report: ManyReport) -> Table:
    """Return the differences of every two models, all pairs of one metric together."""
    columns = (
        *(Column("metric", "text"), Column("A", "text", 30), Column("B", "text", 30)),
        Column("A - B (paired)"),
        *test_columns(items=_some(report)),
    )
    rows = [
        (
            *(m.metric, pair.first, pair.second),
            cell_of(m.paired.difference, "signed", strong=m.test.told_apart),
            *test_cells(m, items=_some(report)),
        )
        for pair, m in by_metric(report)
    ]
    return Table(columns, tuple(rows))


def test_notes(report: ManyReport) -> list[str]:
    """Return notes on the tests: their family, verdicts, and the smallest differences that the data show."""
    tests = [m.test for _, m in by_metric(report)]
    notes = [f"p (Holm), and verdicts: {family_words(report)}."]
    if any(test.verdict == "undecided" for test in tests):
        notes.append(f"Undecided is not equal. {SHOWS[0].upper()}{SHOWS[1:]}.")
    else:
        notes.append(f"{SHOWS[0].upper()}{SHOWS[1:]}.")
    if report.margin is not None:
        notes.append(
            f"Equivalent: two one-sided tests show a difference below {report.margin:g}, in the metric's own "
            "unit; a family of their own, with Holm's correction at 5%."
        )
    return notes


def shown_range(tests: Sequence[Tested]) -> str:
    """Return the smallest differences that tests can find, in words: one number or a range."""
    found = [test.smallest() for test in tests]
    known = sorted(value for value in found if value is not None)
    if not known:
        return "none that is possible"
    low, high = significant(known[0], 3), significant(known[-1], 3)
    return low + ("" if low == high else f" to {high}") + (" (some: none)" if len(known) < len(found) else "")


def _differences(report: ManyReport, terminal: bool) -> Block:
    notes = [*test_notes(report), *basis_notes(report)]
    if not terminal:
        notes.append(_BOLD)
    line = f"Differences of every two models on {one_line(report.task)}:"
    return Block(f"compare-{report.task}-pairs", (line,), differences(report), tuple(notes))


def _matrices(report: ManyReport, terminal: bool) -> list[Block]:
    """Return a matrix per metric; in a terminal only if all of them fit."""
    blocks = [_matrix(report, metric) for metric in report.estimates]
    if not terminal:
        return blocks
    need = max((len(line) for block in blocks for line in as_text([block]).splitlines()), default=0)
    if need <= (terminal_width() or 100):
        return blocks
    line = (
        f"Matrices of differences would need {need} columns here; --html, --markdown and --latex have them."
    )
    return [Block("", (line,), None)]


def matrix_cell(
    report: ManyReport, metric: str, row: int, column: int
) -> tuple[Cell, MetricComparison | None]:
    """Return the difference of two models by their places (row minus column), and its test."""
    first, second = (report.models[n] for n in sorted((row, column)))
    pairs = [p for p in report.pairs if row != column and (p.first, p.second) == (first, second)]
    m = next((m for p in pairs for m in p.metrics if m.metric == metric), None)
    if m is None:
        return None, None
    apart, sign = m.test.told_apart, 1.0 if row < column else -1.0
    mark = "*" * apart + "=" * m.test.within_margin
    difference = sign * m.paired.difference.value
    return Number(difference, form="signed", strong=apart, mark=mark), m


def matrix_notes(report: ManyReport, metric: str) -> tuple[str, ...]:
    """Return a note on cells without a mark: the smallest differences that their tests can find."""
    tests = [m.test for _, m in by_metric(report) if m.metric == metric]
    open_ = [test for test in tests if test.verdict == "undecided"]
    if not open_:
        return ()
    return (f"No mark: not told apart. Smallest difference that the data show: {shown_range(open_)}.",)


def _matrix(report: ManyReport, metric: str) -> Block:
    places = range(len(report.models))
    columns = (Column("", "text", 30), *(Column(f"({n + 1})", "number") for n in places))
    rows = [
        (f"({i + 1}) {report.models[i]}", *(matrix_cell(report, metric, i, j)[0] for j in places))
        for i in places
    ]
    equal = "; =: equivalent" if report.margin is not None else ""
    line = f"{metric}, row minus column; *: p (Holm) < 0.05{equal}:"
    return Block(
        f"compare-{report.task}-{metric}",
        (line,),
        Table(columns, tuple(rows)),
        matrix_notes(report, metric),
        caption=(f"{report.task}: {line}",),
    )


def item_blocks(report: ManyReport, prompts: Mapping[str, str], n_items: int) -> list[Block]:
    """Return the table of items on which models disagree most, or a line that they never do."""
    name = f"compare-{report.task}-items"
    if not report.disagreements:
        two = "two models" if len(report.models) == 2 else "models"
        compared = any(pair.metrics for pair in report.pairs)
        line = f"The {two} never disagree." if compared else f"The {two} share no item on which to disagree."
        return [Block(name, (line,), None)] if n_items else []
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
