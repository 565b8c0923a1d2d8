"""Which models the paired tests tell apart: over the board's score, and within each column."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.stats import Statistic, difference, groups, holm, on_clusters
from rmbench.stats.compare import ALPHA, p_of

MOST_IN_COLUMNS = 100
"""Models up to which each column of a board has groups too: K models take K (K - 1) / 2 tests a column."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a model stands among those it was compared with."""

    letters: str
    """Two models share one exactly if the tests do not tell them apart; `a` for the best."""
    leads: bool
    """Whether it is not told apart from the best, while another model is."""


def standings(different: np.ndarray) -> list[Standing]:
    """Return the standing of each model.

    Args:
        different: Symmetric boolean matrix (k, k), the best model first: which the tests tell apart.
    """
    some = bool(different[:1].any())
    return [Standing(letters, some and not different[0, n]) for n, letters in enumerate(groups(different))]


def on_names(statistic: Statistic, own: Sequence[str], names: Sequence[str]) -> Statistic:
    """Return the statistic over the clusters `names`, which hold all of its `own`."""
    place = {name: i for i, name in enumerate(names)}
    return on_clusters(statistic, np.array([place[n] for n in own], dtype=np.int64), len(names))


def separated(totals: Sequence[Statistic]) -> np.ndarray:
    """Return which pairs the paired tests tell apart at 5% after Holm's correction, shape (k, k)."""
    k = len(totals)
    pairs = [(i, j) for i in range(k) for j in range(i + 1, k)]
    p_values = [p_of(difference(totals[i], totals[j])) for i, j in pairs]
    adjusted = holm([1.0 if p is None else p for p in p_values])
    different = np.zeros((k, k), dtype=bool)
    for (i, j), p in zip(pairs, adjusted, strict=True):
        different[i, j] = different[j, i] = p < ALPHA
    return different


def column_standings(cells: Mapping[str, tuple[Statistic, Sequence[str]]]) -> dict[str, Standing]:
    """Return model -> its standing within one column; empty where no paired test is possible.

    Args:
        cells: Model -> its number in the column, and the names of its clusters.
    """
    first = next((statistic for statistic, _ in cells.values()), None)
    if first is None or first.higher_is_better is None or len(cells) > MOST_IN_COLUMNS:
        return {}
    # The influence on a logarithm is none on a difference.
    if any(s.influence is None or s.log_scale for s, _ in cells.values()):
        return {}
    sign = -1.0 if first.higher_is_better else 1.0
    order = sorted(cells, key=lambda model: (sign * cells[model][0].value, model))
    names = sorted({name for _, own in cells.values() for name in own})
    different = separated([on_names(*cells[model], names) for model in order])
    return dict(zip(order, standings(different), strict=True))
