"""Closed answers: a number, a name, an exact text."""

import math
import re
import unicodedata
from collections.abc import Sequence

from rmbench.errors import ConfigError
from rmbench.verifiers.base import VERIFIERS, find_phrase, straight
from rmbench.verifiers.counts import split_words

# A minus sign counts only where no term stands before it: `7-5` holds 7 and 5.
_NUMBER = re.compile(
    r"(?:(?<=[\s(=:$])|^)[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?"
)


def find_numbers(text: str) -> list[float]:
    """Return the numbers written in digits, in order; `1,000` is one number, `1, 2` are two."""
    return [float(re.sub(r"[,$]", "", match).replace("−", "-")) for match in _NUMBER.findall(text)]


@VERIFIERS.register("number")
def number(response: str, *, value: float, spelled: str | None = None) -> bool:
    """The last number in digits is `value`; without digits, the word `spelled`, if given, occurs.

    The last number is the usual reading of a worked answer (as for GSM8K, Cobbe et al. 2021).
    """
    numbers = find_numbers(response)
    if numbers:
        return math.isclose(numbers[-1], value, rel_tol=1e-9, abs_tol=1e-9)
    return spelled is not None and bool(find_phrase(response, spelled))


@VERIFIERS.register("number_only")
def number_only(response: str) -> bool:
    """The reply is one number in digits; a final period is let through."""
    return bool(re.fullmatch(r"[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?\.?", response.strip()))


@VERIFIERS.register("answer")
def answer(response: str, *, accepted: Sequence[str], max_words: int | None = None) -> bool:
    """One of `accepted` occurs on word boundaries, accents and case aside, in at most `max_words` words.

    The limit keeps a reply that names every candidate from being right.
    """
    if isinstance(accepted, str) or not accepted:
        raise ConfigError(f"answer needs a non-empty list of accepted answers, got {accepted!r}")
    if max_words is not None and len(split_words(response)) > max_words:
        return False
    text = _without_accents(response)
    return any(find_phrase(text, _without_accents(candidate)) for candidate in accepted)


@VERIFIERS.register("equals")
def equals(response: str, *, text: str, exact: bool = False) -> bool:
    """The reply is `text`: to the character if `exact` (surrounding whitespace aside), else normalised.

    Normalised: case, runs of whitespace, and quotation marks or `.!?` around the whole do not matter.
    """
    if exact:
        return response.strip() == text
    return _normalised(response) == _normalised(text)


def _normalised(text: str) -> str:
    return " ".join(straight(text).casefold().split()).strip(" .!?\"'`*")


def _without_accents(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))
