"""Verifiers that give gold, and their registry.

A verifier is made from options, and compares one response at a time with its item's expected values. A user's
own verifier is a class with `@register_verifier("my-verifier")` in a file
(`--gold verifier:my_file.py:my-verifier`), or an entry point of another package in the group
`rmbench.verifiers`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from rmbench.core.registry import Registry
from rmbench.errors import ConfigError
from rmbench.types import GoldKind

C = TypeVar("C", bound=type)

NO_ANSWER = "no answer found"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A verifier's gold for one response."""

    gold: float | None
    """Higher is better; None if the verifier could not decide: the gold is then unknown, never 0."""
    reason: str = ""
    """Name under which the verdict is counted, such as "no answer found"; empty for an ordinary one."""


class GoldVerifier(Protocol):
    """A verifier class; the keywords of its constructor are its options.

    Two further members are optional. `same_verdicts` maps an option to values that give the same verdicts;
    they are no part of a run's identity. `provenance()` returns facts for the record that change no verdict.
    """

    version: str
    """Raised when any verdict could change."""
    gold_kind: GoldKind
    """`label` for right and wrong, `graded` for a scale."""

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return the verdict on one response; `expected` are the item's values (see `Item.expected`)."""
        ...


GOLD_VERIFIERS: Registry[Any] = Registry("verifier", group="rmbench.verifiers", homes=("rmbench.gold",))


def register_verifier(name: str) -> Callable[[C], C]:
    """Register a verifier class of your own: `@register_verifier("my-verifier")`."""
    return GOLD_VERIFIERS.register(name)


def find_verifier(name: str) -> tuple[type, dict[str, str]]:
    """Return the verifier class of `name` or `FILE.py:NAME`, and its additions to the identity.

    Raises:
        UnknownNameError: If no verifier has the name; with the nearest name.
        ConfigError: If the file is missing or cannot be imported.
    """
    found, source_sha256 = GOLD_VERIFIERS.find(name, f"--gold verifier:{name}")
    if ".py:" in name:
        return found, {"source_sha256": str(source_sha256)}
    return found, GOLD_VERIFIERS.identity(name)


def needed(expected: Mapping[str, Any], key: str) -> Any:
    """Return `expected[key]`.

    Raises:
        ConfigError: If the item does not have it.
    """
    if expected.get(key) is None:
        raise ConfigError(f"the item has no {key!r}, which this verifier needs")
    return expected[key]
