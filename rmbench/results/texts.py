"""Texts of items, kept in a results folder for pages: the data may be gone when a page is made.

One file per data: `texts/<task>-<hash of the data>.jsonl.xz`, in the form that `rmbench export` writes, with
gold.
"""

import lzma
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, cast

from rmbench.core.files import canonical_json, iter_jsonl, slug, write_atomic
from rmbench.results.run import Run
from rmbench.tasks.items import export_items
from rmbench.types import Item, Response, Turn


def texts_file(results: Path, task: str, data_hash: str) -> Path:
    """Return where the texts of a task's data are kept in a results folder."""
    return results / "texts" / f"{slug(task)}-{data_hash[:16]}.jsonl.xz"


def keep_texts(results: Path, task: str, data_hash: str, items: Iterable[Item]) -> Path:
    """Write the prompts and responses of a task's items, unless they are there already."""
    path = texts_file(results, task, data_hash)
    if not path.is_file():
        kept = list(items)
        rows = "".join(
            canonical_json({**row, "gold": [r.gold for r in item.responses]}) + "\n"
            for row, item in zip(export_items(kept), kept, strict=True)
        )
        write_atomic(path, lzma.compress(rows.encode("utf-8"), preset=6))
    return path


def kept_texts(run: Run, wanted: Collection[str]) -> list[Item] | None:
    """Return the wanted items of a run's data with texts and gold; None if none were kept."""
    results = run.path.parents[2]
    path = texts_file(results, run.record.task, str(run.record.identity["data"]))
    if not path.is_file():
        return None
    return [_item(row) for _, row in iter_jsonl(path) if row["id"] in wanted]


def _item(row: dict[str, Any]) -> Item:
    responses = (
        Response(text, gold) if isinstance(text, str) else Response.of(text, gold)
        for text, gold in zip(row["responses"], row["gold"], strict=True)
    )
    prompt = tuple(cast(Turn, turn) for turn in row["prompt"])
    return Item(id=row["id"], prompt=prompt, responses=tuple(responses), cluster="")
