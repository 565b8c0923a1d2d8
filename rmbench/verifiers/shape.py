"""What it looks like: letter case, quotation marks, separated and ordered items."""

import re

from rmbench.errors import ConfigError
from rmbench.verifiers.base import VERIFIERS, straight, within
from rmbench.verifiers.counts import split_items, split_lines, split_words

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
    """The whole reply stands between one pair of double quotation marks."""
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
    """Return the things listed: list items, else lines, else what stands between `;` or `,` or `/`."""
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
    """Two things or more are listed, in alphabetical order, whatever their case."""
    entries = split_entries(response)
    return len(entries) > 1 and entries == sorted(entries)


@VERIFIERS.register("distinct_items")
def distinct_items(response: str) -> bool:
    """Two things or more are listed, and none twice, whatever their case."""
    entries = split_entries(response)
    return len(entries) > 1 and len(set(entries)) == len(entries)
