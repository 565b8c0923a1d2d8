"""From preferences to rewards: how a pairwise model joins tasks that are about rewards.

Every ordered pair of an item's K responses is asked (a round robin: K * (K - 1) questions), or the pairs of a
schedule. The two orders of a pair are averaged, and the rewards are the least-squares Bradley-Terry
strengths. For K = 2 the margin is exactly the log-odds of the averaged preference, so accuracy and
calibration mean what they mean for a reward model.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import ScoringError

P_MIN = 1e-4
"""Preferences are clipped to [P_MIN, 1 - P_MIN]: a judge that says 0 or 1 has a finite margin of 9.21."""


def average_orders(p_first: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return P(i better than j), averaged over both orders of showing them.

    Args:
        p_first: Shape (K, K); [i, j] is P(i better) when i is shown first. The diagonal is ignored.

    Returns:
        Shape (K, K), fractions; [i, j] + [j, i] = 1 and the diagonal is 0.5.

    Raises:
        ScoringError: If the shape is wrong or a preference is outside [0, 1] or not finite.
    """
    p_first = np.asarray(p_first, dtype=np.float64)
    k = len(p_first)
    if p_first.shape != (k, k) or k < 2:
        raise ScoringError(f"preferences have shape {p_first.shape}; expected (K, K) with K >= 2")
    off_diagonal = p_first[~np.eye(k, dtype=bool)]
    if not ((off_diagonal >= 0) & (off_diagonal <= 1)).all():
        raise ScoringError("a preference is outside [0, 1] or not a number; expected P(first is better)")
    p = (p_first + 1.0 - p_first.T) / 2.0
    np.fill_diagonal(p, 0.5)
    return p


def rewards_from_preferences(p_first: NDArray[np.float64]) -> tuple[NDArray[np.float64], int, int]:
    """Return rewards from a round robin of preferences, and how often the order decided.

    r_i = (1/K) * sum_j logit(p_ij): the minimiser of sum_{i<j} (r_i - r_j - logit(p_ij))^2 with mean 0.

    Args:
        p_first: Shape (K, K); [i, j] is P(i better) when i is shown first.

    Returns:
        (rewards, n_pairs, n_flips): shape (K,), in nats, mean 0; the K * (K - 1) / 2 pairs asked; those of
        them whose two orders name different winners (one order undecided at 0.5 is no flip).

    Raises:
        ScoringError: As `average_orders`.

    Source: least squares on paired comparisons, Mosteller 1951; logit link, Bradley & Terry 1952.
    """
    p = np.clip(average_orders(p_first), P_MIN, 1.0 - P_MIN)
    # log1p keeps logit(p) = -logit(1 - p) to the last digit near 0.5.
    logit = np.log(p) - np.log1p(-p)
    k = len(p)
    upper = np.triu_indices(k, 1)
    first_says = np.sign(np.asarray(p_first, dtype=np.float64)[upper] - 0.5)
    second_says = np.sign(0.5 - np.asarray(p_first, dtype=np.float64).T[upper])
    n_flips = int((first_says * second_says < 0).sum())
    return logit.sum(axis=1) / k, len(upper[0]), n_flips


def rewards_from_pairs(
    p_first: NDArray[np.float64], edges: Sequence[tuple[int, int]]
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None, int]:
    """Return rewards from some pairs of an item, their standard errors, and how often the order decided.

    The rewards minimise sum over edges of (r_i - r_j - logit(p_ij))^2 with mean 0: r = L^+ B' y, with the
    graph's Laplacian L = B'B. With every pair they equal those of `rewards_from_preferences`. The standard
    errors are sqrt(s^2 diag(L^+)), s^2 = residual sum of squares / (M - K + 1) for M edges: the noise is what
    the answers contradict each other by. A bias that all answers share is not in them.

    Args:
        p_first: Shape (K, K); [i, j] is P(i better) when i is shown first. Read at the edges, in both orders.
        edges: M pairs (i, j), i < j, that connect all K responses.

    Returns:
        (rewards, stderr, n_flips): shape (K,), in nats, mean 0; shape (K,), in nats, or None for a tree,
        whose answers cannot contradict each other; the edges whose two orders name different winners.

    Raises:
        ScoringError: If a preference of an edge is outside [0, 1] or not a number, or the edges do not
            connect all responses.

    Source: least squares on paired comparisons, Mosteller 1951; on a graph, Jiang et al. 2011 (HodgeRank).
    """
    p_first = np.asarray(p_first, dtype=np.float64)
    k, (i, j) = len(p_first), np.array(edges, dtype=np.intp).reshape(-1, 2).T
    forward, backward = p_first[i, j], p_first[j, i]
    both = np.concatenate([forward, backward])
    if not ((both >= 0) & (both <= 1)).all():
        raise ScoringError("a preference is outside [0, 1] or not a number; expected P(first is better)")
    p = np.clip((forward + 1.0 - backward) / 2.0, P_MIN, 1.0 - P_MIN)
    logit = np.log(p) - np.log1p(-p)
    incidence = np.zeros((len(i), k))
    rows = np.arange(len(i))
    incidence[rows, i], incidence[rows, j] = 1.0, -1.0
    laplacian = incidence.T @ incidence
    if np.linalg.matrix_rank(laplacian) < k - 1:
        raise ScoringError(f"{len(i)} pairs do not connect {k} responses: some were never compared")
    inverse = np.linalg.inv(laplacian + 1.0 / k) - 1.0 / k
    rewards = inverse @ (incidence.T @ logit)
    n_flips = int((np.sign(forward - 0.5) * np.sign(0.5 - backward) < 0).sum())
    freedom = len(i) - k + 1
    if freedom == 0:
        return rewards, None, n_flips
    variance = float(((logit - incidence @ rewards) ** 2).sum()) / freedom
    return rewards, np.sqrt(variance * np.diag(inverse)), n_flips
