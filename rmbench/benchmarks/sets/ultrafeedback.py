"""UltraFeedback (arXiv 2310.01377), in the binarized form: two replies with GPT-4's ratings from 1 to 10."""

from collections.abc import Iterator
from pathlib import Path

from rmbench.core.files import prompt_cluster
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader
from rmbench.types import Item, Response

HIGHEST = 10.0


@register_reader("ultrafeedback")
def read(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"chosen": [messages], "rejected": [messages], "score_chosen", "score_rejected", ...}`.

    Gold is the rating, so its difference is the strength of the preference. Some pairs have equal ratings,
    whichever reply they call chosen: they have equal gold, and no order to get right.
    """
    return items_of(files, bad, _item)


def _item(row: Row) -> Item:
    prompt, chosen, rejected = fields.shared_prompt(row)
    return Item(
        id=fields.identifier(row),
        prompt=prompt,
        responses=(
            Response(chosen, _rating(row, "score_chosen")),
            Response(rejected, _rating(row, "score_rejected")),
        ),
        cluster=prompt_cluster(prompt),
        gold_kind="graded",
    )


def _rating(row: Row, key: str) -> float:
    value = fields.finite(row, key, fields.required(row, key))
    if not 0.0 <= value <= HIGHEST:
        raise row.error(f"{value:g}; expected a number from 0 to {HIGHEST:g}", key, "value out of range")
    return value
