"""Kendall's tau-b and Spearman's rho, of all observations and without each group in turn.

Without a group, its members' terms are subtracted from sums over pairs of observations, so no coefficient is
computed again: O(P log P) for Kendall and all groups, O(P) per group for Spearman.
"""

import numpy as np
from numpy.typing import NDArray

from rmbench.stats.clusters import Floats, Ints


def kendall_tau(x: Floats, y: Floats, group: Ints, n_groups: int) -> tuple[float, Floats]:
    """Return tau-b of all observations, and without each group.

    Args:
        x: Finite, shape (P,).
        y: Finite, shape (P,).
        group: Group of each observation, below `n_groups`, shape (P,).
        n_groups: G.

    Returns:
        tau-b, and tau-b without each group, shape (G,); NaN where x or y is constant.

    Source: Kendall 1945, Biometrika 33 (tau-b); counts of concordant pairs as in Knight 1966, JASA 61.
    """
    place_x, place_y, everything = _dense(x), _dense(y), np.zeros_like(group)
    agreement = _without_each(
        _row_sums(place_x, place_y, everything), _row_sums(place_x, place_y, group), group, n_groups
    )
    untied = [
        _without_each(_n_unequal(v, everything), _n_unequal(v, group), group, n_groups)
        for v in (place_x, place_y)
    ]
    with np.errstate(invalid="ignore", divide="ignore"):
        tau = np.clip(agreement / np.sqrt(untied[0]) / np.sqrt(untied[1]), -1.0, 1.0)
    return float(tau[0]), tau[1:]


def spearman_rho(x: Floats, y: Floats, group: Ints, n_groups: int) -> tuple[float, Floats]:
    """Return Spearman's rho of all observations, and without each group; arguments as of `kendall_tau`."""
    places = _dense(x), _dense(y)
    left_out = np.array([_spearman(*places, group != g) for g in range(n_groups)])
    return _spearman(*places, np.ones(len(x), dtype=bool)), left_out


def _dense(values: Floats) -> Ints:
    """Return each value's place among the distinct values, from 0, shape (P,)."""
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)


def _spearman(x: Ints, y: Ints, keep: NDArray[np.bool_]) -> float:
    a, b = (_centred_ranks(values[keep]) for values in (x, y))
    scale = float(np.sqrt(a @ a) * np.sqrt(b @ b))
    return min(1.0, max(-1.0, float(a @ b) / scale)) if scale > 0.0 else float("nan")


def _centred_ranks(dense: Ints) -> Floats:
    """Return mean ranks of dense places (n,), less their mean."""
    count = np.bincount(dense)
    rank = np.cumsum(count) - 0.5 * (count - 1)
    return np.asarray(rank[dense] - 0.5 * (len(dense) + 1))


def _without_each(rows: Floats, within: Floats, group: Ints, n_groups: int) -> Floats:
    """Return a sum over pairs i < j, then that sum without each group, shape (1 + G,).

    Without a group it is the sum minus the rows of the group's members, which count the pairs within the
    group twice. All sums are integers, so they are exact.

    Args:
        rows: Sum over all j for each i, shape (P,).
        within: Sum over the j of i's group for each i, shape (P,).
        group: Shape (P,).
        n_groups: G.
    """
    total = rows.sum() / 2.0
    of_group, inside = (np.bincount(group, r, minlength=n_groups) for r in (rows, within))
    return np.concatenate([[total], total - of_group + inside / 2.0])


def _n_unequal(x: Ints, group: Ints) -> Floats:
    """Return, for each i, the number of members of its group with another x, shape (P,)."""
    _, place, count = np.unique(group * (int(x.max()) + 1) + x, return_inverse=True, return_counts=True)
    return np.asarray(np.bincount(group)[group] - count[place.reshape(-1)], dtype=np.float64)


def _row_sums(x: Ints, y: Ints, group: Ints) -> Floats:
    """Return the sum over j in i's group of sign(x_i - x_j) sign(y_i - y_j), for each i, shape (P,).

    Two values of y are ordered by the highest bit in which they differ. So for each bit, among observations
    with the same group and higher bits, those with a 1 are compared by x with those with a 0.
    """
    if x.max() < y.max():
        x, y = y, x  # fewer distinct values have fewer bits
    total, n_bits, n_x = np.zeros(len(x)), int(y.max()).bit_length(), int(x.max()) + 1
    for bit in range(n_bits):
        key = ((group << n_bits | y) >> (bit + 1)) * n_x + x
        order = np.argsort(key)
        key, zero = key[order], (y[order] >> bit) & 1 == 0
        first, end = _runs(key // n_x)
        low, high = _runs(key)
        seen = np.concatenate([[0], np.cumsum(zero)])
        # The number with a smaller x minus the number with a larger one: among all, and among those with a 0.
        of_all = low + high - first - end
        of_zeros = seen[low] + seen[high] - seen[first] - seen[end]
        total[order] += np.where(zero, of_zeros - of_all, of_zeros)
    return total


def _runs(key: Ints) -> tuple[Ints, Ints]:
    """Return where the run of equal keys that each element is in begins and ends (exclusive), both (n,)."""
    starts = np.flatnonzero(np.diff(key, prepend=key[0] - 1))
    ends = np.append(starts[1:], len(key))
    return np.repeat(starts, ends - starts), np.repeat(ends, ends - starts)
