"""Leaderboards: rows, ranks and groups from records.

A record stands in a column if it is of the column's task, whole, and on the same data as the others.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from pathlib import Path

from rmbench.boards.definition import BoardSpec, ColumnSpec
from rmbench.boards.names import under_one_name
from rmbench.boards.separation import (
    Columns,
    Family,
    Pairs,
    Standing,
    better_of,
    families_of,
    on_names,
    pairs_on_common,
    ranges_of,
    separated,
    standings,
)
from rmbench.core.digits import Digits, digits_of_estimates
from rmbench.core.files import read_json, write_atomic
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.format.tables import as_html, no_value
from rmbench.metrics import Suite, resolve_metric
from rmbench.results.compare import CommonItems, check_same_prompts
from rmbench.results.run import Facts, Run, facts_of, shown_name
from rmbench.stats import Statistic, combine
from rmbench.types import Estimate


def eligible(column: ColumnSpec, runs: Sequence[Run], left_out: list[str]) -> list[tuple[Run, str]]:
    """Return the records of a column with the names of their rows; reasons for others go to `left_out`."""
    task = column.task
    of_task = [r for r in runs if r.task == task.name]
    whole = []
    for run in of_task:
        why = None
        if run.task_digest != task.digest():
            why = "another version or other parameters"
        elif run.limit is not None:
            why = f"--limit {run.limit}"
        elif run.gold is not None:
            why = f"--gold {run.gold['spec']}"
        if why is None:
            whole.append(run)
        else:
            left_out.append(f"{run.model} on {task.name} ({run.record.run_id}): {why}")
    if not whole:
        return []
    # All must have the same data and seed: those of most records, the first in sorting order on a tie.
    count = Counter((r.data, r.seed) for r in whole)
    common = min(count, key=lambda key: (-count[key], key))
    chosen: dict[str, Run] = {}
    for run in whole:
        if (run.data, run.seed) != common:
            left_out.append(f"{run.model} on {task.name} ({run.record.run_id}): other data or seed")
            continue
        chosen.setdefault(shown_name(run, runs), run)
    return [(run, name) for name, run in chosen.items()]


ENDS = ("md", "csv", "tex", "json", "html")
"""Endings of a board's files."""
SHORTCUT_KIND = "baseline"
"""Fingerprint kind of shortcuts, which read no meaning: a reward model must beat them."""
SHORTCUTS = ("length", "shortest", "markdown", "constant", "random")
"""Shortcuts that every board should have, by the name in the fingerprint."""
FEWER = "\u2021"
"""Marks a number that rests on fewer items than its task has, because of the model's own rewards."""
_ALONE = Standing("", leads=False)


