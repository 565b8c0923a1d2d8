"""Checks of wording: required, forbidden and counted words, first and last ones.

The module also checks closed answers (a number, a name, an exact text) and form (letter case, quotation
marks, separated and ordered items).
"""

import math
import re
import unicodedata
from collections.abc import Sequence

from rmbench.errors import ConfigError
from rmbench.gold.instruction.counts import (
    VERIFIERS,
    find_phrase,
    split_items,
    split_lines,
    split_words,
    straight,
    within,
)

_PREAMBLES = (
    "sure",
    "certainly",
    "of course",
    "okay",
    "ok",
    "absolutely",
    "great",
    "here is",
    "here are",
    "here's",
)


def _as_list(words: Sequence[str]) -> Sequence[str]:
    if isinstance(words, str) or not words:
        raise ConfigError(f"expected a non-empty list of words, got {words!r}")
    return words


@VERIFIERS.register("contains")
def contains(response: str, *, words: Sequence[str], match_case: bool = False) -> bool:
    """Every one of `words` (or phrases) occurs, on word boundaries."""
    return all(find_phrase(response, word, match_case=match_case) for word in _as_list(words))


@VERIFIERS.register("contains_any")
def contains_any(response: str, *, words: Sequence[str], match_case: bool = False) -> bool:
    """At least one of `words` occurs, on word boundaries."""
    return any(find_phrase(response, word, match_case=match_case) for word in _as_list(words))


@VERIFIERS.register("avoids")
def avoids(response: str, *, words: Sequence[str], match_case: bool = False) -> bool:
    """None of `words` occurs on word boundaries (`snowy` does not break a ban on `snow`)."""
    return not any(find_phrase(response, word, match_case=match_case) for word in _as_list(words))


@VERIFIERS.register("word_frequency")
def word_frequency(
    response: str,
    *,
    word: str,
    at_least: int | None = None,
    at_most: int | None = None,
    exactly: int | None = None,
    match_case: bool = False,
) -> bool:
    """The number of occurrences of `word` is within the bounds."""
    return within(len(find_phrase(response, word, match_case=match_case)), at_least, at_most, exactly)


@VERIFIERS.register("avoids_characters")
def avoids_characters(response: str, *, characters: str) -> bool:
    """None of the characters of `characters` occurs."""
    if not characters:
        raise ConfigError("avoids_characters needs at least one character")
    return not set(characters) & set(response)


@VERIFIERS.register("starts_with")
def starts_with(response: str, *, text: str, whole_word: bool = True) -> bool:
    """The reply begins with `text`, in any case; `The` does not begin `Then` unless `whole_word` is off."""
    start = straight(response).lstrip().casefold()
    wanted = _not_blank(text)
    if not start.startswith(wanted):
        return False
    following = start[len(wanted) : len(wanted) + 1]
    return not (whole_word and wanted[-1].isalnum() and following.isalnum())


@VERIFIERS.register("ends_with")
def ends_with(response: str, *, text: str) -> bool:
    """The reply ends with `text`, in any case; after a word, final punctuation is allowed."""
    wanted = _not_blank(text)
    end = straight(response).rstrip().casefold()
    if wanted[-1].isalnum():
        end = end.rstrip(" .,!?;:\"')*_")
    if not end.endswith(wanted):
        return False
    before = end[: -len(wanted)][-1:]
    return not (wanted[0].isalnum() and before.isalnum())


@VERIFIERS.register("no_preamble")
def no_preamble(response: str) -> bool:
    """The reply has no preamble: no `Sure`, no `Here is`, and no first line that ends with a colon."""
    first = straight(response).strip().split("\n")[0].rstrip(" *_")
    return not first.endswith(":") and not any(starts_with(first, text=text) for text in _PREAMBLES)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ConfigError("expected a text that is not blank")
    return straight(text).strip().casefold()


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
    """The reply is one number in digits; a final period is allowed."""
    return bool(re.fullmatch(r"[-−]?\$?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?\.?", response.strip()))


