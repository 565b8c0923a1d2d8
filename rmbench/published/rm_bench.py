"""RM-Bench's results: rows of the data with `score_chosen` and `score_rejected`, one file per data file."""

import re
from collections.abc import Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any

from rmbench.data.items import hash_items
from rmbench.data.rm_bench import item_of
from rmbench.data.rows import BadRows, Row, rows_of
from rmbench.errors import DataError
from rmbench.metrics.rm_bench import STYLES
from rmbench.published.run import Import, PublishedRow, PublishedRun, check_finite, reward_row
from rmbench.types import Item

_ROOT = "Seq_Classifier"
_NAME = re.compile(
    r"(?P<data>.+_filtered|total_dataset)_(?P<model>.+)_REWORD_MODEL_(?P<time>\d{8}_\d{6})\.json"
)


def read(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: a results folder, one model's folder, or one file; a run per model.

    Raises:
        DataError: If there is none, or one does not fit.
    """
    groups: dict[str, list[Path]] = {}
    for file in _files(path):
        groups.setdefault(_model(file, path), []).append(file)
    # `each` takes one path at a time: that of a model's first file, which names the model.
    names = {files[0]: model for model, files in groups.items()}
    return list(request.each(list(names), lambda file: _run(names[file], groups[names[file]], request)))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("there is no such file or folder", path=path)
    found = sorted((p for p in path.rglob("*.json") if _NAME.fullmatch(p.name)), key=lambda p: p.as_posix())
    if not found:
        raise DataError("no results; looked for <file>_<model>_REWORD_MODEL_<time>.json", path=path)
    return found


def _model(file: Path, start: Path) -> str:
    """Return the model's name: the folders below `Seq_Classifier`, else what the file is called after."""
    parts = file.parts[:-1]
    if _ROOT in parts:
        below = parts[len(parts) - parts[::-1].index(_ROOT) :]
        if below:
            return "/".join(below)
    if start.is_dir() and file.parent != start:
        return file.parent.relative_to(start).as_posix()
    match = _NAME.fullmatch(file.name)
    return match["model"] if match else file.name.removesuffix(".json")


def _run(model: str, files: Sequence[Path], request: Import) -> PublishedRun:
    spec = request.spec("rm-bench")
    latest, notes = _latest(files)
    found = [row for file in latest for row in rows_of(file, BadRows(skip=False))]
    items, rows, seen = list[Item](), list[PublishedRow](), set[str]()
    for row in found:
        item = item_of(row)
        if item.id in seen:
            raise row.error(f"{item.id!r} occurs twice", "id", "duplicate id")
        seen.add(item.id)
        scores = [s for key in ("score_chosen", "score_rejected") for s in _scores(row, key)]
        items.append(item)
        rows.append(reward_row(item, tuple(scores)))
    check_finite(latest[0], spec, rows)
    return PublishedRun(
        model=model,
        spec=spec,
        rows=rows,
        data_hash=hash_items(items),
        source=", ".join(file.name for file in latest),
        format="rm-bench",
        facts={},
        notes=notes,
    )


def _latest(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the last run of each data file, in the order of their names, and what was not taken."""
    by_data: dict[str, list[tuple[str, Path]]] = {}
    for file in files:
        match = _NAME.fullmatch(file.name)
        data, time = (match["data"], match["time"]) if match else (file.name, "")
        by_data.setdefault(data, []).append((time, file))
    chosen, notes = [], []
    for data in sorted(by_data):
        *older, (time, file) = sorted(by_data[data])
        chosen.append(file)
        if older:
            notes.append(f"{data}: the run of {time} is taken, {', '.join(t for t, _ in older)} is not")
    return chosen, notes


def _scores(row: Row, key: str) -> list[float]:
    """Return three scores, each `x` or `[x]`; NaN for null."""
    values = row.value.get(key)
    if not isinstance(values, list) or len(values) != len(STYLES):
        raise row.error(f"expected {len(STYLES)} scores: {', '.join(STYLES)}", key, "scores do not fit")
    return [_score(row, f"{key}[{k}]", value) for k, value in enumerate(values)]


def _score(row: Row, key: str, value: Any) -> float:
    number = value[0] if isinstance(value, list) and len(value) == 1 else value
    if number is None:
        return nan
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise row.error(f"{str(value)[:40]}; expected one number, x or [x]", key, "scores do not fit")
    return float(number) if isfinite(number) else nan
