"""Rewards files: reading their rows, which are not trusted even where their hash is right."""

from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from rmbench.core.files import iter_jsonl
from rmbench.errors import DataError
from rmbench.types import GOLD_KINDS, LARGEST_GOLD

_MOST = 2**53
"""Counts and lengths beyond which a float64 is no longer exact."""


def read_rewards(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a rewards file.

    Raises:
        DataError: With line and key, if the file cannot be read, a row is not as `rmbench eval` writes it,
            two rows have one id, or some rows alone have `flips`.
    """
    rows, lines = list[dict[str, Any]](), dict[str, int]()
    for line, row in iter_jsonl(path):
        if (wrong := _wrong(row)) is not None:
            raise _bad(path, line, wrong[1], wrong[0])
        if (first := lines.setdefault(row["id"], line)) != line:
            raise _bad(path, line, f"{row['id']!r} is the id of line {first} already", "id")
        if rows and ("flips" in row) != ("flips" in rows[0]):
            raise _bad(path, line, "is in some rows, and not in others", "flips")
        rows.append(row)
    if not rows:
        raise DataError("the rewards file is empty", path=path)
    return rows


def _bad(path: Path, line: int, problem: str, key: str) -> DataError:
    return DataError(f"{problem}; evaluate the model again", path=path, line=line, key=key or None)


def _wrong(row: Any) -> tuple[str, str] | None:
    """Return the key of a stored row that does not fit, and why; None for a row that fits."""
    if not isinstance(row, dict):
        return "", f"{type(row).__name__}; expected an object"
    for key, (fits, expected) in _KEYS.items():
        if key not in row and key not in _OPTIONAL:
            return key, "the key is missing"
        if key in row and not fits(row[key]):
            return key, f"{str(row[key])[:40]!r}; expected {expected}"
    if not row["rewards"]:
        return "rewards", "empty; expected one per response"
    for key in ("gold", "lengths", "logprobs"):
        if key in row and len(row[key]) != len(row["rewards"]):
            return key, f"{len(row[key])} values; expected one per response, {len(row['rewards'])}"
    if ("flips" in row) != ("comparisons" in row):
        return "comparisons", "expected with 'flips', and never without"
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(v is None or _is_number(v) for v in values)


def _are_counts(values: Any) -> bool:
    return isinstance(values, list) and all(map(_is_count, values))


def _are_strata(values: Any) -> bool:
    return isinstance(values, Mapping) and all(map(_is_text, values.values()))


_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_is_text, "text"),
    "rewards": (_are_numbers, "a list of numbers or null"),
    "gold": (
        lambda v: _are_numbers(v) and all(g is None or abs(g) <= LARGEST_GOLD for g in v),
        f"a list of numbers up to {LARGEST_GOLD:g}, or null",
    ),
    "lengths": (_are_counts, "a list of whole numbers"),
    "cluster": (_is_text, "text"),
    "strata": (_are_strata, "a mapping of text to text"),
    "gold_kind": (lambda v: v in GOLD_KINDS, " or ".join(GOLD_KINDS)),
    "logprobs": (
        lambda v: _are_numbers(v) and all(p is None or p <= 0 for p in v),
        "a list of numbers up to 0, or null",
    ),
    "votes": (lambda v: _are_counts(v) and len(v) == 3, "three whole numbers"),
    "flips": (_is_count, "a whole number"),
    "comparisons": (_is_count, "a whole number"),
    "contradictions": (
        lambda v: _are_counts(v) and len(v) == 2 and v[0] <= v[1],
        "two whole numbers, the first at most the second",
    ),
}
_OPTIONAL = ("logprobs", "votes", "flips", "comparisons", "contradictions")
