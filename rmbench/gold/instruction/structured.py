"""Checks of JSON: its presence, its place in the reply, its content."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from rmbench.errors import ConfigError
from rmbench.gold.instruction.counts import VERIFIERS, within

_FENCE = re.compile(r"```[\w-]*[ \t]*\n(.*?)```", re.DOTALL)
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "string": str,
    "number": (int, float),
    "integer": int,
    "boolean": bool,
    "array": list,
    "object": dict,
    "null": type(None),
}


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER = json.JSONDecoder(parse_constant=_no_constant)


def _parse(text: str) -> dict[str, Any] | list[Any] | None:
    """Return the object or array that `text` is, else None."""
    try:
        value = _DECODER.decode(text)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict | list) else None


def find_json(response: str) -> dict[str, Any] | list[Any] | None:
    """Return the JSON object or array of a reply: all of it, a code fence, or the first inside other text.

    A bare number or string is valid JSON too, but does not show that an instruction was followed: None.
    """
    fences = [match.group(1).strip() for match in _FENCE.finditer(response)]
    for text in (response.strip(), *fences):
        value = _parse(text)
        if value is not None:
            return value
    for match in re.finditer(r"[{\[]", response):
        try:
            found, _ = _DECODER.raw_decode(response, match.start())
        except ValueError:
            continue
        except RecursionError:
            return None
        return found  # type: ignore[no-any-return]
    return None


@VERIFIERS.register("json_valid")
def json_valid(response: str) -> bool:
    """The reply holds a valid JSON object or array, bare, in a code fence or inside other text."""
    return find_json(response) is not None


@VERIFIERS.register("json_only")
def json_only(response: str) -> bool:
    """The reply is one JSON object or array and nothing else, not even a code fence."""
    return _parse(response.strip()) is not None


@VERIFIERS.register("json_keys")
def json_keys(response: str, *, keys: Sequence[str], exact: bool = False) -> bool:
    """The reply's JSON is an object with all of `keys`, and no other if `exact`."""
    value = find_json(response)
    if not isinstance(value, dict):
        return False
    return set(keys) == set(value) if exact else set(keys) <= set(value)


@VERIFIERS.register("json_types")
def json_types(response: str, *, types: Mapping[str, str]) -> bool:
    """The value of each key has the type: string, number, integer, boolean, array, object or null."""
    unknown = sorted(set(types.values()) - set(_TYPES))
    if unknown or not types:
        raise ConfigError(f"unknown JSON type {unknown or 'nothing'}; expected one of {', '.join(_TYPES)}")
    value = find_json(response)
    return isinstance(value, dict) and all(
        key in value and _has_type(value[key], kind) for key, kind in types.items()
    )


def _has_type(value: Any, kind: str) -> bool:
    # bool is an int in Python, not in JSON.
    if isinstance(value, bool):
        return kind == "boolean"
    return isinstance(value, _TYPES[kind])


@VERIFIERS.register("json_values")
def json_values(response: str, *, values: Mapping[str, Any]) -> bool:
    """Each key of `values` has that value; strings match in any case, without surrounding whitespace."""
    found = find_json(response)
    return isinstance(found, dict) and all(
        key in found and _same(found[key], wanted) for key, wanted in values.items()
    )


@VERIFIERS.register("json_equals")
def json_equals(response: str, *, value: Any) -> bool:
    """The reply's JSON is `value`, order of arrays included."""
    return _same(find_json(response), value)


@VERIFIERS.register("json_array")
def json_array(
    response: str, *, at_least: int | None = None, at_most: int | None = None, exactly: int | None = None
) -> bool:
    """The reply's JSON is an array whose length is within the bounds."""
    value = find_json(response)
    length = len(value) if isinstance(value, list) else None
    kept = within(length or 0, at_least, at_most, exactly)
    return kept and length is not None


def _same(found: Any, wanted: Any) -> bool:
    if isinstance(found, str) and isinstance(wanted, str):
        return found.strip().casefold() == wanted.strip().casefold()
    if isinstance(found, list) and isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(_same, found, wanted))
    if isinstance(found, bool) or isinstance(wanted, bool):
        return found is wanted
    return bool(found == wanted)
