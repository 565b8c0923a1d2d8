"""The registry of verifiers, and how a list of checks becomes a gold value."""

import inspect
import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

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
        ConfigError: If there are no checks, or one has missing, unknown or senseless parameters.
    """
    results = passes(response, checks)
    return sum(results) / len(results)


def passes(response: str, checks: Sequence[Mapping[str, Any]]) -> list[bool]:
    """Return for each check whether `response` passes it. Raises like `verify`."""
    if not checks:
        raise ConfigError("a response cannot be verified against an empty list of checks")
    results = [_run(response, check) for check in checks]
    # After the run, so that a broken check is an error whatever the response is.
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
    """Return whether `count` respects the bounds given. Raises ConfigError when none is."""
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
    """Return the occurrences of `phrase` in `text` that stand on word boundaries.

    Any run of whitespace matches a space, and typographic quotes match plain ones.

    Raises:
        ConfigError: If the phrase is blank.
    """
    parts = straight(phrase).split()
    if not parts:
        raise ConfigError("a verifier was asked to look for a blank phrase")
    pattern = r"(?<!\w)" + r"\s+".join(map(re.escape, parts)) + r"(?!\w)"
    return re.findall(pattern, straight(text), 0 if match_case else re.IGNORECASE)
