"""TwoSuits, a made-up benchmark: pairs of replies in two suits; its number is the mean of both suits.

Source: nobody; it shows what a published benchmark is made of.
"""

from collections.abc import Iterator
from pathlib import Path

from rmbench.benchmarks.official import (
    official_kind,
    part_means,
    stop_at_invalid,
    stratum_of,
    strict_pairs,
    with_mean_of_parts,
)
from rmbench.core.files import prompt_cluster
from rmbench.metrics import Measured, Panel, Params
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader
from rmbench.types import Item, Response

SUITS = ("Hearts", "Spades")


@official_kind("two-suits", *SUITS)
def measure_two_suits(panel: Panel, params: Params) -> Measured:
    """Measure each suit, `[c > r]`, and the unweighted mean."""
    stop_at_invalid(panel, params)
    pairs, credit = strict_pairs(panel)
    suit = stratum_of(panel, "suit")[pairs.item]
    found = part_means(credit, pairs.cluster, panel.n_clusters, suit, ("pair", "suit", SUITS))
    return with_mean_of_parts(*found, "two suits")


@register_reader("two-suits")
def read(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"id", "suit", "prompt", "good", "bad"}`."""
    return items_of(files, bad, _item)


def _item(row: Row) -> Item:
    prompt = fields.prompt(row, "prompt", fields.text(row, "prompt"))
    return Item(
        id=fields.identifier(row),
        prompt=prompt,
        responses=(Response(fields.reply(row, "good"), 1.0), Response(fields.reply(row, "bad"), 0.0)),
        cluster=prompt_cluster(prompt),
        strata={"suit": fields.known_name(row, "suit", fields.text(row, "suit"), SUITS)},
    )