@dataclass(frozen=True, slots=True)
class BoardCell:
    """One model on one column."""

    estimate: Estimate
    run_id: str
    truncated: int | None
    invalid: int
    trained_on: int | None
    """Prompts of the task that the model was trained on, exactly or by 13-grams; None if unknown."""
    facts: Facts
    group: str = ""
    """Group within the column; empty without a paired test."""
    leads: bool = False
    """Whether it leads the column, as a row leads the board."""
    answered: tuple[int, int] | None = None
    """(items that the number rests on, items in all) if the model's own rewards left some out."""

    @property
    def contaminated(self) -> bool:
        """Whether the number rests on prompts that the model was trained on, or on gold of its own."""
        return bool(self.trained_on or self.facts.self_gold)


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One model."""

    model: str
    shortcut: bool
    cells: Mapping[str, BoardCell]
    """Column id -> cell; absent without a record or a value."""
    undefined: Mapping[str, str]
    """Column id -> why a record has no value."""
    score: Estimate | None
    """Unweighted mean of the ranking columns; None if one is missing."""
    rank: int | None
    rank_range: tuple[int, int] | None
    """Best and worst rank that the tests allow."""
    group: str
    """Letters; two models share one exactly if the tests do not separate them."""
    leads: bool = False
    """Whether the tests do not separate it from the best model, but separate another one."""
    partial: bool = False
    """Whether its score rests on fewer items than the task has, because of its own rewards."""
    better_below: tuple[str, ...] = ()
    """Models with a lower score that the tests find better on the items that both answered."""

    @property
    def contaminated(self) -> bool:
        """Whether one of its numbers is contaminated."""
        return any(cell.contaminated for cell in self.cells.values())

    @property
    def untrained(self) -> bool:
        """Whether it is a control whose head was never trained."""
        return any(cell.facts.untrained for cell in self.cells.values())

    @property
    def ranks(self) -> str:
        """The ranks that the tests allow, such as `2–4`; a dash without any."""
        return "–" if self.rank_range is None else "–".join(map(str, dict.fromkeys(self.rank_range)))


@dataclass(frozen=True, slots=True)
class Leaderboard:
    """A leaderboard, in the formats that `rmbench leaderboard` writes."""

    spec: BoardSpec
    rows: tuple[BoardRow, ...]
    metrics: Mapping[str, str]
    """Column id -> the metric it shows (`win_rate@24` for `win_rate@max`)."""
    kinds: Mapping[str, str]
    """Column id -> the task kind that gives its metric."""
    sizes: Mapping[str, tuple[int, int]]
    """Column id -> observations and prompts behind a cell."""
    left_out: tuple[str, ...]
    """Records of the board's tasks that are not on it, and why."""
    missing_shortcuts: tuple[str, ...]
    """Shortcut models that have no rank on it."""
    untested: tuple[str, ...] = ()
    """Pairs of models without a test of the score, as there is no number on common items."""
    families: Mapping[str, Family] = field(default_factory=dict)
    """`score`, or a column's id -> the tests behind its ranks or letters; absent if untested."""

    @property
    def undefined(self) -> list[str]:
        """Numbers without a value although there is a record: a line per reason."""
        labels = {column.id: column.label for column in self.spec.columns}
        return no_value((r.model, {labels[c]: why for c, why in r.undefined.items()}) for r in self.rows)

    @property
    def beside_score(self) -> tuple[ColumnSpec, ...]:
        """Columns that a table shows besides the score: without the one that alone ranks the models."""
        alone = self.spec.rank_by if len(self.spec.rank_by) == 1 else ()
        return tuple(c for c in self.spec.columns if c.id not in alone)

    @property
    def score_label(self) -> str:
        """Heading of the score: the label of the column that alone ranks the models, else `score`."""
        alone = [c.label for c in self.spec.columns if self.spec.rank_by == (c.id,)]
        return alone[0] if alone else "score"

    def estimates(self, name: str) -> list[Estimate]:
        """Return the numbers of a column, or the scores (`score`)."""
        if name == "score":
            return [row.score for row in self.rows if row.score]
        return [row.cells[name].estimate for row in self.rows if name in row.cells]

    def digits(self, name: str) -> Digits:
        """Return how the numbers of a column, or the scores, are written."""
        return digits_of_estimates(self.estimates(name))

    def shows(self, name: str) -> str:
        """Return the smallest difference that the tests of a column, or of the score, show."""
        family = self.families.get(name)
        if family is None:
            return "–"
        return "none" if family.smallest is None else self.digits(name).write(family.smallest)

    def tests(self, name: str) -> str:
        """Return the tests of a column, or of the score, in words; empty without tests."""
        family = self.families.get(name)
        if family is None:
            return ""
        could = "it could show no difference" if family.smallest is None else f"shows from {self.shows(name)}"
        return f"{family.words('the score' if name == 'score' else 'it')}, {could}"

    def to_markdown(self) -> str:
        """Return the board as `rmbench leaderboard` writes and prints it."""
        return self._file("md")

    def to_csv(self) -> str:
        """Return the board as CSV, with columns for the ends of intervals."""
        return self._file("csv")

    def to_latex(self) -> str:
        """Return the board's table for a paper (package booktabs), with caption and label."""
        return self._file("tex")

    def to_html(self) -> str:
        """Return the board as a page: one file that opens from disk and asks no network."""
        return self._file("html")

    def save(self, folder: Path | str) -> None:
        """Write the board into `folder` in all its formats.

        Raises:
            ConfigError: If it is empty, and a board with models is there.
        """
        from rmbench.boards.render import render_board

        require_none_emptied([self], Path(folder))
        for name, content in render_board(self).items():
            write_atomic(Path(folder) / name, content)

    def _repr_html_(self) -> str:
        """Return the table as notebooks show it; `to_html` is the whole page."""
        from rmbench.boards.render import notebook_block

        return as_html([notebook_block(self)])

    def __str__(self) -> str:
        return self.to_markdown()

    def _file(self, suffix: str) -> str:
        from rmbench.boards.render import render_board

        return render_board(self)[f"{self.spec.name}.{suffix}"]


