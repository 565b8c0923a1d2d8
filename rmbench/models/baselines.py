"""Baselines: rules that do not understand the text, as a floor for every table."""

import hashlib
import re
from collections.abc import Mapping, Sequence

from rmbench.core.files import conversation_key
from rmbench.errors import ConfigError
from rmbench.models.messages import text_alone
from rmbench.models.runtime import Runtime
from rmbench.types import Conversation


class Length:
    """Prefers the longer response: reward is its number of characters (Unicode code points)."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return the rule's name and version."""
        return {"kind": "baseline", "name": "length", "version": "1"}

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        """Return the characters of each last turn; equal lengths tie."""
        return [float(len(_reply(turns))) for turns in batch]


class Shortest:
    """Prefers the shorter response: reward is minus its number of characters."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return the rule's name and version."""
        return {"kind": "baseline", "name": "shortest", "version": "1"}

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        """Return minus the characters of each last turn; equal lengths tie."""
        return [-float(len(_reply(turns))) for turns in batch]


_MARKDOWN = re.compile(
    r"""
      ^[ ]{0,3}\#{1,6}[ ]             # a heading
    | ^[ ]*(?:[-*+]|\d{1,9}[.)])[ ]   # an item of a list
    | ^[ ]*(?:```|~~~)                # the beginning or end of a block of code
    | ^[ ]*\|.*\|[ ]*$               # a row of a table
    | ^[ ]{0,3}>[ ]                   # a quotation
    | \*\*(?=\S)[^*\n]+\*\*          # bold
    | (?<!`)`(?!`)[^`\n]+`(?!`)       # code in a line
    """,
    re.MULTILINE | re.VERBOSE,
)


class Markdown:
    """Prefers the response with more Markdown: reward is its marks (headings, items, bold, code) per word."""

    def fingerprint(self) -> Mapping[str, str]:
        """Return the rule's name and version."""
        return {"kind": "baseline", "name": "markdown", "version": "1"}

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        """Return the density of each last turn; texts without a mark tie at 0."""
        return [_density(_reply(turns)) for turns in batch]


def _density(text: str) -> float:
    marks = sum(1 for _ in _MARKDOWN.finditer(text))
    return marks / max(1, len(text.split()))


class Random:
    """Chance: reward is uniform in [0, 1), a pure function of the seed and the conversation.

    The order of items and the batches therefore do not matter, and duplicates of a text tie.

    Args:
        seed: Any whole number; the run's own seed where it is not given.
        runtime: Options of the run; its seed is the default.
    """

    def __init__(self, seed: int | None = None, runtime: Runtime | None = None) -> None:
        self.seed = seed if seed is not None else (runtime or Runtime()).seed

    def fingerprint(self) -> Mapping[str, str]:
        """Return the rule's name, version and seed."""
        return {"kind": "baseline", "name": "random", "version": "1", "seed": str(self.seed)}

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        """Return one uniform number per conversation, with 53 random bits."""
        return [self._draw(conversation_key(turns)) for turns in batch]

    def _draw(self, key: str) -> float:
        raw = hashlib.sha256(f"{self.seed}:{key}".encode()).digest()
        return (int.from_bytes(raw[:8], "big") >> 11) / 2**53


def _reply(turns: Conversation) -> str:
    text_alone(turns[-1:], "a rule about texts")
    return turns[-1]["content"]


class Constant:
    """Indifference: the same reward for everything, so that every comparison is a tie.

    Args:
        value: The reward, any finite number.
    """

    def __init__(self, value: float = 0.0) -> None:
        if value != value or value in (float("inf"), float("-inf")):
            raise ConfigError(f"constant: option 'value' is {value}; expected a finite number")
        self.value = value

    def fingerprint(self) -> Mapping[str, str]:
        """Return the rule's name, version and value."""
        return {"kind": "baseline", "name": "constant", "version": "1", "value": repr(self.value)}

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        """Return the value for each conversation."""
        return [self.value] * len(batch)