@VERIFIERS.register("answer")
def answer(response: str, *, accepted: Sequence[str], max_words: int | None = None) -> bool:
    """One of `accepted` occurs on word boundaries in a reply of at most `max_words` words.

    Case and accents are ignored. Because of the limit, a reply that names every candidate is wrong.
    """
    if isinstance(accepted, str) or not accepted:
        raise ConfigError(f"answer needs a non-empty list of accepted answers, got {accepted!r}")
    if max_words is not None and len(split_words(response)) > max_words:
        return False
    text = _without_accents(response)
    return any(find_phrase(text, _without_accents(candidate)) for candidate in accepted)


@VERIFIERS.register("equals")
def equals(response: str, *, text: str, exact: bool = False) -> bool:
    """The reply is `text`: every character if `exact` (except surrounding whitespace), else normalised.

    Normalised text ignores case, runs of whitespace, and quotation marks or `.!?` around the whole.
    """
    if exact:
        return response.strip() == text
    return _normalised(response) == _normalised(text)


def _normalised(text: str) -> str:
    return " ".join(straight(text).casefold().split()).strip(" .!?\"'`*")


def _without_accents(text: str) -> str:
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char))


_ARTICLES_AND_CONJUNCTIONS = {"a", "an", "the", "and", "as", "but", "nor", "or", "so", "yet"}
_PREPOSITIONS = {"at", "by", "for", "from", "in", "into", "of", "on", "over", "to", "up", "via", "vs", "with"}
_SMALL_WORDS = _ARTICLES_AND_CONJUNCTIONS | _PREPOSITIONS


@VERIFIERS.register("lowercase")
def lowercase(response: str) -> bool:
    """There are letters, and none is a capital."""
    return response.islower()


@VERIFIERS.register("uppercase")
def uppercase(response: str) -> bool:
    """There are letters, and all are capitals."""
    return response.isupper()


@VERIFIERS.register("title_case")
def title_case(response: str) -> bool:
    """Every word starts with a capital or a digit; articles and short prepositions inside may be small."""
    starts = [re.sub(r"^\W+", "", word) for word in split_words(response)]
    inner = starts[1:-1]
    ends = starts[:1] + starts[-1:]
    return (
        any(char.isupper() for char in response)
        and all(_capitalised(word) for word in ends)
        and all(_capitalised(word) or re.sub(r"\W+$", "", word) in _SMALL_WORDS for word in inner)
    )


def _capitalised(word: str) -> bool:
    return word[:1].isupper() or word[:1].isdigit()


@VERIFIERS.register("capitalized_lines")
def capitalized_lines(response: str) -> bool:
    """The first character of every line that is not blank is a capital letter."""
    lines = split_lines(response)
    return bool(lines) and all(line.strip()[0].isupper() for line in lines)


@VERIFIERS.register("quoted")
def quoted(response: str) -> bool:
    """The whole reply is between one pair of double quotation marks."""
    text = straight(response).strip()
    return len(text) > 2 and text[0] == text[-1] == '"' and '"' not in text[1:-1]


@VERIFIERS.register("separated")
def separated(
    response: str,
    *,
    by: str,
    at_least: int | None = None,
    at_most: int | None = None,
    exactly: int | None = None,
) -> bool:
    """Split at `by`, the reply has a number of parts within the bounds, none of them blank."""
    if not by:
        raise ConfigError("separated needs a separator that is not empty")
    parts = [part.strip() for part in response.strip().rstrip(".").split(by)]
    return all(parts) and within(len(parts), at_least, at_most, exactly)


def split_entries(response: str) -> list[str]:
    """Return the listed things: list items, else lines, else the parts between `;` or `,` or `/`."""
    entries = split_items(response)
    if len(entries) < 2:
        entries = split_lines(response)
    for separator in (";", ",", "/"):
        if len(entries) < 2:
            entries = response.split(separator)
    cleaned = (entry.strip(" \t\r\n.*_\"'").casefold() for entry in entries)
    return [entry for entry in cleaned if entry]


@VERIFIERS.register("alphabetical")
def alphabetical(response: str) -> bool:
    """Two things or more are listed, in alphabetical order; case is ignored."""
    entries = split_entries(response)
    return len(entries) > 1 and entries == sorted(entries)


@VERIFIERS.register("distinct_items")
def distinct_items(response: str) -> bool:
    """Two things or more are listed, and none twice; case is ignored."""
    entries = split_entries(response)
    return len(entries) > 1 and len(set(entries)) == len(entries)
