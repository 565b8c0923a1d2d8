"""The registry of checks, and the checks that count words, sentences, lines, paragraphs, list items."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Protocol

from rmbench.core.registry import Registry
from rmbench.errors import ConfigError


class Verifier(Protocol):
    """A pure function of a reply and keyword parameters."""

    def __call__(self, response: str, **params: Any) -> bool:
        """Return whether `response` follows the instruction."""
        ...


VERIFIERS: Registry[Any] = Registry("verifier")


def verify(response: str, checks: Sequence[Mapping[str, Any]]) -> float:
    """Return the fraction of `checks` that `response` passes, in [0, 1]; an empty response passes none.

    Raises:
        UnknownNameError: If no verifier has a check's name.
        ConfigError: If there are no checks, or one has missing, unknown or invalid parameters.
    """
    results = passes(response, checks)
    return sum(results) / len(results)


def passes(response: str, checks: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return for each check whether `response` passes it. Raises like `verify`."""
    if not checks:
        raise ConfigError("a response cannot be verified against an empty list of checks")
    results = [_run(response, check) for check in checks]
    # After the run, so that a broken check is an error for every response.
    return results if response.strip() else [False] * len(checks)


def _run(response: str, check: Mapping[str, Any]) -> bool:
    params = {key: value for key, value in check.items() if key != "name"}
    if "name" not in check:
        raise ConfigError(f"check {dict(check)!r} has no 'name'; expected the name of a verifier")
    verifier = VERIFIERS.get(check["name"])
    try:
        inspect.signature(verifier).bind(response, **params)
    except TypeError as error:
        raise ConfigError(f"verifier {check['name']!r}: {error}; given {sorted(params)}") from None
    return bool(verifier(response, **params))


def within(count: int, at_least: int | None, at_most: int | None, exactly: int | None) -> bool:
    """Return whether `count` is within the given bounds. Raises ConfigError without a bound."""
    if at_least is None and at_most is None and exactly is None:
        raise ConfigError("a counting verifier needs at_least, at_most or exactly")
    if exactly is not None and count != exactly:
        return False
    return (at_least is None or count >= at_least) and (at_most is None or count <= at_most)


def straight(text: str) -> str:
    """Return `text` with typographic quotes and apostrophes replaced by the plain ones."""
    return text.translate(_STRAIGHT)


_STRAIGHT = str.maketrans({"’": "'", "‘": "'", "“": '"', "”": '"', "„": '"'})


def find_phrase(text: str, phrase: str, *, match_case: bool = False) -> list[str]:
    """Return the occurrences of `phrase` in `text` on word boundaries.

    Any run of whitespace matches a space, and typographic quotes match plain ones.

    Raises:
        ConfigError: If the phrase is blank.
    """
    parts = straight(phrase).split()
    if not parts:
        raise ConfigError("a verifier got a blank phrase to look for; expected text")
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, parts)) + r"(?!\w)"
    return re.findall(pattern, straight(text), 0 if match_case else re.IGNORECASE)


ListStyle = Literal["any", "bullet", "numbered"]

_MARKERS = {
    "bullet": re.compile(r"^\s*[-*•–+]\s+(?=\S)"),
    "numbered": re.compile(r"^\s*\d{1,3}[.)]\s+(?=\S)"),
    "any": re.compile(r"^\s*(?:[-*•–+]|\d{1,3}[.)])\s+(?=\S)"),
}
_ABBREVIATION = re.compile(
    r"\b(mr|mrs|ms|dr|st|prof|jr|sr|vs|etc|e\.g|i\.e|a\.m|p\.m|u\.s|u\.n)\.", re.IGNORECASE
)
_SENTENCE_END = re.compile(r"[.!?…]+[\"'”’)\]*_]*(?=\s|$)")


def split_words(text: str) -> list[str]:
    """Return the runs between whitespace that hold a letter or a digit: `well-known` is one word."""
    return [run for run in text.split() if any(char.isalnum() for char in run)]


