"""Which words: required, forbidden, counted, first and last."""

from collections.abc import Sequence

from rmbench.errors import ConfigError
from rmbench.verifiers.base import VERIFIERS, find_phrase, straight, within

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
    """The reply ends with `text`, in any case; after a word, final punctuation is let through."""
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
    """The reply gets to the point: no `Sure`, no `Here is`, and no first line that ends with a colon."""
    first = straight(response).strip().split("\n")[0].rstrip(" *_")
    return not first.endswith(":") and not any(starts_with(first, text=text) for text in _PREAMBLES)


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ConfigError("expected a text that is not blank")
    return straight(text).strip().casefold()