@dataclass(frozen=True, slots=True)
class _Measured:
    cell: BoardCell
    statistic: Statistic
    metric: str
    source: Run

    @property
    def clusters(self) -> tuple[str, ...]:
        return self.source.suite.clusters


def make_board(spec: BoardSpec, runs: Sequence[Run]) -> Leaderboard:
    """Return the board of `runs`: depends on the definition, the task files and the records alone.

    A record counts if it is of the column's task with exactly its parameters, complete (no `--limit`), and
    on the same data and seed as the others. A model with two names stands under its newest one. Ranking: the
    mean of the `rank_by` columns; all pairs of models are compared on the same prompts, with Holm's
    correction.

    Raises:
        ConfigError: If a column's metric does not exist, or `rank_by` mixes directions.
        StoreError: If the rewards of a record are missing or damaged.
    """
    left_out: list[str] = []
    runs = under_one_name(runs, left_out)
    table: dict[str, dict[str, _Measured]] = {}
    reasons: dict[str, dict[str, str]] = {}
    kinds: dict[str, str] = {}
    for column in spec.columns:
        known: set[str] = set()
        shown = eligible(column, runs, left_out)
        for run, name in shown:
            check_same_prompts(shown[0][0], run)
            cells = table.setdefault(name, {})
            measured = _measure(column, run)
            suite = run.suite
            known |= suite.metrics.keys()
            if isinstance(measured, str):
                reasons.setdefault(name, {})[column.id] = measured
            else:
                cells[column.id] = measured
                kinds[column.id] = suite.kind_of.get(measured.metric, column.task.kinds[0])
        if shown and not any(column.id in cells for cells in table.values()):
            _check_name(spec, column, known, [run.suite for run, _ in shown])
    models = sorted(table)
    prints = {shown_name(r, runs): r.fingerprint for r in runs}
    shortcuts = {m: p.get("name", "") for m, p in prints.items() if p.get("kind") == SHORTCUT_KIND}
    totals = {m: _total(spec, table[m]) for m in models if all(c in table[m] for c in spec.rank_by)}
    common = CommonItems()
    ranked = sorted(totals, key=lambda m: (-totals[m].value, m))
    ranking = [c for c in spec.columns if c.id in spec.rank_by]
    on_common = pairs_on_common(ranked, table, ranking, common)
    within = Columns(spec.columns, table, common)
    rows = _rows(spec, table, totals, ranked, on_common, set(shortcuts), reasons, within.standings())
    metrics, sizes = {}, {}
    for column in spec.columns:
        filled = [table[m][column.id] for m in models if column.id in table[m]]
        whole = [f for f in filled if f.cell.answered is None] or filled
        first = whole[0].cell.estimate if whole else None
        metrics[column.id] = whole[0].metric if whole else column.metric
        sizes[column.id] = (first.n, first.n_clusters) if first else (0, 0)
    there = {shortcuts.get(m) for m in totals}
    return Leaderboard(
        spec,
        tuple(rows),
        metrics,
        {c.id: kinds.get(c.id, c.task.kinds[0]) for c in spec.columns},
        sizes,
        tuple(sorted(set(left_out))),
        tuple(name for name in SHORTCUTS if name not in there),
        tuple(f"{ranked[i]} and {ranked[j]}" for (i, j), pair in on_common.items() if pair is None),
        families_of([totals[m] for m in ranked], within.cells, on_common, within.pairs),
    )


def require_rows(board: Leaderboard) -> None:
    """Raise ConfigError, with the tasks and the records that were left out, if no model is on the board."""
    if board.rows:
        return
    tasks = ", ".join(dict.fromkeys(column.task.name for column in board.spec.columns))
    other = len(board.left_out) - 1
    more = f" and {other} more" if other > 0 else ""
    why = f" Left out: {board.left_out[0]}{more}." if board.left_out else ""
    raise ConfigError(
        f"board {board.spec.name!r}: no record is whole and of its tasks ({tasks}).{why}"
        f" Run `rmbench eval --model MODEL --task {board.spec.columns[0].task.name}` first"
    )


