"""Degrees of freedom of an error that is estimated from prompts of unequal size."""

import numpy as np

from rmbench.stats.clusters import Ints


def freedom_of(cluster: Ints) -> float:
    """Return the degrees of freedom of a variance between clusters: the number they are worth, less 1.

    That is `(sum of sizes)^2 / (sum of squared sizes) - 1`: C - 1 for C clusters of one size, fewer where a
    few large ones decide. At least 1.

    Args:
        cluster: Cluster of each observation, shape (n,), n >= 1.

    Source: Kish 1965, "Survey sampling", section 8.2.
    """
    sizes = np.bincount(cluster).astype(np.float64)
    return max(1.0, float(sizes.sum() ** 2 / np.square(sizes).sum()) - 1.0)
