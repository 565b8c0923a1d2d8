"""Plan-RewardBench (arXiv 2604.08178): pairs of whole trajectories of agents that call tools."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, items_of
from rmbench.metrics.plan_rewardbench import SPLITS
from rmbench.types import Item, Response, Turn

_TOOL_ROLES = ("tool", "tool_call", "tool_response")


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"query", "tools", "chosen": {"messages"}, "reject": {"messages"}}`; a file is a split.

    One prompt turn and one reply, as the benchmark asks a remote reward model: the tools and the query, then
    the messages of the trajectory one after the other, each behind its role.
    """
    del options
    return items_of(files, bad, _item)


def _item(row: Row) -> Item:
    split = row.path.name.split(".")[0]
    if split not in SPLITS:
        raise row.error(f"the file is none of the splits {', '.join(SPLITS)}", reason="unknown split")
    tools = json.dumps(row.value.get("tools") or [], ensure_ascii=False, indent=2)
    query = fields.text(row, "query")
    asked = f"<tool_environment>\n{tools}\n</tool_environment>\n<user_query>\n{query}\n</user_query>"
    prompt = (Turn(role="user", content=asked),)
    return Item(
        # Two rows may share a uuid: they are pairs out of one ranking.
        id=f"{split}:{row.line}",
        prompt=prompt,
        responses=(Response(_trajectory(row, "chosen"), 1.0), Response(_trajectory(row, "reject"), 0.0)),
        cluster=prompt_cluster(prompt),
        strata={"split": split},
    )


def _trajectory(row: Row, key: str) -> str:
    value = fields.required(row, key)
    messages = value.get("messages") if isinstance(value, Mapping) else None
    if not isinstance(messages, list):
        raise row.error("expected an object with a list of 'messages'", key, "responses do not fit")
    return "\n\n".join(_message(row, f"{key}.messages[{k}]", m) for k, m in enumerate(messages))


def _message(row: Row, key: str, message: Any) -> str:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise row.error("expected an object with a role", key, "message does not fit")
    content = message.get("content", "")
    if isinstance(content, dict | list):
        content = json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str):
        raise row.error("expected text, an object or a list", f"{key}.content", "text is not a string")
    role, name = message["role"], message.get("name")
    named = f" name={name}" if name and role in _TOOL_ROLES else ""
    return f"[{role.upper()}{named}] {content}"
