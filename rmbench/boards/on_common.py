"""Pairs of a board's models that left out different items: their numbers on the items that both answered."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import combinations
from math import isfinite
from typing import Protocol

from rmbench.boards.definition import ColumnSpec
from rmbench.boards.separation import Pairs, Standing, column_standings, on_names
from rmbench.common_items import CommonItems, MeasuredRun
from rmbench.stats import Statistic, combine


class Number(Protocol):
    """A model's number in one column."""

    @property
    def statistic(self) -> Statistic:
        """The number on the items that the model answered."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Names of its clusters."""

    @property
    def source(self) -> MeasuredRun:
        """The record that it is from."""


class Columns:
    """Tests within the columns of a board, on common items where models left some out."""

    def __init__(
        self, columns: Sequence[ColumnSpec], table: Mapping[str, Mapping[str, Number]], common: CommonItems
    ) -> None:
        self._specs = {column.id: column for column in columns}
        self._table, self._common = table, common
        self.cells = {c: {m: _plain(own[c]) for m, own in table.items() if c in own} for c in self._specs}
        """Column id -> model -> its number, and the names of its clusters."""

    def pairs(self, column: str, order: Sequence[str]) -> Pairs:
        """Return the pairs of models, in their order, whose test in a column is on common items."""
        return pairs_on_common(order, self._table, [self._specs[column]], self._common)

    def standings(self) -> dict[tuple[str, str], Standing]:
        """Return (model, column id) -> its standing in the column."""
        found: dict[tuple[str, str], Standing] = {}
        for column, cells in self.cells.items():
            here = column_standings(cells, partial(self.pairs, column))
            found |= {(m, column): standing for m, standing in here.items()}
        return found


def _plain(number: Number) -> tuple[Statistic, tuple[str, ...]]:
    return number.statistic, number.clusters


def pairs_on_common(
    order: Sequence[str],
    table: Mapping[str, Mapping[str, Number]],
    columns: Sequence[ColumnSpec],
    common: CommonItems,
) -> Pairs:
    """Return the numbers of every two models, of which one left items out, on the items that both answered.

    Args:
        order: Models.
        table: Model -> column id -> its number.
        columns: Of several the mean is compared, each on its common items.
        common: Measures on common items.

    Returns:
        Places of two models in `order`, the first one's first -> both numbers; None where a column has none.
    """
    runs = [[table[m][c.id].source for c in columns] for m in order]
    some = [any(r.leaves_out(c.metric) for r, c in zip(own, columns, strict=True)) for own in runs]
    return {
        (i, j): _on_common(runs[i], runs[j], columns, common)
        for i, j in combinations(range(len(order)), 2)
        if some[i] or some[j]
    }


def _on_common(
    a: Sequence[MeasuredRun], b: Sequence[MeasuredRun], columns: Sequence[ColumnSpec], common: CommonItems
) -> tuple[Statistic, Statistic] | None:
    names = sorted({name for run in (*a, *b) for name in run.panel.cluster_names})
    first: list[Statistic] = []
    second: list[Statistic] = []
    for run, other, column in zip(a, b, columns, strict=True):
        both = common.of(run, other, column.metric)
        for number, own, into in ((both.first, run, first), (both.second, other, second)):
            if number is None or not isfinite(number.value):
                return None
            into.append(on_names(number, own.panel.cluster_names, names))
    return (first[0], second[0]) if len(columns) == 1 else (combine(first), combine(second))
