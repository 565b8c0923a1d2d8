"""Paired comparison of models, with control for making many of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr

from rmbench.stats.combine import difference
from rmbench.stats.statistic import Statistic
from rmbench.types import Estimate

ALPHA = 0.05


MOST_FLIPPED = 12
"""Clusters up to which all signs are tried; 4,096 ways."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired difference of two models on the same items."""

    difference: Estimate
    """First minus second."""
    p_value: float | None
    """Two-sided, paired, clustered by prompt; None where no error is known."""
    freedom: float | None = None
    """Degrees of freedom of the difference's error; None where there is none."""


def compare(a: Statistic, b: Statistic) -> Comparison:
    """Compare two statistics measured on the same clusters in the same order.

    The test is the paired cluster-robust t test: the influence vectors are subtracted cluster by cluster,
    so what both models find hard cancels. Where the models differ on a few clusters alone it is the exact
    sign-flip test over these (for right and wrong: McNemar's exact test). Two identical vectors give p = 1.
    """
    paired = difference(a, b)
    return Comparison(paired.estimate(), p_of(paired), paired.freedom)


def p_of(paired: Statistic) -> float | None:
    """Return the two-sided p-value of a difference, as `compare` tests it; None where no error is known."""
    stderr, freedom = paired.stderr, paired.freedom
    if stderr is None or freedom is None:
        return None
    same = abs(paired.value) < 1e-12
    if paired.linear:
        found = paired.contributions()
        off = found[np.abs(found) > 1e-12 * max(1e-300, float(np.abs(found).max()))]
        if len(off) == 0 or (same and stderr < 1e-12):
            return 1.0
        if stderr < 1e-12 * abs(paired.value):
            return float(2.0 ** (1 - len(off)))
        if len(off) <= MOST_FLIPPED and len(off) < paired.n_clusters:
            return sign_flip(off)
    if stderr < 1e-12:
        return 1.0 if same else 0.0
    return 2.0 * float(stdtr(freedom, -abs(paired.value) / stderr))


def sign_flip(differences: np.ndarray) -> float:
    """Return the two-sided p-value of a sum of differences, each as likely with the other sign, shape (k,).

    Exact: all 2^k signs are tried. With differences of one size it is McNemar's exact test.

    Source: Fisher 1935, "The design of experiments", section 21.
    """
    k = len(differences)
    signs = 1.0 - 2.0 * ((np.arange(1 << k)[:, None] >> np.arange(k)) & 1)
    sums = np.abs(signs @ differences)
    observed = abs(float(differences.sum()))
    return float((sums >= observed - 1e-12 * float(np.abs(differences).sum())).mean())


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's step-down adjusted p-values, in the order given. Source: Holm 1979."""
    order = sorted(range(len(p_values)), key=lambda i: p_values[i])
    adjusted = [0.0] * len(p_values)
    running = 0.0
    for step, i in enumerate(order):
        running = max(running, min(1.0, (len(p_values) - step) * p_values[i]))
        adjusted[i] = running
    return adjusted


def groups(different: np.ndarray) -> list[str]:
    """Return letters per model such that two models share a letter exactly if they do not differ.

    Args:
        different: Symmetric boolean matrix (k, k), models in rank order: true where the test separates them.

    Returns:
        k strings of letters, `a` for the first group.

    Source: compact letter display by insertion and absorption, Piepho 2004, JCGS 13(2).
    """
    k = len(different)
    columns: list[set[int]] = [set(range(k))]
    for i in range(k):
        for j in range(i + 1, k):
            if not different[i, j]:
                continue
            split: list[set[int]] = []
            for column in columns:
                split += [column - {i}, column - {j}] if i in column and j in column else [column]
            columns = [
                c for n, c in enumerate(split) if not any(_absorbs(d, c, m, n) for m, d in enumerate(split))
            ]
    columns.sort(key=lambda c: sorted(c))
    return ["".join(_letter(n) for n, column in enumerate(columns) if i in column) for i in range(k)]


def _absorbs(bigger: set[int], smaller: set[int], m: int, n: int) -> bool:
    """Say whether column m makes column n superfluous; of two equal columns the first one stays."""
    return smaller < bigger or (smaller == bigger and m < n)


def _letter(n: int) -> str:
    return chr(ord("a") + n % 26) * (n // 26 + 1)


def rank_ranges(different: np.ndarray) -> list[tuple[int, int]]:
    """Return the best and the worst rank of each model that the tests allow (models in rank order)."""
    k = len(different)
    return [(1 + int(different[i, :i].sum()), k - int(different[i, i + 1 :].sum())) for i in range(k)]
