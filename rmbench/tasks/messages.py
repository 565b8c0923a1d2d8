"""Messages of data, checked: content in parts, calls of tools, tools, and all else that a turn keeps."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from rmbench.core.files import parse_json
from rmbench.models.messages import MORE_KEYS
from rmbench.tasks.rows import Row
from rmbench.types import Turn

SHOWN_KEYS = ("reference", "rubric", "principle")
"""Keys of what a judge may be shown beside the responses: text, or JSON values."""

_TEXTS = ("name", "tool_call_id", "reasoning_content", "thinking")
_PARTS = ("text", "input_text", "output_text")


def turn_of(row: Row, where: str, role: str, message: Mapping[str, Any], text_key: str = "content") -> Turn:
    """Return a message as a turn, with all that chat templates know of it.

    Args:
        row: For messages.
        where: The message's place in the row, such as `prompt[0]`.
        role: Its role, already checked.
        message: The message.
        text_key: The key of its text, which may be null or missing beside calls of tools.

    Raises:
        DataError: If its text is none, or something else does not fit.
    """
    more: dict[str, Any] = {}
    for key in _TEXTS:
        if (value := message.get(key)) is not None and value != "":
            if not isinstance(value, str):
                raise row.error("expected text", f"{where}.{key}", f"{key} is not text")
            more[key] = value
    if calls := message.get("tool_calls"):
        more["tool_calls"] = _calls(row, f"{where}.tool_calls", calls)
    if message.get("function_call"):
        raise row.error(
            "an older form of calls, which chat templates do not know; expected tool_calls:"
            ' [{"type": "function", "function": {"name": ..., "arguments": {...}}}]',
            f"{where}.function_call", "function_call is not read",
        )  # fmt: skip
    if tools := tools_in(row, f"{where}.tools", message.get("tools")):
        more["tools"] = tools
    text = message.get(text_key)
    content = "" if text is None and "tool_calls" in more else content_of(row, f"{where}.{text_key}", text)
    return cast(Turn, {"role": role, "content": content, **more})


def unread_keys(value: Any) -> list[str]:
    """Return the keys of messages in a row's value that are not kept, though they hold something."""
    if not isinstance(value, list):
        return []
    known = {"role", "content", "from", "value", "text", *MORE_KEYS}
    messages = [m for m in value if isinstance(m, Mapping) and ({"role", "from"} & set(m))]
    return sorted({str(k) for m in messages for k, v in m.items() if k not in known and v not in (None, "")})


def with_tools(turns: tuple[Turn, ...], tools: Sequence[Mapping[str, Any]] | None) -> tuple[Turn, ...]:
    """Return a conversation that declares tools, where there are some and it declares none."""
    if not tools or any(turn.get("tools") for turn in turns):
        return turns
    return cast(Turn, {**turns[0], "tools": list(tools)}), *turns[1:]


def tools_in(row: Row, key: str, value: Any) -> list[Mapping[str, Any]] | None:
    """Return the tools that a value declares: a list of JSON schemas, or the JSON text of one.

    Raises:
        DataError: If it is neither.
    """
    if isinstance(value, str):
        try:
            value = parse_json(value) if value.strip() else None
        except ValueError:
            raise row.error(
                "text that is no JSON; expected a list of tools", key, "tools do not fit"
            ) from None
    if not value:
        return None
    if not isinstance(value, list) or not all(isinstance(tool, Mapping) for tool in value):
        raise row.error("expected a list of JSON schemas", key, "tools do not fit")
    return list(value)


def content_of(row: Row, where: str, value: Any) -> str:
    """Return text, or the text of parts joined; other parts than text are refused by name.

    Raises:
        DataError: If it is neither.
    """
    if isinstance(value, str):
        return value
    if not isinstance(value, list) or not value:
        raise row.error(
            f"{kind_of(value)}; expected text, or a list of parts with text", where, "text is not a string"
        )
    return "".join(_part(row, f"{where}[{n}]", part) for n, part in enumerate(value))


def kind_of(value: Any) -> str:
    """Return the kind of a JSON value in words, for messages."""
    names = {type(None): "null", bool: "true or false", list: "a list", dict: "an object", str: "text"}
    return names.get(type(value), "a number" if isinstance(value, int | float) else type(value).__name__)


def _part(row: Row, where: str, part: Any) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    text = part.get("text") if isinstance(part, Mapping) else None
    if kind not in _PARTS or not isinstance(text, str):
        raise row.error(f"a part of kind {kind!r}; rmbench reads text alone", where, f"part: {kind}")
    return text


def _calls(row: Row, where: str, value: Any) -> list[Mapping[str, Any]]:
    if not isinstance(value, list) or not all(_is_call(call) for call in value):
        raise row.error(
            'expected a list of {"type": "function", "function": {"name": ..., "arguments": {...}}}',
            where, "calls of tools do not fit",
        )  # fmt: skip
    return list(value)


def _is_call(call: Any) -> bool:
    if not isinstance(call, Mapping):
        return False
    told = call.get("function", call)
    return isinstance(told, Mapping) and isinstance(told.get("name"), str)