def require_none_emptied(boards: Iterable[Leaderboard], folder: Path) -> None:
    """Raise ConfigError if a board without a model would replace one in `folder` that may have some."""
    for board in boards:
        name = board.spec.name
        there = [path for end in ENDS if (path := folder / f"{name}.{end}").exists()]
        if board.rows or not there or _is_empty(folder / f"{name}.json"):
            continue
        raise ConfigError(
            f"board {name!r}: no record is whole and of its tasks, but {there[0]} has models;"
            f" give the --results that hold its records, or remove {folder / name}.*"
        )


def _is_empty(path: Path) -> bool:
    """Say whether a board's JSON file says that it has no model."""
    try:
        return bool(read_json(path)["rows"] == [])
    except (ConfigError, KeyError, TypeError):
        return False


def _rows(
    spec: BoardSpec,
    table: Mapping[str, Mapping[str, _Measured]],
    totals: Mapping[str, Statistic],
    ranked: Sequence[str],
    on_common: Pairs,
    shortcuts: set[str],
    reasons: Mapping[str, Mapping[str, str]],
    within: Mapping[tuple[str, str], Standing],
) -> list[BoardRow]:
    """Return the rows, ranked ones first. `within`: (model, column id) -> the cell's standing."""
    different = separated([totals[m] for m in ranked], on_common)
    better = better_of(different, on_common)
    standing, ranges = (standings(different, better), ranges_of(better)) if ranked else ([], [])
    rows = []
    for m in [*ranked, *sorted(table.keys() - totals.keys())]:
        place = ranked.index(m) if m in totals else None
        cells = {
            c: replace(measured.cell, group=own.letters, leads=own.leads)
            for c, measured in table[m].items()
            for own in [within.get((m, c), _ALONE)]
        }
        rows.append(
            BoardRow(
                model=m,
                shortcut=m in shortcuts,
                cells=cells,
                undefined=reasons.get(m, {}),
                score=totals[m].estimate() if m in totals else None,
                rank=None if place is None else 1 + sum(totals[o].value > totals[m].value for o in ranked),
                rank_range=None if place is None else ranges[place],
                group="" if place is None else standing[place].letters,
                leads=place is not None and standing[place].leads,
                partial=place is not None and any(cells[c].answered for c in spec.rank_by),
                better_below=()
                if place is None
                else tuple(o for j, o in enumerate(ranked) if j > place and better[j, place]),
            )
        )
    return rows


def _measure(column: ColumnSpec, run: Run) -> _Measured | str:
    """Return one cell, or the reason why it has no value."""
    suite = run.suite
    try:
        name = resolve_metric(column.metric, suite.metrics)
    except UnknownNameError:
        return suite.undefined.get(column.metric, "no such metric in its record")
    statistic = suite.metrics[name]
    if not isfinite(statistic.value):  # rewards near the largest float
        return suite.undefined.setdefault(column.metric, f"it is {statistic.value}, no finite number")
    counts = run.record.counts
    answered, n_items = run.n_answered(name), suite.n_items
    trained_on = None if (seen := counts.get("trained_on")) is None else sum(seen.values())
    cell = BoardCell(
        statistic.estimate(),
        run.record.run_id,
        counts.get("truncated"),
        counts["invalid"],
        trained_on,
        facts_of(run),
        answered=(answered, n_items) if answered < n_items else None,
    )
    return _Measured(cell, statistic, name, run)


def _check_name(spec: BoardSpec, column: ColumnSpec, known: set[str], suites: Sequence[Suite]) -> None:
    """Raise unless a column that is empty for every model names a metric that could have had a value."""
    if not any(column.metric in suite.undefined for suite in suites):
        where = f"{spec.path}, column {column.id!r}"
        raise UnknownNameError("metric", column.metric, sorted(known), where)


def _total(spec: BoardSpec, cells: Mapping[str, _Measured]) -> Statistic:
    """Return the mean of the ranking columns. Prompts that two tasks share are one cluster, by name."""
    chosen = [cells[c] for c in spec.rank_by]
    for found in chosen:
        if found.statistic.influence is None or not found.statistic.higher_is_better:
            raise ConfigError(
                f"{spec.path}, key 'rank_by': {found.metric} cannot rank; expected a higher-is-better mean"
            )
    names = sorted({name for found in chosen for name in found.clusters})
    parts = [on_names(found.statistic, found.clusters, names) for found in chosen]
    # Two columns of one record count its items once.
    items = {found.cell.run_id: found.statistic.n for found in chosen}
    return combine(parts, n=sum(items.values()))
