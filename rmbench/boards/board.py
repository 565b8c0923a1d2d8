"""From records to rows: cells, ranks, significance groups.

Which records a board shows in a column, and which it leaves out.

What a record says beside its numbers, for show: speed, size, command. Untrusted, and checked as such.
"""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

from rmbench.boards.definition import BoardSpec, ColumnSpec
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
from rmbench.core.identity import digest
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.metrics import Suite, resolve_metric
from rmbench.results.common_items import CommonItems
from rmbench.results.record import SELF_GOLD
from rmbench.results.run import Run
from rmbench.stats import Statistic, combine
from rmbench.types import Estimate


def row_name(run: Run, runs: Sequence[Run]) -> str:
    """Return the model's name, with its fingerprint's hash where two different models share one."""
    prints = {digest(r.fingerprint, 6) for r in runs if r.model == run.model}
    if len(prints) < 2:
        return run.model
    return f"{run.model} ({digest(run.fingerprint, 6)})"


def eligible(column: ColumnSpec, runs: Sequence[Run], left_out: list[str]) -> list[tuple[Run, str]]:
    """Return the records of a column with their rows' names; why others are not there goes to `left_out`."""
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
    # The same data and seed for all: what most records have; among equals the first in sorting order.
    count = Counter((r.data, r.seed) for r in whole)
    common = min(count, key=lambda key: (-count[key], key))
    chosen: dict[str, Run] = {}
    for run in whole:
        if (run.data, run.seed) != common:
            left_out.append(f"{run.model} on {task.name} ({run.record.run_id}): other data or seed")
            continue
        chosen.setdefault(row_name(run, runs), run)
    return [(run, name) for name, run in chosen.items()]


_LEAST, _MOST = 1e-6, 1e15


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about one run that no number and no rank depends on."""

    command: str
    """What made the record, quoted for a shell; empty where it does not say."""
    tokens_per_s: float | None
    """Of the machine that made the record; None where no token was read or counted."""
    tokens: int
    """Tokens behind that speed; 0 without one."""
    machine: str
    """Its processor's kind, as far as the record says."""
    parameters: int | None
    """Of the model; None where the record does not say."""
    self_gold: bool
    """The gold was made by the model that is measured: its verdicts (`import`) or scores (`--self-gold`)."""


def facts_of(run: Run) -> Facts:
    """Return the facts of a run; what is missing or makes no sense is None or empty, never a guess."""
    found = run.record.provenance
    command = found.get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    speed = _positive(found.get("tokens_per_s"))
    tokens, parameters = _positive(found.get("tokens")), _positive(found.get("parameters"))
    machine = found.get("machine")
    return Facts(
        command=shlex.join(words),
        tokens_per_s=speed,
        tokens=int(tokens) if speed and tokens else 0,
        machine=machine if isinstance(machine, str) else "",
        parameters=int(parameters) if parameters else None,
        self_gold=SELF_GOLD in (run.fingerprint.get("gold"), (run.gold or {}).get("relation")),
    )


def _positive(value: Any) -> float | None:
    """Return a number that a speed or a count can be, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if _LEAST <= value <= _MOST else None  # NaN is neither


SHORTCUT_KIND = "baseline"
"""Fingerprint kind of the models that read no meaning: what a real one must beat."""
SHORTCUTS = ("length", "shortest", "markdown", "constant", "random")
"""Those that every board should have, by the name in the fingerprint."""
_ALONE = Standing("", leads=False)


@dataclass(frozen=True, slots=True)
class Cell:
    """One model on one column."""

    estimate: Estimate
    run_id: str
    truncated: int | None
    invalid: int
    trained_on: int
    """Prompts of the task that the model was trained on, exactly or by 13-grams, where it says."""
    facts: Facts
    group: str = ""
    """As a row's group, within the column; empty where no paired test is possible."""
    leads: bool = False
    """As a row's, within the column."""
    answered: tuple[int, int] | None = None
    """Items that the number rests on, of how many, where some are left out because of the model's rewards."""


