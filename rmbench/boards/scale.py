"""From values to places on a line of 100 units, with one decimal: what all drawings of a page share."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, isfinite, isnan, log10

from rmbench.digits import significant
from rmbench.types import Estimate

_MARGIN = 0.05
_LARGEST = 1e300
"""Beyond it a range would overflow; such a value is drawn at the end of the line."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Places on the line, in hundredths of it."""

    at: str
    """Of the value."""
    low: str
    width: str
    """Of the interval."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values, `low` < `high`."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Return the place of a value, within 0 and 100: at an end of the line for what lies beyond it."""
        share = (value - self.low) / (self.high - self.low)
        return _decimal(100 * min(max(share, 0.0), 1.0))

    def ends(self) -> tuple[str, str]:
        """Return the values at both ends, as labels."""
        return significant(self.low), significant(self.high)

    def bar(self, value: float, interval: tuple[float, float] | None) -> Bar | None:
        """Return an interval with its value as a tick; None where the value is not finite."""
        if not isfinite(value):
            return None
        if interval is None or any(isnan(end) for end in interval):
            return Bar(self.at(value), self.at(value), "0")
        low, high = self.at(interval[0]), self.at(interval[1])
        return Bar(self.at(value), low, _decimal(float(high) - float(low)))


def _decimal(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def scale_of(estimates: Sequence[Estimate]) -> Scale:
    """Return the scale that holds all values with their intervals, from one round value to another."""
    ends = [end for e in estimates for end in (e.value, *(e.ci95 or ())) if isfinite(end)]
    if not ends:
        return Scale(0.0, 1.0)
    low, high = (min(max(end, -_LARGEST), _LARGEST) for end in (min(ends), max(ends)))
    room = 0.0 if high > low else max(abs(low) * _MARGIN, _MARGIN)
    step = 10.0 ** floor(log10((high - low + 2 * room) / 2))
    return Scale(floor((low - room) / step) * step, ceil((high + room) / step) * step)
