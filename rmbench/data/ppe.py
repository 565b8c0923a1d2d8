"""PPE's correctness sets (arXiv 2410.14872): 32 responses of one model per question, each right or wrong."""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, rows_of
from rmbench.types import Item, Response

_SET = re.compile(r"PPE-(.+)-Best-of-K", re.IGNORECASE)
_RESPONSE = re.compile(r"response_([1-9]\d*)")


def read_correctness(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"question_id", "prompt", "response_1", ..., "scores": [true, ...], "model_name"}`.

    The set is the name of the data set that a file lies in (`PPE-MATH-Best-of-K`), else that of the file.
    """
    del options
    for path in files:
        yield from bad.parse(rows_of(path, bad), partial(_found, name=set_name(path)))


def set_name(path: Path) -> str:
    """Return `MATH` for a file of `PPE-MATH-Best-of-K`, whatever the file itself is called."""
    found = (_SET.search(part) for part in reversed(path.parts))
    return next((match[1] for match in found if match), path.name.split(".")[0])


def _found(row: Row, name: str) -> FoundItem:
    return FoundItem(_item(row, name), row)


def _item(row: Row, name: str) -> Item:
    prompt = fields.prompt(row, "prompt", fields.required(row, "prompt"))
    numbers = sorted(int(m[1]) for key in row.value if (m := _RESPONSE.fullmatch(key)))
    if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < 2:
        raise row.error(
            "expected response_1, response_2, ... without a gap", "response_1", "responses do not fit"
        )
    gold = fields.required(row, "scores")
    if not isinstance(gold, list) or len(gold) != len(numbers):
        raise row.error(f"expected a list of {len(numbers)}, one per response", "scores", "scores do not fit")
    for k, value in enumerate(gold):
        if not isinstance(value, bool):
            raise row.error(f"{value!r}; expected true or false", f"scores[{k}]", "scores do not fit")
    model = str(row.value.get("model_name") or "")
    return Item(
        id=f"{name}:{fields.identifier(row, 'question_id')}",
        prompt=prompt,
        responses=tuple(
            # An empty answer was given too, and is right or wrong as any other.
            Response(fields.text(row, f"response_{n}", allow_empty=True), float(gold[n - 1]))
            for n in numbers
        ),
        cluster=prompt_cluster(prompt),
        strata={"set": name, "generator": model},
    )
