r"""`math`: the answer of a solution, compared with the expected one as a value.

The answer is the content of the last `\boxed{}`. Without one, it comes from the last phrase that names an
answer (a JSON key `answer`, `#### 42`, "the answer is 42"): its first number after its last `=`. Else it is
the last number of the text.

Numbers are compared as exact fractions, anything else as formulas by sympy, in a separate process with limits
on time and memory. The rules follow the usual reading of worked solutions (GSM8K, Cobbe et al. 2021; MATH,
Hendrycks et al. 2021); no published checker is copied.

    >>> read_number(r"\frac12") == read_number("0.5")
    True

Numbers may be written `1,234`, `-3.50`, `.5`, `2e3`, `3/4`, `1 1/2`, `\frac{3}{4}` or `\frac12`, with a
currency before, and a percent sign or a unit after. The length of the text bounds all computation.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from rmbench.errors import ConfigError
from rmbench.gold.algebra import same_value
from rmbench.gold.bounded import Bounded, OutOfLimits
from rmbench.gold.verifier import NO_ANSWER, Verdict, needed, register_verifier
from rmbench.types import GoldKind

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
    """A number, as written."""

    value: Fraction
    """The number before a percent sign, not divided by 100."""
    percent: bool = False


def read_number(text: str) -> Number | None:
    """Return the number that the whole `text` writes, without its unit; None if it is not a number."""
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

    If only one of them has a percent sign, it is read both ways: 50% equals 0.5, and 50% equals 50, because
    answers to "how many percent?" come with and without the sign.
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


MAX_FORMULA = 200
"""Most characters of a formula that sympy compares; a longer one is compared as text."""

_MAX_BOXES = 20
_BOX = re.compile(r"\\(?:boxed|fbox)\s*")
# A minus sign counts only where no term stands before it: `7-5` holds 7 and 5.
_LAST = re.compile(rf"(?:(?<![\w)\]}}.%$])[-−]\$?)?{NUMBER}\s?(?:\\?%)?")
_CALLED = re.compile(
    r'"(?:final[_ ]?)?answer"\s*:\s*(?:"(?P<text>(?:[^"\\]|\\.)*)"|(?P<bare>[^",{}\[\]\n]+))'
    r"|####(?P<hashes>[^\n]+)|\banswer(?:\s+is\b|:)[*\s]{0,4}(?::\s?)?(?P<prose>[^\n]+)",
    re.IGNORECASE,
)
_REPLACED = (
    ("−", "-"), ("–", "-"), ("{,}", ","), (r"\$", "$"), (r"\%", "%"), (r"\dfrac", r"\frac"),
    (r"\tfrac", r"\frac"),
    (r"\left", ""), (r"\right", ""), (r"\!", ""), (r"\,", ""), (r"\;", " "), (r"\:", " "), ("\\ ", " "),
    ("~", " "), (r"^\circ", "°"), (r"^{\circ}", "°"), (r"\degree", "°"),
)  # fmt: skip
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{([^{}]*)\}(?:\^\{?[23]\}?)?")
_NAMED = re.compile(r"^\s*[A-Za-z](?:\([A-Za-z]\))?\s*(?:=(?!=)|\\in\b)")
_NAMED_ALIKE = re.compile(r"([A-Za-z])\s*=[^=,]+(?:,\s*\1\s*=[^=,]+)+")  # x = 1, x = 2
_AND = re.compile(r"\s*\\(?:text|textbf|mathrm|mathbf|mbox)\s*\{\s*(?:and|or)\s*\}\s*|\s+(?:and|or)\s+")
_WORD = re.compile(r"[A-Za-z][A-Za-z ]+[A-Za-z]")
_SENTENCE = re.compile(r"[A-Za-z]{2,} [A-Za-z]{2,}")


@register_verifier("math")
class Math:
    """The answer equals the item's `answer`: numbers exactly, formulas by sympy; units are ignored.

    Args:
        tolerance: Relative difference of two numbers that still counts as equal.
        seconds: Time limit of one comparison of formulas; beyond it the gold is unknown.
    """

    version = "2"
    gold_kind: GoldKind = "label"

    def __init__(self, tolerance: float = 0.0, seconds: float = 10.0) -> None:
        if not 0.0 <= tolerance < 1.0:
            raise ConfigError(f"tolerance is {tolerance:g}; expected a number from 0 and below 1")
        self._tolerance = tolerance
        self.algebra = Bounded(same_value, seconds)
        """The process that compares formulas."""

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 if the answers are equal, 0 if they differ or the response has no answer."""
        wanted = clean(str(needed(expected, "answer")))
        found = find_answer(response)
        if found is None:
            return Verdict(0.0, NO_ANSWER)
        try:
            return Verdict(float(self._same(clean(found), wanted)))
        except OutOfLimits as error:
            return Verdict(None, str(error))

    def _same(self, found: str, wanted: str) -> bool:
        if found == wanted:
            return True
        a, b = read_number(found), read_number(wanted)
        if a is not None and b is not None:
            return same_number(a, b, self._tolerance)
        parts_a, parts_b = split_parts(found), split_parts(wanted)
        if len(parts_a) > 1 or len(parts_b) > 1:
            if len(parts_a) != len(parts_b):
                return False
            if parts_a[0] == parts_b[0] == "{":
                return self._same_set(parts_a[1:-1], parts_b[1:-1])
            return all(map(self._same, parts_a, parts_b))
        # Letters side by side are a product: "even" would equal "neve", and "from 0 to 8" any text with a 0.
        are_words = _WORD.fullmatch(found) and _WORD.fullmatch(wanted)
        if are_words or _SENTENCE.search(found) or _SENTENCE.search(wanted):
            return False
        if max(len(found), len(wanted)) > MAX_FORMULA:
            return False
        return bool(self.algebra.ask(found, wanted))

    def _same_set(self, found: list[str], wanted: list[str]) -> bool:
        """Return whether the parts of two lists can be matched one to one, in any order."""
        left = list(wanted)
        for part in found:
            place = next((k for k, other in enumerate(left) if self._same(part, other)), None)
            if place is None:
                return False
            left.pop(place)
        return True


