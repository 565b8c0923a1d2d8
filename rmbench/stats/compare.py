"""Paired comparisons of models: p-values, correction for many tests, equivalence, and verdicts.

Equivalence is tested by two one-sided tests: Schuirmann 1987, "A comparison of the two one-sided tests
procedure and the power approach", J. Pharmacokinetics and Biopharmaceutics 15(6); Westlake 1981 for the
equivalent interval: the test rejects at 5% exactly if the 90% interval lies within the margin. Hall 1992, "On
the removal of skewness by transformation", J. R. Stat. Soc. B 54, for differences of one direction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from scipy.special import stdtr

from rmbench.errors import ConfigError
from rmbench.stats.clusters import Floats
from rmbench.stats.estimates import difference
from rmbench.stats.intervals import TAIL, is_skewed
from rmbench.stats.power import ALPHA, POWER, Resolution, resolution_of
from rmbench.stats.statistic import Statistic
from rmbench.types import Estimate

MOST_FLIPPED = 12
"""Most clusters for which all signs are tried: 4,096 combinations."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The paired difference of two models on the same items."""

    difference: Estimate
    """First minus second."""
    p_value: float | None
    """Two-sided, paired, clustered by prompt; None where no error is known."""
    freedom: float | None = None
    """Degrees of freedom of the difference's error; None without an error."""
    resolution: Resolution | None = None
    """Smallest difference that these data can show; None where no error is known."""


def compare(a: Statistic, b: Statistic) -> Comparison:
    """Compare two statistics measured on the same clusters in the same order.

    The test is the paired cluster-robust t test: the influence vectors are subtracted cluster by cluster, so
    the difficulty that both models share cancels. If the models differ on few clusters only, it is the exact
    sign-flip test over these (for right and wrong: McNemar's exact test). Two identical vectors give p = 1.
    """
    return compare_paired(difference(a, b))


def compare_paired(paired: Statistic) -> Comparison:
    """Compare two models by their paired difference: see `compare`."""
    off = _apart(paired)
    exact = off is not None and _is_exact(paired, off)
    resolution = resolution_of(paired, off if exact else None)
    return Comparison(paired.estimate(), _p_value(paired, off, exact=exact), paired.freedom, resolution)


def p_of(paired: Statistic) -> float | None:
    """Return the two-sided p-value of a difference, as `compare` tests it; None where no error is known."""
    off = _apart(paired)
    return _p_value(paired, off, exact=off is not None and _is_exact(paired, off))


def _apart(paired: Statistic) -> Floats | None:
    """Return the contributions of the clusters on which the models differ, shape (k,), where known."""
    if not paired.linear or paired.stderr is None:
        return None
    found = paired.contributions()
    off: Floats = found[np.abs(found) > 1e-12 * max(1e-300, float(np.abs(found).max(initial=0.0)))]
    return off


def _is_exact(paired: Statistic, off: Floats) -> bool:
    """Say whether the test uses the signs of `off` alone, because they are few or all the same."""
    few = len(off) <= MOST_FLIPPED and len(off) < paired.n_clusters
    return few or (paired.stderr is not None and paired.stderr < 1e-12 * max(1.0, abs(paired.value)))


def _p_value(paired: Statistic, off: Floats | None, *, exact: bool) -> float | None:
    stderr, freedom = paired.stderr, paired.freedom
    if stderr is None or freedom is None:
        return None
    same = abs(paired.value) < 1e-12
    if off is not None and exact:
        if len(off) == 0 or (same and stderr < 1e-12):
            return 1.0
        return sign_flip(off) if len(off) <= MOST_FLIPPED else float(2.0 ** (1 - len(off)))
    if stderr < 1e-12:
        return 1.0 if same else 0.0
    return 2.0 * float(stdtr(freedom, -abs(paired.value) / stderr))


def sign_flip(differences: np.ndarray) -> float:
    """Return the two-sided p-value of a sum of differences, each as likely with the other sign, shape (k,).

    The test is exact: all 2^k signs are tried. With differences of one size it is McNemar's exact test.

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
    """Return the letters of each model: two models share a letter exactly if they do not differ.

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
    """Say whether column m makes column n redundant; of two equal columns the first one stays."""
    return smaller < bigger or (smaller == bigger and m < n)


