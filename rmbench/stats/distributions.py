"""Distributions of draws without replacement, without the slow import of `scipy.stats`."""

import numpy as np

from rmbench.stats.clusters import Floats


def hypergeometric(total: int, good: int, draws: int) -> Floats:
    """Return P(x of the draws are good), x from 0 to `draws`, shape (draws + 1,).

    Args:
        total: Number of things to draw from, without replacement, at least 1.
        good: Number of good things among them, 0 to `total`.
        draws: 0 to `total`.
    """
    low, high = max(0, draws - (total - good)), min(good, draws)
    x = np.arange(low, high, dtype=np.float64)
    found = np.zeros(draws + 1)
    found[low : high + 1] = _normalised(
        (good - x) / (x + 1.0) * (draws - x) / (total - good - draws + x + 1.0)
    )
    return found


def rank_at_place(pool_size: int, n: int, place: int) -> Floats:
    """Return P(rank r of the pool is at `place` among n drawn), r from 1 to M, shape (M,).

    It is `C(r - 1, place - 1) C(M - r, n - place) / C(M, n)`, the negative hypergeometric distribution.

    Args:
        pool_size: Ranked responses to draw from without replacement, M.
        n: Draws, 1 to M.
        place: 1 for the best of the n, n for the worst.
    """
    rank = np.arange(place, pool_size - n + place, dtype=np.float64)
    found = np.zeros(pool_size)
    found[place - 1 : pool_size - n + place] = _normalised(
        rank / (rank - place + 1.0) * (pool_size - rank - n + place) / (pool_size - rank)
    )
    return found


def _normalised(ratios: Floats) -> Floats:
    """Return probabilities (m + 1,) from the falling ratios (m,) of each one to the one before.

    The product starts at the largest one, so nothing overflows, and no logarithm of a factorial rounds.
    """
    peak = int(np.count_nonzero(ratios > 1.0))
    below = np.cumprod(1.0 / ratios[:peak][::-1])[::-1]
    weights = np.concatenate([below, [1.0], np.cumprod(ratios[peak:])])
    return np.asarray(weights / weights.sum())
