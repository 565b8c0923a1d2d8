"""Cross-fitting folds: whole clusters, dealt by seed."""

import numpy as np

from rmbench.stats.clusters import Ints


def folds_of(cluster: Ints, n_folds: int, seed: int) -> Ints:
    """Return the fold (0 ...) of each observation, shape like `cluster`; a cluster is never split.

    Uses as many folds as there are clusters where that is fewer than `n_folds`.
    """
    present, index = np.unique(cluster, return_inverse=True)
    dealt = np.random.default_rng(seed).permutation(len(present)) % min(n_folds, len(present))
    return np.asarray(dealt[index.reshape(-1)], dtype=np.int64)
