"""Data files in folders: those of one split, those that `datasets` saved, those in folders below."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rmbench.core.files import read_json
from rmbench.errors import DataError
from rmbench.tasks.containers import SUFFIXES

_SPLIT = re.compile(r"(train|test|validation|valid|val|dev|eval)(?![a-z])")
_SHARD = re.compile(r"(?P<split>.+?)-\d{5}-of-\d{5}\.")
_OF_HUB = ("dataset_infos.json", "dataset_info.json", "dataset_dict.json", "state.json")
"""JSON files beside data that hold no rows."""


def saved_files(folder: Path) -> list[Path]:
    """Return the files of a data set that `datasets` saved to a folder (`save_to_disk`); none for others.

    Raises:
        DataError: If it has several splits, or rows in another order than that of its files.
    """
    if (folder / "dataset_dict.json").is_file():
        splits = _keys(folder / "dataset_dict.json", "splits")
        if len(splits) != 1:
            raise _which(folder, {str(split): folder / str(split) for split in splits})
        folder = folder / str(splits[0])
    state = folder / "state.json"
    if not state.is_file() or not (folder / "dataset_info.json").is_file():
        return []
    if _value(state, "_indices_files"):
        raise DataError(
            "it was saved with a selection or another order of its rows; save it again after"
            " dataset.flatten_indices()", path=state,
        )  # fmt: skip
    names = [
        entry.get("filename") if isinstance(entry, dict) else None for entry in _keys(state, "_data_files")
    ]
    if wrong := [name for name in names if not isinstance(name, str) or Path(name).name != name]:
        raise DataError(
            f"{wrong[0]!r}; expected the name of a file in this folder", path=state, key="_data_files"
        )
    return [folder / str(name) for name in names]


def files_below(folder: Path) -> list[Path]:
    """Return the data files in a folder, else those in folders below it, sorted by name.

    Raises:
        DataError: If they belong to several splits, by the names of files and folders.
    """
    here = [path for path in folder.iterdir() if _is_data(path)]
    if not here:
        hidden = ("_", ".")
        below = (path for path in folder.rglob("*") if _is_data(path))
        here = [
            path for path in below if not any(p.startswith(hidden) for p in path.relative_to(folder).parts)
        ]
    found = sorted(here, key=lambda path: path.relative_to(folder).as_posix())
    splits: dict[str, Path] = {}
    for path in found:
        parts = path.relative_to(folder).parts
        if (place := split_of(parts)) is not None:
            splits.setdefault(place[1], folder.joinpath(*parts[: place[0] + 1]))
    if len(splits) > 1:
        raise _which(folder, splits)
    return found


def splits_below(folder: Path) -> dict[str, list[Path]]:
    """Return split -> its files, for a folder that has several; empty for another.

    Raises:
        DataError: If a folder that `datasets` saved is damaged.
    """
    if (folder / "dataset_dict.json").is_file():
        names = [str(split) for split in _keys(folder / "dataset_dict.json", "splits")]
        return {name: saved_files(folder / name) for name in names} if len(names) > 1 else {}
    found: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if _is_data(path)):
        place = split_of(path.relative_to(folder).parts)
        if place is not None:
            found.setdefault(place[1], []).append(path)
    return found if len(found) > 1 else {}


def split_of(parts: Sequence[str]) -> tuple[int, str] | None:
    """Return which part of a file's path names its split, and the split; None where none does.

    `data/train_prefs-00000-of-00001.parquet` is of `train_prefs`, `test/x.jsonl` of `test`.
    """
    for place, part in enumerate(parts):
        if place == len(parts) - 1 and (shard := _SHARD.match(part)):
            return place, shard["split"]
        if match := _SPLIT.match(part.lower()):
            return place, match[1]
    return None


def is_data_name(name: str) -> bool:
    """Say whether a file's name is one of data."""
    return name.endswith(SUFFIXES) and name.rpartition("/")[2] not in _OF_HUB


def _is_data(path: Path) -> bool:
    return is_data_name(path.name) and path.is_file()


def _which(folder: Path, splits: dict[str, Path]) -> DataError:
    named = ", ".join(f"{split} ({path.relative_to(folder).as_posix()})" for split, path in splits.items())
    one = next(iter(splits.values()), folder)
    return DataError(f"it holds several splits: {named}; name one of them, such as {one}", path=folder)


def _value(path: Path, key: str) -> Any:
    raw = read_json(path)
    return raw.get(key) if isinstance(raw, dict) else None


def _keys(path: Path, key: str) -> list[Any]:
    found = _value(path, key)
    if not isinstance(found, list) or not found:
        raise DataError("expected a list", path=path, key=key)
    return found
