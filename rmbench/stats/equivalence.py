"""Equivalence: whether two models differ by at most a margin, by two one-sided tests.

Source: Schuirmann 1987, "A comparison of the two one-sided tests procedure and the power approach", J.
Pharmacokinetics and Biopharmaceutics 15(6); Westlake 1981 for the interval that says the same: the test holds
at 5% exactly where the 90% interval lies within the margin.
"""

from scipy.stats import t as student_t

from rmbench.stats.intervals import TAIL
from rmbench.stats.statistic import Statistic

_BISECTIONS = 30


def equivalence(paired: Statistic, margin: float) -> float | None:
    """Return the p-value of "the models differ by `margin` or more"; None where no error is known.

    It is the larger one of two one-sided t tests, with the clustered error and its degrees of freedom. Where
    few clusters tell the models apart it is the smallest tail of the exact interval that lies within the
    margin.

    Args:
        paired: The difference of two models.
        margin: Above 0, in the metric's unit.
    """
    if paired.stderr is None or paired.freedom is None:
        return None
    if paired.exact_interval(TAIL) is not None:
        return _by_interval(paired, margin)
    if paired.stderr < 1e-12:
        return None  # nothing varied, and nothing is known of how far the difference could lie off
    return float(student_t.sf((margin - abs(paired.value)) / paired.stderr, paired.freedom))


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
