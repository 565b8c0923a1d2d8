"""Paired comparison of models, with control for making many of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from rmbench.stats.estimates import Statistic, difference
from rmbench.types import Estimate

ALPHA = 0.05


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired difference of two models on the same items."""

    difference: Estimate
    """First minus second."""
    p_value: float | None
    """Two-sided, paired, clustered by prompt; None where no error is known."""


def compare(a: Statistic, b: Statistic) -> Comparison:
    """Compare two statistics measured on the same clusters in the same order.

    The test is the paired cluster-robust t test: the influence vectors are subtracted cluster by cluster,
    so what both models find hard cancels. Two identical vectors give p = 1.
    """
    paired = difference(a, b)
    stderr = paired.stderr
    if stderr is None:
        return Comparison(paired.estimate(), None)
    if stderr < 1e-12:
        return Comparison(paired.estimate(), 1.0 if abs(paired.value) < 1e-12 else 0.0)
    p = 2.0 * float(student_t.sf(abs(paired.value) / stderr, paired.n_clusters - 1))
    return Comparison(paired.estimate(), p)


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
