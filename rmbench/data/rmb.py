"""RMB (arXiv 2410.09893): pairs, and a best reply against several losers, helpful and harmless."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, items_of
from rmbench.metrics.rmb import GOALS, part_of
from rmbench.types import Item, Response

_SETS = ("BoN_set", "Pairwise_set")


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read both sets: `{"pair_uid", "conversation_input", "chosen", "reject", "category_path"}` rows.

    The other set has `bon_uid`, `bon_best` and `loser_list`; `category_path` says which set a row is of.
    """
    del options
    return items_of(files, bad, _item)


def _item(row: Row) -> Item:
    kind, goal, *rest = _path(row)
    prompt = fields.prompt(row, "conversation_input", fields.required(row, "conversation_input"))
    if kind == "BoN_set":
        name = f"bon:{fields.text(row, 'bon_uid')}"
        losers = fields.required(row, "loser_list")
        if not isinstance(losers, list) or not losers:
            raise row.error("expected a list of at least one reply", "loser_list", "responses do not fit")
        responses = [_reply(row, "bon_best", fields.required(row, "bon_best"), 1.0)]
        responses += [_reply(row, f"loser_list[{k}]", reply, 0.0) for k, reply in enumerate(losers)]
    else:
        name = f"pair:{fields.text(row, 'pair_uid')}"
        two = (("chosen", 1.0), ("reject", 0.0))
        responses = [_reply(row, key, fields.required(row, key), gold) for key, gold in two]
    return Item(
        id=name,
        prompt=prompt,
        responses=tuple(responses),
        cluster=prompt_cluster(prompt),
        strata={"part": part_of(goal, bon=kind == "BoN_set"), "category": rest[0] if rest else ""},
    )


def _path(row: Row) -> list[str]:
    parts = fields.text(row, "category_path").split("/")
    if len(parts) < 2 or parts[0] not in _SETS or parts[1] not in GOALS:
        raise row.error(
            f"{'/'.join(parts)!r}; expected {' or '.join(_SETS)}, then {' or '.join(GOALS)}",
            "category_path",
            "unknown category_path",
        )
    return parts


def _reply(row: Row, key: str, value: Any, gold: float) -> Response:
    if not isinstance(value, Mapping) or "answer" not in value:
        raise row.error("expected an object with 'answer'", key, "responses do not fit")
    text = fields.reply(row, f"{key}.answer", value["answer"])
    return Response(text, gold, {"generator": str(value.get("llm_name") or "")})