@dataclass(frozen=True, slots=True)
class Row:
    """One model."""

    model: str
    shortcut: bool
    cells: Mapping[str, Cell]
    """Column id -> cell; absent where the model has no record, or no value."""
    undefined: Mapping[str, str]
    """Column id -> why there is no value, where there is a record."""
    score: Estimate | None
    """Unweighted mean of the ranking columns; None if one is missing."""
    rank: int | None
    rank_range: tuple[int, int] | None
    """Best and worst rank that the tests allow."""
    group: str
    """Letters: two models share one exactly if the tests do not separate them."""
    leads: bool = False
    """Whether the tests do not tell it from the best, but tell another one."""
    partial: bool = False
    """Whether its score rests on fewer items than the task has, because of its own rewards."""
    better_below: tuple[str, ...] = ()
    """Models with a lower score that the tests find better on the items that both answered."""

    @property
    def contaminated(self) -> bool:
        """Whether a number of it rests on prompts it was trained on, or on gold of its own."""
        return any(cell.trained_on or cell.facts.self_gold for cell in self.cells.values())


@dataclass(frozen=True, slots=True)
class Board:
    """A leaderboard, ready to be rendered."""

    spec: BoardSpec
    rows: tuple[Row, ...]
    metrics: Mapping[str, str]
    """Column id -> the metric it shows (`win_rate@24` for `win_rate@max`)."""
    kinds: Mapping[str, str]
    """Column id -> the task kind that gives its metric."""
    sizes: Mapping[str, tuple[int, int]]
    """Column id -> observations and prompts behind a cell."""
    left_out: tuple[str, ...]
    """Records of the board's tasks that are not on it, and why."""
    undefined: tuple[str, ...]
    """Cells that have a record but no value, and why."""
    missing_shortcuts: tuple[str, ...]
    """Shortcut models that have no rank on it."""
    untested: tuple[str, ...] = ()
    """Pairs of models without a test of the score, as there is no number on common items."""
    families: Mapping[str, Family] = field(default_factory=dict)
    """`score`, or a column's id -> the tests behind its ranks or letters; absent where none is possible."""


@dataclass(frozen=True, slots=True)
class _Measured:
    cell: Cell
    statistic: Statistic
    metric: str
    source: Run

    @property
    def clusters(self) -> tuple[str, ...]:
        return self.source.suite.clusters


def make_board(spec: BoardSpec, runs: Sequence[Run]) -> Board:
    """Return the board of `runs`: depends on the definition, the task files and the records alone.

    A record counts if it is of the column's task with exactly its parameters, complete (no `--limit`), and
    on the same data and seed as the others. Ranking: the mean of the `rank_by` columns; all pairs of models
    are compared on the same prompts, with Holm's correction.

    Raises:
        ConfigError: If a column's metric does not exist, or `rank_by` mixes directions.
        StoreError: If the rewards of a record are missing or damaged.
    """
    left_out: list[str] = []
    table: dict[str, dict[str, _Measured]] = {}
    reasons: dict[str, dict[str, str]] = {}
    undefined: list[str] = []
    kinds: dict[str, str] = {}
    for column in spec.columns:
        known: set[str] = set()
        shown = eligible(column, runs, left_out)
        for run, name in shown:
            cells = table.setdefault(name, {})
            measured = _measure(column, run)
            suite = run.suite
            known |= suite.metrics.keys()
            if isinstance(measured, str):
                undefined.append(f"{name}, {column.label}: {measured}")
                reasons.setdefault(name, {})[column.id] = measured
            else:
                cells[column.id] = measured
                kinds[column.id] = suite.kind_of.get(measured.metric, column.task.kinds[0])
        if shown and not any(column.id in cells for cells in table.values()):
            _check_name(spec, column, known, [run.suite for run, _ in shown])
    models = sorted(table)
    prints = {row_name(r, runs): r.fingerprint for r in runs}
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
    return Board(
        spec,
        tuple(rows),
        metrics,
        {c.id: kinds.get(c.id, c.task.kinds[0]) for c in spec.columns},
        sizes,
        tuple(sorted(set(left_out))),
        tuple(undefined),
        tuple(name for name in SHORTCUTS if name not in there),
        tuple(f"{ranked[i]} and {ranked[j]}" for (i, j), pair in on_common.items() if pair is None),
        families_of([totals[m] for m in ranked], within.cells, on_common, within.pairs),
    )


def require_rows(board: Board) -> None:
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


def _rows(
    spec: BoardSpec,
    table: Mapping[str, Mapping[str, _Measured]],
    totals: Mapping[str, Statistic],
    ranked: Sequence[str],
    on_common: Pairs,
    shortcuts: set[str],
    reasons: Mapping[str, Mapping[str, str]],
    within: Mapping[tuple[str, str], Standing],
) -> list[Row]:
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
            Row(
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
    """Return one cell, or why it has no value."""
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
    trained_on = sum((counts.get("trained_on") or {}).values())
    cell = Cell(
        statistic.estimate(),
        run.record.run_id,
        counts["truncated"],
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
