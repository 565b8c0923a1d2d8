"""What a run record looks like: its keys, and of what type their values are.

A record is input like any other. Whoever shows one takes a count for a number and a name for text; what is
neither is told here, once, with its key.
"""

from collections.abc import Mapping
from typing import Any

_TEXT, _COUNT, _NUMBER = "text", "a whole number", "a number"
_TOP: Mapping[str, str] = {
    "model": _TEXT, "task": _TEXT, "primary": _TEXT, "identity": "a mapping", "counts": "a mapping",
    "metrics": "a mapping", "undefined": "a mapping", "strata": "a mapping", "curves": "a mapping",
    "files": "a mapping", "provenance": "a mapping",
}  # fmt: skip
_COUNTS: Mapping[str, str] = {
    "items": _COUNT, "items_available": _COUNT, "responses": _COUNT,
    "dropped": "a mapping", "invalid": _COUNT,
}  # fmt: skip
_COUNTS_OR_NONE: Mapping[str, str] = {
    "distinct_texts": _COUNT, "empty": _COUNT, "truncated": _COUNT, "ties": _COUNT, "trained_on": "a mapping",
    "best_of_n": "a mapping", "unanswered": "a mapping",
}  # fmt: skip
_PROVENANCE_OR_NONE: Mapping[str, str] = {
    "time": _TEXT, "model": _TEXT, "data": _TEXT, "command": "a list of texts", "versions": "a mapping",
    "tokens": _NUMBER, "parameters": _COUNT, "tokens_per_s": _NUMBER, "wall_s": _NUMBER,
}  # fmt: skip


def misshapen(raw: Mapping[str, Any]) -> str | None:
    """Return what is wrong with the first value of a record that is of another type, or None."""
    if problem := _first(raw, _TOP, "", needed=True):
        return problem
    counts = raw["counts"]
    return (
        _first(counts, _COUNTS, "counts.", needed=True)
        or _first(counts, _COUNTS_OR_NONE, "counts.", needed=False)
        or _first_count(counts["dropped"], "counts.dropped.")
        or _first_count(counts.get("trained_on") or {}, "counts.trained_on.")
        or _first_count(counts.get("best_of_n") or {}, "counts.best_of_n.")
        or _first_count(counts.get("preference") or {}, "counts.preference.")
        or _first_count(counts.get("unanswered") or {}, "counts.unanswered.")
        or _first(raw["provenance"], _PROVENANCE_OR_NONE, "provenance.", needed=False)
        or next((f"key 'undefined.{k}': {v!r}; expected text" for k, v in raw["undefined"].items()
                 if not isinstance(v, str)), None)
    )  # fmt: skip


def _first(raw: Mapping[str, Any], expected: Mapping[str, str], above: str, *, needed: bool) -> str | None:
    for key, what in expected.items():
        if key not in raw and needed:
            return f"key '{above}{key}' is missing"
        value = raw.get(key)
        if not (value is None and not needed) and not _is(value, what):
            return f"key '{above}{key}': {_brief(value)}; expected {what}"
    return None


def _first_count(raw: Mapping[str, Any], above: str) -> str | None:
    bad = next((key for key, value in raw.items() if not _is(value, _COUNT)), None)
    return None if bad is None else f"key '{above}{bad}': {_brief(raw[bad])}; expected {_COUNT}"


def _is(value: Any, what: str) -> bool:
    if what == "a list of texts":
        return isinstance(value, list) and all(isinstance(x, str) for x in value)
    kinds: dict[str, type | tuple[type, ...]] = {
        _TEXT: str, _COUNT: int, _NUMBER: (int, float), "a mapping": dict,
    }  # fmt: skip
    return isinstance(value, kinds[what]) and not isinstance(value, bool)


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
