"""UltraFeedback (arXiv 2310.01377), in the binarized form: two replies with GPT-4's ratings from 1 to 10."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, items_of
from rmbench.types import Item, Response, Turn

HIGHEST = 10.0


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"chosen": [messages], "rejected": [messages], "score_chosen", "score_rejected", ...}`.

    Gold is the rating, so its difference is the strength of the preference. Some pairs have equal ratings,
    whichever reply they call chosen: they have equal gold, and no order to get right.
    """
    del options
    return items_of(files, bad, _item)


def _item(row: Row) -> Item:
    chosen, rejected = _conversation(row, "chosen"), _conversation(row, "rejected")
    if chosen[:-1] != rejected[:-1]:
        raise row.error(
            "the conversation before the reply differs from 'chosen'", "rejected", "prompts differ"
        )
    prompt = chosen[:-1]
    return Item(
        id=fields.identifier(row),
        prompt=prompt,
        responses=(
            Response(fields.text(row, "chosen", chosen[-1]["content"]), _rating(row, "score_chosen")),
            Response(fields.text(row, "rejected", rejected[-1]["content"]), _rating(row, "score_rejected")),
        ),
        cluster=prompt_cluster(prompt),
        gold_kind="graded",
    )


def _conversation(row: Row, key: str) -> tuple[Turn, ...]:
    turns = fields.turns(row, key, fields.required(row, key))
    if len(turns) < 2 or turns[-1]["role"] != "assistant":
        raise row.error("expected a prompt and a final assistant turn", key, "no reply at the end")
    return turns


def _rating(row: Row, key: str) -> float:
    value = fields.finite(row, key, fields.required(row, key))
    if not 0.0 <= value <= HIGHEST:
        raise row.error(f"{value:g}; expected a number from 0 to {HIGHEST:g}", key, "value out of range")
    return value
