"""Paired tests between the models of a board: groups, ranks and the smallest difference that is shown.

The tests of the score are one family, and those of each column another. Two models that left out different
items are compared on the items that both answered.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations, pairwise
from math import inf, isfinite
from typing import Protocol, TypeAlias

import numpy as np

from rmbench.boards.definition import ColumnSpec
from rmbench.results.compare import CommonItems
from rmbench.results.run import Run
from rmbench.stats import Statistic, combine, compare, difference, groups, holm, on_clusters
from rmbench.stats.compare import p_of
from rmbench.stats.power import ALPHA

MOST_IN_COLUMNS = 100
"""Models up to which each column of a board has groups too: K models take K (K - 1) / 2 tests a column."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands among those it was compared with."""

    letters: str
    """Two models share one exactly if the tests do not tell them apart; `a` for the best."""
    leads: bool
    """Whether it is not told apart from the best, while another model is."""


Pairs: TypeAlias = Mapping[tuple[int, int], tuple[Statistic, Statistic] | None]
"""Places of two models, the lower first -> the numbers that their test is of, in place of their own; None for
no test."""


def standings(different: np.ndarray, better: np.ndarray | None = None) -> list[Standing]:
    """Return the standing of each model. The best is the first one that no test finds worse than another.

    Args:
        different: Symmetric boolean matrix (k, k), the best number first: which the tests tell apart.
        better: As from `better_of`; None: of two that are told apart the first one is better.
    """
    best = 0 if better is None or len(better) == 0 else int(np.argmin(better.any(axis=0)))
    some = bool(different[best : best + 1].any())
    return [Standing(letters, some and not different[best, n]) for n, letters in enumerate(groups(different))]


def better_of(different: np.ndarray, on_common: Pairs, *, higher: bool = True) -> np.ndarray:
    """Return which models the tests find better than which, boolean (k, k): the row better than the column.

    Args:
        different: As from `separated`, the best number first.
        on_common: Pairs whose test is of other numbers than the order is by: these say which is better.
        higher: Whether higher numbers are better.
    """
    better = np.triu(different)
    for (i, j), pair in on_common.items():
        if pair is not None and different[i, j]:
            better[i, j] = (pair[0].value > pair[1].value) == higher
            better[j, i] = not better[i, j]
    return better


def ranges_of(better: np.ndarray) -> list[tuple[int, int]]:
    """Return the best and the worst rank of each model that the tests allow, by who is better than whom."""
    k = len(better)
    return [(1 + int(better[:, i].sum()), k - int(better[i].sum())) for i in range(k)]


def on_names(statistic: Statistic, own: Sequence[str], names: Sequence[str]) -> Statistic:
    """Return the statistic over the clusters `names`, which hold all of its `own`."""
    place = {name: i for i, name in enumerate(names)}
    return on_clusters(statistic, np.array([place[n] for n in own], dtype=np.int64), len(names))


def separated(totals: Sequence[Statistic], on_common: Pairs | None = None) -> np.ndarray:
    """Return which pairs the paired tests tell apart at 5% after Holm's correction, shape (k, k).

    Args:
        totals: The models' numbers, the best first.
        on_common: Pairs whose test is of other numbers.
    """
    k = len(totals)
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    own = {(i, j): (totals[i], totals[j]) for i, j in pairs}
    tested = {**own, **(on_common or {})}
    p_values = [None if (pair := tested[place]) is None else p_of(difference(*pair)) for place in pairs]
    adjusted = holm([1.0 if p is None else p for p in p_values])
    different = np.zeros((k, k), dtype=bool)
    for (i, j), p in zip(pairs, adjusted, strict=True):
        different[i, j] = different[j, i] = p < ALPHA
    return different


def column_standings(
    cells: Mapping[str, tuple[Statistic, Sequence[str]]],
    on_common: Callable[[Sequence[str]], Pairs] | None = None,
) -> dict[str, Standing]:
    """Return model -> its standing within one column; empty where no paired test is possible.

    Args:
        cells: Model -> its number in the column, and the names of its clusters.
        on_common: The models in their order -> pairs whose test is of other numbers.
    """
    ranked = ranked_cells(cells)
    if not ranked:
        return {}
    pairs = on_common(list(ranked)) if on_common else {}
    different = separated(list(ranked.values()), pairs)
    higher = bool(next(iter(ranked.values())).higher_is_better)
    return dict(zip(ranked, standings(different, better_of(different, pairs, higher=higher)), strict=True))


