"""`exact` and `regex`: the text itself."""

import re
from collections.abc import Mapping
from typing import Any

from rmbench.errors import ConfigError
from rmbench.types import GoldKind
from rmbench.verifiers.bounded import Bounded, OutOfLimits
from rmbench.verifiers.verdicts import Verdict, needed


class Exact:
    """The response is the item's `answer`, to the character.

    Args:
        strip: Leave whitespace around both aside.
        ignore_case: Leave the case of letters aside.
    """

    version = "1"
    gold_kind: GoldKind = "label"

    def __init__(self, strip: bool = True, ignore_case: bool = False) -> None:
        self._strip, self._ignore_case = strip, ignore_case

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 where both are equal, else 0."""
        return Verdict(float(self._plain(response) == self._plain(str(needed(expected, "answer")))))

    def _plain(self, text: str) -> str:
        text = text.strip() if self._strip else text
        return text.casefold() if self._ignore_case else text


class Regex:
    """A regular expression (Python's) is found in the response: the option's, else the item's `pattern`.

    Args:
        pattern: The expression; none: each item's own.
        whole: It has to match the whole response, whitespace around it aside.
        seconds: Time limit of one search; beyond it the gold is unknown.
    """

    version = "1"
    gold_kind: GoldKind = "label"

    def __init__(self, pattern: str | None = None, whole: bool = False, seconds: float = 5.0) -> None:
        self._pattern, self._whole = pattern, whole
        if pattern is not None:
            compiled(pattern)
        self._search = Bounded("regex", seconds)

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 where it is found, else 0."""
        pattern = str(needed(expected, "pattern")) if self._pattern is None else self._pattern
        try:
            return Verdict(float(self._search.ask(pattern, response, self._whole)))
        except OutOfLimits as error:
            return Verdict(None, str(error))


def compiled(pattern: str) -> re.Pattern[str]:
    """Return a compiled expression.

    Raises:
        ConfigError: If it is none.
    """
    try:
        return re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ConfigError(f"{pattern[:80]!r} is no regular expression: {error}") from None


def search(pattern: str, text: str, whole: bool) -> bool:
    """Return whether `pattern` is found in `text`. Runs inside `rmbench.verifiers.bounded`."""
    expression = compiled(pattern)
    return bool(expression.fullmatch(text.strip()) if whole else expression.search(text))