def find_answer(text: str) -> str | None:
    r"""Return the answer of a response, by the rules above; None without one."""
    for match in reversed(list(_BOX.finditer(text))[-_MAX_BOXES:]):
        inside = _braces(text, match.end())
        if inside is not None and inside.strip():
            return inside
    for match in reversed(list(_CALLED.finditer(text))):
        called = next(group for group in match.groups() if group is not None)
        numbers = _LAST.findall(called.rpartition("=")[2]) or _LAST.findall(called)
        if numbers:
            return str(numbers[0])
        if match["text"] and match["text"].strip():
            return str(match["text"])  # "cannot be determined" is an answer that no number equals
    found = _LAST.findall(text)
    return str(found[-1]) if found else None


def clean(answer: str) -> str:
    """Return an answer without parts that do not change its value: spacing, dollar signs around it, `x =`."""
    text = answer.strip()
    for old, new in _REPLACED:
        text = text.replace(old, new)
    text = _AND.sub(", ", text)
    inner = _WORDS.sub(r" ", text).strip()
    # Words beside a value are its unit; words alone are the answer.
    text = inner if re.search(r"[\d\\]", inner) else _WORDS.sub(r"\1", text)
    text = text.strip().strip("*`_ ").rstrip(".,;: ")
    for left, right in (("$$", "$$"), ("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(left) and text.endswith(right) and len(text) >= len(left) + len(right):
            text = text[len(left) : -len(right)].strip()
    if alike := _NAMED_ALIKE.fullmatch(text):
        text = re.sub(rf"\b{alike[1]}\s*=", "", text)
    return " ".join(_NAMED.sub("", text).split())


def split_parts(text: str) -> list[str]:
    r"""Return the parts between commas with their brackets, `(`, `1`, `2`, `)`; else the whole text.

    A list without brackets, `1, 2`, gets those of a set, `\{1, 2\}`.
    """
    if read_number(text) is not None:  # 1,234
        return [text]
    for opening, closing in ((r"\{", r"\}"), ("(", ")"), ("(", "]"), ("[", ")"), ("[", "]"), ("", "")):
        if not (text.startswith(opening) and text.endswith(closing)):
            continue
        parts = _between_commas(text[len(opening) : len(text) - len(closing)])
        if parts is not None and len(parts) > 1:
            return [opening.strip("\\") or "{", *(p.strip() for p in parts), closing.strip("\\") or "}"]
    return [text]


def _between_commas(text: str) -> list[str] | None:
    """Return the parts between commas outside of brackets; None if brackets do not match."""
    parts, depth = [""], 0
    for char in text:
        depth += (char in "([{") - (char in ")]}")
        if depth < 0:
            return None
        if char == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return parts


def _braces(text: str, start: int) -> str | None:
    """Return the text between the brace at `start` and its closing brace; None without a closing brace."""
    if text[start : start + 1] != "{":
        return None
    depth = 0
    for place in range(start, len(text)):
        char = text[place]
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return text[start + 1 : place]
    return None
