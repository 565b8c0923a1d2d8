"""How numbers are written for people: one number of digits down a column, and no rounding noise.

A column takes its digits from its own values. Three decimals are usual. A smaller value gets the decimals
that it needs to be read, and the whole column with it; beyond six, or above seven digits before the point,
the whole column is scientific. What is tiny beside the column's largest value asks for no digits. What
rounding leaves of a zero, such as 1e-16, is 0.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import floor, inf, isclose, isfinite, log10
from typing import TypeAlias

from rmbench.types import Estimate

NOISE = 1e-12
"""Below it a value is 0, as a fraction of the largest value of its column or of 1, whichever is more."""
_TINY = 1e-5
"""Of the column's largest value or of 1, whichever is less: values below it ask for no digits."""
_USUAL, _MOST = 3, 6
"""Decimals."""
_LARGE = 1e7
"""From here on, and below the last decimal, numbers are scientific."""
_LARGEST_WHOLE = 1e15

Interval: TypeAlias = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Digits:
    """How many digits the numbers of one column have."""

    decimals: int = _USUAL
    scientific: bool = False
    """Two decimals and a power of ten instead."""
    noise: float = NOISE
    """What is no larger is 0."""

    def write(self, value: float, *, plus: bool = False) -> str:
        """Return a number; with `plus`, one above 0 has its sign, as a difference has it."""
        if not isfinite(value):
            infinite = "-∞" if value < 0 else "+∞" if plus else "∞"
            return "NaN" if value != value else infinite
        if abs(value) <= self.noise:
            value = 0.0
        text = f"{value:.2e}" if self.scientific and value else f"{value:.{self.decimals}f}"
        if float(text) == 0.0:
            return text.removeprefix("-")  # no minus zero
        return f"+{text}" if plus and value > 0 else text

    def interval(self, ends: Interval, *, plus: bool = False) -> str:
        """Return an interval: `[0.690, 0.730]`, and `[1.200, ∞)` where an end is infinite."""
        low, high = (self.write(end, plus=plus) for end in ends)
        return f"{'(' if ends[0] == -inf else '['}{low}, {high}{')' if ends[1] == inf else ']'}"

    def estimate(self, value: float, ends: Interval | None, *, plus: bool = False) -> str:
        """Return a number with its interval, if it has one."""
        text = self.write(value, plus=plus)
        return text if ends is None else f"{text} {self.interval(ends, plus=plus)}"


def digits_of(values: Iterable[float], intervals: Iterable[Interval] = (), *, counts: bool = False) -> Digits:
    """Return how the numbers of one column are written.

    Args:
        values: What has to be readable.
        intervals: Intervals around them: each must be seen to have a width, and nothing else of them matters.
        counts: Whether the values count something, so that 1 is no fraction.
    """
    shown = [abs(v) for v in values if isfinite(v)]
    pairs = [pair for pair in intervals if all(map(isfinite, pair))]
    everything = [*shown, *(abs(end) for pair in pairs for end in pair)]
    largest = max(everything, default=0.0)
    noise = NOISE * max(1.0, largest)
    if all(v == int(v) for v in everything) and largest < _LARGEST_WHOLE and (counts or largest > 1):
        return Digits(0, noise=noise)
    seen = [v for v in shown if v > max(noise, _TINY * min(1.0, max(shown)))]
    widths = [w for low, high in pairs if (w := abs(high - low) / 2) > max(noise, _TINY * min(1.0, largest))]
    needed = _decimals(min(seen, default=1.0))
    if largest >= _LARGE or needed > _MOST:
        return Digits(0, scientific=True, noise=noise)
    for_width = _decimals(min(widths)) if widths else 0
    return Digits(max(needed, for_width) if for_width <= _MOST else needed, noise=noise)


def digits_of_estimates(estimates: Sequence[Estimate]) -> Digits:
    """Return how estimates of one metric are written."""
    counts = all(is_count(e) for e in estimates)
    return digits_of((e.value for e in estimates), (e.ci95 for e in estimates if e.ci95), counts=counts)


def is_count(estimate: Estimate) -> bool:
    """Return whether an estimate is a number of responses, not a fraction or a mean."""
    return estimate.unit == "responses"


def significant(value: float, n: int = 4) -> str:
    """Return a single number, such as a reward, with `n` significant digits."""
    return f"{0.0 if abs(value) <= NOISE else value:.{n}g}" if isfinite(value) else Digits().write(value)


def probability(value: float) -> str:
    """Return a p-value with four decimals."""
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def same_text(a: str, b: str) -> bool:
    """Return whether two texts are equal, but for the last digits of numbers, in which processors differ.

    Numbers with a decimal point and six significant digits or more may differ by 1e-6 of their value, or by
    one in their last decimal where both are written with the same six decimals or more.
    """
    if a == b:
        return True
    if _NUMBER.sub("0", a) != _NUMBER.sub("0", b):
        return False
    return all(map(_close, _NUMBER.findall(a), _NUMBER.findall(b)))


_NUMBER = re.compile(r"(?<![\w.])-?\d+\.\d+(?:e[-+]?\d+)?(?![\w.])", re.IGNORECASE)
_EXACT = 6
"""Digits; numbers of fewer are compared as text."""


def _close(a: str, b: str) -> bool:
    mantissas = [text.lower().partition("e")[0] for text in (a, b)]
    n_digits = max(len(m.replace(".", "").lstrip("-0")) for m in mantissas)
    if n_digits >= _EXACT and isclose(float(a), float(b), rel_tol=1e-6, abs_tol=NOISE):
        return True
    first, second = (len(m.partition(".")[2]) for m in mantissas)
    last = 1.01 * 10.0**-first if mantissas == [a, b] and first == second >= _EXACT else 0.0
    return a == b or abs(float(a) - float(b)) <= last


def _decimals(value: float) -> int:
    """Return the decimals that a number above 0 needs: the usual ones if they show it, none of thousands."""
    if value >= 1000:
        return 0
    return _USUAL if value >= 10.0**-_USUAL else -floor(log10(value))
