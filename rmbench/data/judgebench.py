"""JudgeBench (arXiv 2410.12784): pairs of responses of one model, one objectively right."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, rows_of
from rmbench.types import Item, Response

_CATEGORIES = {
    "mmlu-pro": "Knowledge",
    "livebench-reasoning": "Reasoning",
    "livebench-math": "Math",
    "livecodebench": "Coding",
}
_GOLD = {"A>B": (1.0, 0.0), "B>A": (0.0, 1.0)}


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read pair files; `response_model` keeps the pairs of one model only."""
    wanted = options.get("response_model") or ""
    for path in files:
        rows = (r for r in rows_of(path, bad) if not wanted or r.value.get("response_model") == wanted)
        yield from bad.parse(rows, lambda r: FoundItem(item_of(r), r))


def category(source: str) -> str | None:
    """Return the published category of a `source`: by its beginning."""
    return next((name for start, name in _CATEGORIES.items() if source.startswith(start)), None)


def item_of(row: Row) -> Item:
    """Return the item of a pair; keys that the data does not have, such as judgements, are not looked at."""
    prompt = fields.prompt(row, "question", fields.text(row, "question"))
    source, label = fields.text(row, "source"), fields.text(row, "label")
    group = category(source)
    if group is None:
        raise row.error(
            f"{source!r}; expected it to begin with one of {', '.join(_CATEGORIES)}",
            "source",
            "unknown source",
        )
    if label not in _GOLD:
        raise row.error(f"{label!r}; expected 'A>B' or 'B>A'", "label", "unknown label")
    texts = [fields.reply(row, key) for key in ("response_A", "response_B")]
    return Item(
        id=fields.text(row, "pair_id"),
        prompt=prompt,
        responses=tuple(Response(t, g) for t, g in zip(texts, _GOLD[label], strict=True)),
        cluster=prompt_cluster(prompt),
        strata={"category": group, "source": source},
    )