def _letter(n: int) -> str:
    return chr(ord("a") + n % 26) * (n // 26 + 1)


def rank_ranges(different: np.ndarray) -> list[tuple[int, int]]:
    """Return the best and the worst rank of each model that the tests allow (models in rank order)."""
    k = len(different)
    return [(1 + int(different[i, :i].sum()), k - int(different[i, i + 1 :].sum())) for i in range(k)]


_BISECTIONS = 30


def equivalence(paired: Statistic, margin: float) -> float | None:
    """Return the p-value of "the models differ by `margin` or more"; None where no error is known.

    It is the larger p-value of two one-sided t tests, with the clustered error and its degrees of freedom.
    If nearly all differing clusters favour one model, a difference that is small by chance has too small an
    error as well: so t is also tested with its skewness removed, and the larger p counts. If the models
    differ on few clusters, p is the smallest tail of the exact interval that lies within the margin.

    Args:
        paired: The difference of two models.
        margin: Above 0, in the metric's unit.
    """
    if paired.stderr is None or paired.freedom is None:
        return None
    if paired.exact_interval(TAIL) is not None:
        return _by_interval(paired, margin)
    if paired.stderr < 1e-12:
        return None  # nothing varied: how far off the difference could be is not known
    plain = float(stdtr(paired.freedom, (abs(paired.value) - margin) / paired.stderr))
    if paired.influence is None or not is_skewed(paired.influence):
        return plain
    return max(plain, _without_skewness(paired, paired.influence, paired.stderr, paired.freedom, margin))


def _without_skewness(
    paired: Statistic, influence: Floats, stderr: float, freedom: float, margin: float
) -> float:
    skewness: float = float((influence**3).sum()) / float(np.square(influence).sum()) ** 1.5

    def symmetric(t: float) -> float:
        return t + skewness * t * t / 3.0 + skewness * skewness * t * t * t / 27.0 + skewness / 6.0

    above = float(stdtr(freedom, symmetric((paired.value - margin) / stderr)))
    below = float(stdtr(freedom, -symmetric((paired.value + margin) / stderr)))
    return float(max(above, below))


def _by_interval(paired: Statistic, margin: float) -> float:
    def within(tail: float) -> bool:
        found = paired.exact_interval(tail)
        return found is not None and -margin < found[0] and found[1] < margin

    low, high = 0.0, 0.5
    if not within(high):
        return 1.0
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2.0
        low, high = (low, middle) if within(middle) else (middle, high)
    return high


Verdict: TypeAlias = Literal["better", "worse", "higher", "lower", "equivalent", "undecided", "no test"]
"""On the first of two models. `higher` and `lower`: of a metric that has no better direction."""


@dataclass(frozen=True, slots=True)
class Tested:
    """One paired test as a member of its family."""

    paired: Comparison
    n_tests: int
    """Tests of the family, those without a p-value left out."""
    p_holm: float | None
    """The p-value after Holm's correction over the family."""
    margin: float | None = None
    """Margin within which models are called equivalent; None: not requested."""
    p_equivalence: float | None = None
    """P-value of "the models differ by the margin or more"."""
    p_equivalence_holm: float | None = None
    """The same after Holm's correction over the family's equivalence tests."""

    @property
    def told_apart(self) -> bool:
        """True if the corrected test separates the models at 5%."""
        return self.p_holm is not None and self.p_holm < ALPHA

    @property
    def within_margin(self) -> bool:
        """True if the corrected tests show that the models differ by less than the margin."""
        return self.p_equivalence_holm is not None and self.p_equivalence_holm < ALPHA

    @property
    def verdict(self) -> Verdict:
        """Verdict on the first model. A difference that is shown comes before equivalence."""
        if self.told_apart:
            higher = self.paired.difference.value > 0.0
            better = self.paired.difference.higher_is_better
            if better is None:
                return "higher" if higher else "lower"
            return "better" if higher == better else "worse"
        if self.within_margin:
            return "equivalent"
        return "no test" if self.paired.p_value is None else "undecided"

    @property
    def words(self) -> str:
        """Text of the verdict. A difference that is shown to be small has both verdicts."""
        if self.told_apart and self.within_margin:
            return f"{self.verdict}, by less than {self.margin:g}"
        return f"equivalent within {self.margin:g}" if self.verdict == "equivalent" else self.verdict

    def smallest(self, power: float = POWER) -> float | None:
        """Return the smallest difference that this test finds with probability `power` within its family.

        The test's level is 5% over the number of tests: the first level of Holm's procedure. None if no
        difference would be found, or no error is known.
        """
        if self.paired.resolution is None:
            return None
        return self.paired.resolution.smallest(ALPHA / max(1, self.n_tests), power)


def family(pairs: Sequence[tuple[Statistic, Statistic]], margin: float | None = None) -> list[Tested]:
    """Test every pair, and correct over all pairs.

    Args:
        pairs: Two statistics on the same clusters each; the whole family, of any metrics.
        margin: Margin within which models are called equivalent, in each metric's unit.

    Raises:
        ConfigError: If the margin is not above 0.
    """
    if margin is not None and not margin > 0.0:
        raise ConfigError(f"a margin of {margin:g}; expected one above 0")
    differences = [difference(a, b) for a, b in pairs]
    compared = [compare_paired(d) for d in differences]
    adjusted = _adjusted([c.p_value for c in compared])
    within = [None if margin is None else equivalence(d, margin) for d in differences]
    n_tests = sum(c.p_value is not None for c in compared)
    return [
        Tested(c, n_tests, p_holm, margin, p, p_adjusted)
        for c, p_holm, p, p_adjusted in zip(compared, adjusted, within, _adjusted(within), strict=True)
    ]


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p-values; None stays None and does not count."""
    known = [n for n, p in enumerate(p_values) if p is not None]
    found: list[float | None] = [None] * len(p_values)
    for n, p in zip(known, holm([p for p in p_values if p is not None]), strict=True):
        found[n] = p
    return found
