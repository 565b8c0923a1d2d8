"""Data files in folders: those of one split, those that `datasets` saved, those in folders below."""

import re
from pathlib import Path
from typing import Any

from rmbench.core.files import read_json
from rmbench.errors import DataError
from rmbench.tasks.containers import SUFFIXES

_SPLIT = re.compile(r"(train|test|validation|valid|val|dev|eval)(?![a-z])")
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
        named = [(k, match[1]) for k, part in enumerate(parts) if (match := _SPLIT.match(part.lower()))]
        if named:
            k, split = named[0]
            splits.setdefault(split, folder.joinpath(*parts[: k + 1]))
    if len(splits) > 1:
        raise _which(folder, splits)
    return found


def _is_data(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) and path.name not in _OF_HUB and path.is_file()


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
