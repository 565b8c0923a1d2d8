"""Which models the paired tests tell apart: over the board's score, and within each column."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from rmbench.stats import Statistic, difference, groups, holm, on_clusters
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
    # The influence on a logarithm is none on a difference.
    if any(s.influence is None or s.log_scale for s, _ in cells.values()):
        return {}
    sign = -1.0 if first.higher_is_better else 1.0
    order = sorted(cells, key=lambda model: (sign * cells[model][0].value, model))
    names = sorted({name for _, own in cells.values() for name in own})
    return {model: on_names(*cells[model], names) for model in order}
