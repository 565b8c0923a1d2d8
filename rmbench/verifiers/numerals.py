r"""Numbers as people and LaTeX write them, as exact fractions.

    >>> read_number(r"\frac12") == read_number("0.5")
    True

Read: `1,234`, `-3.50`, `.5`, `2e3`, `3/4`, `1 1/2`, `\frac{3}{4}`, `\frac12`, a currency before it, a percent
sign or a unit after it. Nothing is computed that the length of the text does not bound.
"""

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_LENGTH = 64
"""Characters of a number that are read; a longer text is no number."""

_PLAIN = r"(?:\d{1,3}(?:,\d{3})+(?!\d)(?:\.\d+)?|\d+(?:\.\d+)?|\.\d+)"
_FRAC = r"\\frac\s*(?:\{\s*(?:\d+)\s*\}|\d)\s*(?:\{\s*(?:\d+)\s*\}|\d)"
_SLASH = r"\d+\s?/\s?\d+(?![\d/])"
NUMBER = rf"(?:(?:\d+\s*{_FRAC})|{_FRAC}|(?:\d+\s+{_SLASH})|{_SLASH}|{_PLAIN}(?:[eE][-+]?\d{{1,3}})?)"
"""An unsigned number, as a regular expression without groups."""

_CURRENCY = r"(?:US\$|[$€£¥₹]|USD|EUR|GBP)?"
# Single character classes, one after the other: a long unit takes no longer than its length.
_NO_UNIT = r"(?!\s*(?:pi|sqrt|sin|cos|tan|log|ln|exp)(?![a-z]))"
_UNIT = (
    rf"{_NO_UNIT}(?:[-\s]?[A-Za-zµ°]{{2,}}|\s?°[CF]?|\s[mgshlLKVWAN](?![A-Za-z]))"
    r"[A-Za-zµ°²³\s./*·^-]*(?:(?<=[A-Za-z^])[23])?"
)
_WHOLE = re.compile(
    rf"(?P<sign>[-+]?)\s*{_CURRENCY}\s*(?P<sign2>[-+]?)\s*(?P<number>{NUMBER})\s*(?P<percent>%|percent\b|)"
    rf"(?:{_UNIT})?"
)
_FRAC_PARTS = re.compile(r"^(\d*)\s*\\frac\s*(?:\{\s*(\d+)\s*\}|(\d))\s*(?:\{\s*(\d+)\s*\}|(\d))$")


@dataclass(frozen=True, slots=True)
class Number:
    """A number as it was written."""

    value: Fraction
    """What stands before a percent sign, not divided by 100."""
    percent: bool = False


def read_number(text: str) -> Number | None:
    """Return the number that the whole of `text` is, a unit aside; None if it is none."""
    if len(text) > MAX_LENGTH:
        return None
    match = _WHOLE.fullmatch(text)
    if match is None:
        return None
    value = _value(match["number"])
    if value is None:
        return None
    negative = "-" in match["sign"] + match["sign2"]
    return Number(-value if negative else value, bool(match["percent"]))


def same_number(a: Number, b: Number, tolerance: float) -> bool:
    """Return whether two numbers are equal, up to a relative `tolerance`.

    Where one of them alone has a percent sign, it is read both ways: 50% equals 0.5, and 50% equals 50, as
    the answer to "how many percent?" is given with and without the sign.
    """
    if a.percent == b.percent:
        return _close(a.value, b.value, tolerance)
    with_sign, plain = (a, b) if a.percent else (b, a)
    return any(_close(v, plain.value, tolerance) for v in (with_sign.value, with_sign.value / 100))


def _close(a: Fraction, b: Fraction, tolerance: float) -> bool:
    return a == b or abs(a - b) <= Fraction(tolerance) * max(abs(a), abs(b))


def _value(text: str) -> Fraction | None:
    """Return an unsigned number's value; None for a fraction over 0."""
    if match := _FRAC_PARTS.match(text):
        parts = [int(match[1] or 0), *(int(p) for p in match.groups()[1:] if p is not None)]
    elif "/" in text:
        parts = [int(p) for p in re.findall(r"\d+", text)]
    else:
        return Fraction(text.replace(",", ""))
    *whole, above, below = parts
    return sum(whole) + Fraction(above, below) if below else None
