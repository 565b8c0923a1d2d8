"""How far best of n moves from the policy that it draws from: a bound, and an estimate from probabilities."""

from math import log

import numpy as np

from rmbench.stats.clusters import Floats


def kl_bound(n: int) -> float:
    """Return log n - (n - 1) / n, in nats: at least KL(selection || policy), whatever selects one of n draws.

    No choice out of n puts more than 1 - (1 - p)^n on a set of responses that the policy gives p, which best
    of n by a reward without atoms does; so it is the furthest away, and has this divergence exactly.

    Source: Beirami et al. 2024, arXiv 2401.01879, theorem 3.1 (for best of n).
    """
    return log(n) - (n - 1) / n


def kl_of_pick(logprobs: Floats, n: int) -> Floats:
    """Return the estimate of KL(best of n || policy) that a pick of this log-probability gives, in nats.

    With e = P(pick): (1-e)^n (log n + (n-1) log(1-e) - (n-1)/n) + (1 - (1-e)^n) log((1 - (1-e)^n) / e).
    That is exact where the pick is the policy's best response and no other one has a noticeable probability;
    the estimate is its mean over picks. As e goes to 0 it becomes `kl_bound`, at e = 1 it is 0.

    Source: Beirami et al. 2024, arXiv 2401.01879, section 4, equation 25 of the third version.

    Args:
        logprobs: Any shape; nats, at most 0.
        n: Responses drawn.
    """
    if n == 1:
        return np.zeros_like(logprobs)
    p = np.exp(logprobs)
    certain = p >= 1.0
    # The pick itself at probability 1 leaves nothing to compute with, and has not moved at all.
    p = np.where(certain, 0.5, p)
    none = n * np.log1p(-p)
    some = -np.expm1(none)
    # Below what a double holds, 1 - (1-p)^n is n p.
    lift = np.where(p > 1e-300, np.log(np.maximum(some, 1e-320)) - np.log(np.maximum(p, 1e-320)), log(n))
    found = np.exp(none) * (kl_bound(n) + (n - 1) * np.log1p(-p)) + some * lift
    return np.where(certain, 0.0, found)