def ranked_cells(cells: Mapping[str, tuple[Statistic, Sequence[str]]]) -> dict[str, Statistic]:
    """Return the column's statistics on the same clusters, the best first; empty where none can be tested."""
    first = next((statistic for statistic, _ in cells.values()), None)
    if first is None or first.higher_is_better is None or len(cells) > MOST_IN_COLUMNS:
        return {}
    # An influence on a logarithm is not an influence on a difference.
    if any(s.influence is None or s.log_scale for s, _ in cells.values()):
        return {}
    sign = -1.0 if first.higher_is_better else 1.0
    order = sorted(cells, key=lambda model: (sign * cells[model][0].value, model))
    names = sorted({name for _, own in cells.values() for name in own})
    return {model: on_names(*cells[model], names) for model in order}


SHOWS = (
    "Shows from: the smallest difference that the tests of a family show with 80% power after the "
    "correction, the median over neighbours in rank. Models that are not told apart may differ by less."
)
"""Explanation of `Family.smallest` for readers."""


@dataclass(frozen=True, slots=True)
class Family:
    """The tests that are corrected together: every two models on one number."""

    n_models: int
    n_tests: int
    smallest: float | None
    """Smallest difference of neighbours in rank that the tests show with 80% power, the median over them, at
    5% over the number of tests; None where most could show none."""

    def words(self, of: str) -> str:
        """Return the family in words, `of` being the number that it is on."""
        pairs = "1 pair" if self.n_tests == 1 else f"{self.n_tests:,} pairs"
        return f"{pairs} of {self.n_models:,} models on {of}, Holm at 5%"


def family_of(ranked: Sequence[Statistic], on_common: Pairs | None = None) -> Family | None:
    """Return the family of the tests of every two of `ranked`, the best first; None below two.

    Args:
        ranked: The models' numbers.
        on_common: Pairs whose test is of other numbers, as in `separated`.
    """
    k = len(ranked)
    if k < 2:
        return None
    n_tests = k * (k - 1) // 2
    neighbours = {(i, i + 1): pair for i, pair in enumerate(pairwise(ranked))}
    tested = [(on_common or {}).get(place, pair) for place, pair in neighbours.items()]
    found = [None if pair is None else compare(*pair).resolution for pair in tested]
    shown = [None if r is None else r.smallest(ALPHA / n_tests) for r in found]
    # Those that show no difference at all come last; the median of an even number is the larger one.
    ordered = sorted(shown, key=lambda value: inf if value is None else value)
    return Family(k, n_tests, ordered[len(ordered) // 2])


def families_of(
    ranked: Sequence[Statistic],
    columns: Mapping[str, Mapping[str, tuple[Statistic, Sequence[str]]]],
    on_common: Pairs,
    in_column: Callable[[str, Sequence[str]], Pairs],
) -> dict[str, Family]:
    """Return `score`, or a column's id -> the family of its tests, where there is one.

    Args:
        ranked: The scores of the ranked models, the best first, on the same clusters.
        columns: Column id -> model -> its number in the column, and the names of its clusters.
        on_common: Pairs of `ranked` whose test is of other numbers.
        in_column: The same of a column's models in their order.
    """
    found = {"score": family_of(ranked, on_common)}
    for name, cells in columns.items():
        here = ranked_cells(cells)
        found[name] = family_of(list(here.values()), in_column(name, list(here)))
    return {name: family for name, family in found.items() if family is not None}


class Number(Protocol):
    """A model's number in one column."""

    @property
    def statistic(self) -> Statistic:
        """The number on the items that the model answered."""

    @property
    def clusters(self) -> tuple[str, ...]:
        """Names of its clusters."""

    @property
    def source(self) -> Run:
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
    a: Sequence[Run], b: Sequence[Run], columns: Sequence[ColumnSpec], common: CommonItems
) -> tuple[Statistic, Statistic] | None:
    names = sorted({name for run in (*a, *b) for name in run.suite.clusters})
    first: list[Statistic] = []
    second: list[Statistic] = []
    for run, other, column in zip(a, b, columns, strict=True):
        both = common.of(run, other, column.metric)
        for number, own, into in ((both.first, run, first), (both.second, other, second)):
            if number is None or not isfinite(number.value):
                return None
            into.append(on_names(number, own.suite.clusters, names))
    return (first[0], second[0]) if len(columns) == 1 else (combine(first), combine(second))
