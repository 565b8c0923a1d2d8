"""M-RewardBench (arXiv 2410.15522): RewardBench translated into 22 languages, a folder for each."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, items_of
from rmbench.metrics.m_rewardbench import ENGLISH, LANGUAGES, SUBSETS
from rmbench.metrics.rewardbench import section_of
from rmbench.types import Item, Response

TRANSLATION = "translation"
"""A folder beside those of the languages: pairs of translations, part of no number."""


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"id", "language", "source", "prompt", "chosen", "rejected", ...}`.

    The subset of RewardBench is in `source`, in the first version of the data in `subset`.
    """
    del options
    wanted = [path for path in files if path.parent.name != TRANSLATION]
    if len(wanted) < len(files):
        bad.leave_out("files of the translation sets", len(files) - len(wanted))
    return items_of(wanted, bad, _item)


def _item(row: Row) -> Item:
    language = fields.text(row, "language")
    # The same language is `de` or, as its folder, `deu_Latn`.
    code = fields.known_name(
        row, "language", LANGUAGES.get(language, language), (*LANGUAGES.values(), ENGLISH)
    )
    key = "subset" if "subset" in row.value and "source" not in row.value else "source"
    subset = fields.known_name(row, key, fields.text(row, key), SUBSETS)
    prompt = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    # As for RewardBench: published as they are, empty replies included.
    texts = [fields.reply(row, key) for key in ("chosen", "rejected")]
    identifier = fields.identifier(row)
    return Item(
        id=f"{code}:{subset}:{identifier}",
        prompt=prompt,
        responses=(Response(texts[0], 1.0), Response(texts[1], 0.0)),
        # Translations of one item are not independent, though their prompts differ.
        cluster=f"{subset}:{identifier}",
        strata={"language": code, "section": section_of(subset) or "", "subset": subset},
    )
