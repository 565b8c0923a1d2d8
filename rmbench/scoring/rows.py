"""Rows of a score store: their origins, and the checksum that each is verified by."""

from array import array
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from struct import Struct
from struct import error as StructError  # noqa: N812
from typing import Any, TypeAlias

import numpy as np

from rmbench.core.files import canonical_json, parse_json
from rmbench.core.versions import changed_since
from rmbench.types import Scored

Row: TypeAlias = tuple[Any, Any, Any, Any, Any, Any]
"""Key, reward, tokens, truncated, origin, checksum; all but the key may be of any type in a damaged row."""

_VALUES = Struct(">dqq")
_NONE = -(2**63)


@dataclass(frozen=True, slots=True)
class _Origin:
    versions: Mapping[str, str]
    run: str
    hasher: Any
    """Has taken the model's fingerprint and these; a row's checksum goes on from it."""
    is_other: bool
    """Other versions than the installed ones."""
    found: "array[int]" = field(default_factory=lambda: array("q"))
    """Checksums of rows that were found, if `is_other`: some more than once."""


class Origins:
    """Origins of a store's rewards: versions of libraries, and the name of a fresh run.

    The number of an origin is a hash of it, so that processes number alike and damage is seen.

    Args:
        identity: The model's fingerprint as canonical JSON.
    """

    def __init__(self, identity: str) -> None:
        self._identity = identity
        self._known: dict[int, _Origin] = {}

    def add(self, versions: Mapping[str, str], run: str) -> tuple[int, str, str]:
        """Return the row (number, versions, run) of an origin."""
        number, seed = self._numbered(versions, run)
        if number not in self._known:
            hasher = blake2b(seed, digest_size=8)
            self._known[number] = _Origin(versions, run, hasher, bool(changed_since(versions)))
        return number, canonical_json(dict(versions)), run

    def read(self, rows: Iterable[tuple[Any, Any, Any]]) -> None:
        """Take the rows of the store's table, texts as bytes; damaged ones are left out."""
        for number, text, run in rows:
            try:
                versions, name = parse_json(text), run.decode()
            except (AttributeError, TypeError, ValueError):
                continue
            is_valid = isinstance(versions, dict) and all(isinstance(v, str) for v in versions.values())
            if is_valid and self._numbered(versions, name)[0] == number:
                self.add(versions, name)

    def __contains__(self, number: object) -> bool:
        return number in self._known

    def _numbered(self, versions: Mapping[str, str], run: str) -> tuple[int, bytes]:
        seed = canonical_json([self._identity, dict(versions), run]).encode("utf-8", "surrogatepass")
        return int.from_bytes(blake2b(seed, digest_size=4).digest(), "big", signed=True), seed

    def run(self, number: int) -> str:
        """Return the name of an origin's fresh run; empty where it was none."""
        return self._known[number].run

    def row(self, key: str, scored: Scored, number: int) -> Row:
        """Return the row of a reward, with its checksum."""
        # SQLite keeps no sign of zero: -0.0 would come back as 0.0.
        reward = scored.reward + 0.0
        truncated = None if scored.truncated is None else int(scored.truncated)
        checksum = _checksum(self._known[number].hasher, key, reward, scored.n_tokens, truncated)
        return key, reward, scored.n_tokens, truncated, number, checksum

    def scored(self, row: Row) -> Scored | None:
        """Return the reward of a row; None if the row is damaged, or its origin is not known."""
        _, reward, n_tokens, truncated, number, _ = row
        origin = self._known.get(number)
        if origin is None or not isinstance(reward, float) or not is_whole(origin.hasher, row):
            return None
        return Scored(reward, n_tokens, None if truncated is None else bool(truncated))

    def note(self, row: Row) -> None:
        """Count a whole row that was found, if other versions than the installed ones made it."""
        if (origin := self._known[row[4]]).is_other:
            origin.found.append(row[5])

    def found_others(self) -> Iterator[tuple[dict[str, str], int]]:
        """Yield the versions that are not the installed ones, with the number of different rewards found."""
        for origin in self._known.values():
            if n := len(np.unique(np.frombuffer(origin.found, dtype=np.int64))) if origin.found else 0:
                yield dict(origin.versions), n


def is_whole(hasher: Any, row: Row) -> bool:
    """Say whether a row's checksum is that of its key and values; `hasher` is its origin's."""
    key, reward, n_tokens, truncated, _, checksum = row
    try:
        return bool(_checksum(hasher, key, reward, n_tokens, truncated) == checksum)
    except StructError:  # text or bytes where a number belongs
        return False


def _checksum(hasher: Any, key: str, reward: float, n_tokens: int | None, truncated: int | None) -> int:
    own = hasher.copy()
    values = _VALUES.pack(
        reward, _NONE if n_tokens is None else n_tokens, _NONE if truncated is None else truncated
    )
    own.update(values + key.encode())
    return int.from_bytes(own.digest(), "big", signed=True)
