"""What `rmbench compare` prints."""

import shutil
from collections.abc import Mapping, Sequence

from rmbench.cli import compare_basis as basis
from rmbench.cli.compare_items import item_blocks
from rmbench.cli.compare_values import by_metric, family_words, p_cell, smallest_cell
from rmbench.comparison import ManyReport, MetricComparison
from rmbench.digits import significant
from rmbench.escape import one_line
from rmbench.stats import Tested
from rmbench.tabular import Block, Cell, Column, Number, Table, as_text, cell_of

SHOWS = "shows from: the smallest difference that these data show with 80% power, after the correction"
_BOLD = "Bold: p (Holm) < 0.05."
_TEST_COLUMNS = (
    *(Column("p", "number"), Column("p (Holm)", "number")),
    *(Column("verdict", "text"), Column("shows from", "number")),
)


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
    return [*blocks, *item_blocks(report, prompts, n_items)]


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


def _test_cells(m: MetricComparison) -> tuple[Cell, ...]:
    smallest = smallest_cell(m.test.smallest())
    return p_cell(m.paired.p_value), p_cell(m.p_holm), m.test.words, smallest


def _two(report: ManyReport, terminal: bool) -> Block:
    (pair,) = report.pairs
    columns = (
        Column(report.task, "text"),
        Column(pair.first, limit=30),
        Column(pair.second, limit=30),
        Column("difference (paired)"),
        *_TEST_COLUMNS,
        *basis.columns(report),
    )
    rows = [
        (
            m.metric,
            *map(cell_of, (m.first, m.second)),
            cell_of(m.paired.difference, strong=m.test.told_apart),
            *_test_cells(m),
            *basis.cells(report, m),
        )
        for m in pair.metrics
    ]
    bold = () if terminal else (_BOLD,)
    caption = (
        f"{pair.first} and {pair.second} on the same items of {report.task}",
        "95% intervals; the tests are paired and clustered by prompt",
    )
    notes = (
        *bold,
        *basis.notes(report),
        *basis.own_notes(report),
        *test_notes(report),
        *undefined_lines(report),
    )
    return Block(f"compare-{report.task}", (), Table(columns, tuple(rows)), notes, caption=caption)


def _estimates(report: ManyReport) -> Block:
    line = f"{one_line(report.task)}: {len(report.models)} models on the same items, 95% intervals by prompt"
    columns = (Column("model", "text", 40), *map(Column, report.estimates))
    rows = [
        (name, *(cell_of(found[n]) for found in report.estimates.values()))
        for n, name in enumerate(report.models)
    ]
    name = f"compare-{report.task}"
    return Block(
        name, (line,), Table(columns, tuple(rows)), (*basis.answered_notes(report), *undefined_lines(report))
    )


def differences(report: ManyReport) -> Table:
    """Return the differences of every two models, all pairs of one metric together."""
    columns = (
        *(Column("metric", "text"), Column("A", "text", 30), Column("B", "text", 30)),
        Column("A - B (paired)"),
        *_TEST_COLUMNS,
        *basis.columns(report),
    )
    rows = [
        (
            *(m.metric, pair.first, pair.second),
            cell_of(m.paired.difference, "signed", strong=m.test.told_apart),
            *_test_cells(m),
            *basis.cells(report, m),
        )
        for pair, m in by_metric(report)
    ]
    return Table(columns, tuple(rows))


def test_notes(report: ManyReport) -> list[str]:
    """Return what is to be said of the tests: their family, verdicts, and what the data could have shown."""
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
    """Return the smallest difference that tests would have found: one number, or the range of several."""
    found = [test.smallest() for test in tests]
    known = sorted(value for value in found if value is not None)
    if not known:
        return "none that is possible"
    low, high = significant(known[0], 3), significant(known[-1], 3)
    return low + ("" if low == high else f" to {high}") + (" (some: none)" if len(known) < len(found) else "")


def _differences(report: ManyReport, terminal: bool) -> Block:
    notes = [*test_notes(report), *basis.notes(report)]
    if not terminal:
        notes.append(_BOLD)
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
    apart, sign = m.test.told_apart, 1.0 if row < column else -1.0
    mark = "*" * apart + "=" * m.test.within_margin
    difference = sign * m.paired.difference.value
    return Number(difference, form="signed", strong=apart, mark=mark), m


def matrix_notes(report: ManyReport, metric: str) -> tuple[str, ...]:
    """Return what cells without a mark could have shown; nothing where each has one."""
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