def split_lines(text: str) -> list[str]:
    r"""Return the lines that are not blank, split at \n alone."""
    return [line for line in text.split("\n") if line.strip()]


def split_sentences(text: str) -> list[str]:
    """Return the sentences: they end at `.!?…` before whitespace, at list items and at blank lines.

    List markers and common abbreviations (Mr., e.g.) do not end one; text without a terminator is one.
    """
    blocks: list[str] = []
    for paragraph in re.split(r"\n\s*\n", text):
        block = ""
        for line in paragraph.split("\n"):
            item = _MARKERS["any"].sub("", line)
            if item != line:
                blocks.append(block)
                block = ""
            block += " " + item
        blocks.append(block)
    parts = [
        part
        for block in blocks
        for part in _SENTENCE_END.split(_ABBREVIATION.sub(lambda m: m.group(0).replace(".", ""), block))
    ]
    return [part.strip() for part in parts if any(char.isalnum() for char in part)]


def split_items(text: str, style: ListStyle = "any") -> list[str]:
    """Return the list items, without their markers (`-`, `*`, `•`, `1.`, `1)` and a space).

    Raises:
        ConfigError: If the style is unknown.
    """
    if style not in _MARKERS:
        raise ConfigError(f"unknown list style {style!r}; expected any, bullet or numbered")
    marker = _MARKERS[style]
    return [marker.sub("", line).strip() for line in text.split("\n") if marker.match(line)]


@VERIFIERS.register("words")
def words(
    response: str, *, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """The number of words (runs between whitespace with a letter or digit) is within the bounds."""
    return within(len(split_words(response)), at_least, at_most, exactly)


@VERIFIERS.register("sentences")
def sentences(
    response: str, *, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """The number of sentences is within the bounds (see `split_sentences`)."""
    return within(len(split_sentences(response)), at_least, at_most, exactly)


@VERIFIERS.register("characters")
def characters(
    response: str, *, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """The number of characters, surrounding whitespace left out, is within the bounds."""
    return within(len(response.strip()), at_least, at_most, exactly)


@VERIFIERS.register("lines")
def lines(
    response: str, *, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """The number of lines that are not blank is within the bounds."""
    return within(len(split_lines(response)), at_least, at_most, exactly)


@VERIFIERS.register("paragraphs")
def paragraphs(
    response: str, *, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """The number of blocks between blank lines is within the bounds."""
    blocks = [block for block in re.split(r"\n\s*\n", response) if block.strip()]
    return within(len(blocks), at_least, at_most, exactly)


@VERIFIERS.register("list_items")
def list_items(
    response: str,
    *,
    at_least: int | None = None,
    at_most: int | None = None,
    exactly: int | None = None,
    style: ListStyle = "any",
) -> bool:
    """The number of list items of that style is within the bounds."""
    return within(len(split_items(response, style)), at_least, at_most, exactly)


@VERIFIERS.register("item_words")
def item_words(
    response: str, *, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """There is a list, and the number of words of every item is within the bounds."""
    items = split_items(response)
    kept = [within(len(split_words(item)), at_least, at_most, exactly) for item in items]
    return bool(kept) and all(kept)


@VERIFIERS.register("capital_words")
def capital_words(
    response: str, *, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """The number of words in ALL CAPS (two letters or more, so not `I` or `A`) is within the bounds."""
    letters = [[char for char in word if char.isalpha()] for word in split_words(response)]
    n_capital = sum(len(word) > 1 and all(char.isupper() for char in word) for word in letters)
    return within(n_capital, at_least, at_most, exactly)


@VERIFIERS.register("word_length")
def word_length(
    response: str, *, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """The number of letters and digits of every word is within the bounds."""
    sizes = [sum(char.isalnum() for char in word) for word in split_words(response)]
    kept = [within(size, at_least, at_most, exactly) for size in sizes]
    return bool(kept) and all(kept)
