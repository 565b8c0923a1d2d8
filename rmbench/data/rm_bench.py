"""RM-Bench (arXiv 2410.16184): three styles of a right and of a wrong answer per prompt, K = 6."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, items_of
from rmbench.metrics.rm_bench import DOMAINS, STYLES
from rmbench.types import Item, Response


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read `<domain>_filtered.json` files; the two safety files are one domain, as published."""
    del options
    return items_of(files, bad, item_of)


def item_of(row: Row) -> Item:
    """Return the item of a prompt; keys that the data does not have, such as scores, are not looked at."""
    text = fields.text(row, "prompt")
    prompt = fields.prompt(row, "prompt", text)
    subset = str(row.value.get("domain") or row.path.name.split("_filtered")[0].split(".")[0])
    domain = next((d for d in DOMAINS if subset.startswith(d)), subset)
    responses = []
    for key, gold in (("chosen", 1.0), ("rejected", 0.0)):
        texts = fields.required(row, key)
        if not isinstance(texts, list) or len(texts) != len(STYLES):
            raise row.error(
                f"expected {len(STYLES)} responses: {', '.join(STYLES)}", key, "styles do not fit"
            )
        for k, (style, value) in enumerate(zip(STYLES, texts, strict=True)):
            responses.append(Response(fields.reply(row, f"{key}[{k}]", value), gold, {"style": style}))
    return Item(
        id=f"{subset}:{fields.required(row, 'id')}",
        prompt=prompt,
        responses=tuple(responses),
        cluster=prompt_cluster(prompt),
        strata={"domain": domain, "subset": subset},
    )
