"""Canonical JSON, and the identity hashes made of it.

The same value has the same bytes in every process, version and locale: sorted keys, no spaces, UTF-8,
no NaN. A hash of it is an identity, so nothing here may change without a new IDENTITY_VERSION.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

from rmbench.types import Turn

IDENTITY_VERSION = 1


def canonical_json(value: Any) -> str:
    """Return `value` as canonical JSON. Raises ValueError on NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any, length: int = 64) -> str:
    """Return the first `length` hex digits of the SHA-256 of the canonical JSON of `value`."""
    # surrogatepass: a lone surrogate is legal in JSON text, and must have an identity like any other string.
    raw = canonical_json(value).encode("utf-8", "surrogatepass")
    return hashlib.sha256(raw).hexdigest()[:length]


def conversation_key(turns: Sequence[Turn]) -> str:
    """Return the identity of a conversation: role and content of each turn, 32 hex digits."""
    return digest([[t["role"], t["content"]] for t in turns], 32)


def pair_key(prompt: Sequence[Turn], first: str, second: str) -> str:
    """Return the identity of an ordered pair of replies, 32 hex digits."""
    return digest(["pair", [[t["role"], t["content"]] for t in prompt], first, second], 32)


def prompt_cluster(prompt: Sequence[Turn]) -> str:
    """Return the default cluster of an item: its prompt's identity, 16 hex digits."""
    return conversation_key(prompt)[:16]


def in_part(cluster: str, part: tuple[float, float] | None) -> bool:
    """Say whether a cluster's hash, as a number in [0, 1), lies in [low, high): a lasting split by prompt.

    The same prompt falls on the same side in every file, whatever else the file holds.
    """
    if part is None:
        return True
    place = int(digest(["part", cluster], 12), 16) / 16**12
    return part[0] <= place < part[1]


def slug(name: str) -> str:
    """Return `name` as one safe path component: letters, digits, `.`, `_`, `-`; never empty, `.` or `..`.

    A name that had to be changed gets eight digits of its hash, so two names never share a folder.
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_name).strip("._-")[:80]
    if safe == name and safe:
        return safe
    return f"{safe or 'x'}-{digest(name, 8)}"
