"""Board definitions: facts in YAML, unknown keys refused."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.core.yaml import defined_in, packaged_folder, read_yaml
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.tasks.spec import TaskSpec, apply_params, load_task

_BOARD_KEYS = ("name", "title", "summary", "columns", "rank_by")
_COLUMN_KEYS = ("id", "task", "metric", "label", "params")


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column: a metric of a task."""

    id: str
    """Short name, unique on the board; names the column in CSV and JSON and in `rank_by`."""
    task: TaskSpec
    """With the column's parameters applied."""
    metric: str
    """May be `win_rate@max`."""
    label: str


@dataclass(frozen=True, slots=True)
class BoardSpec:
    """A board as its YAML file says it."""

    name: str
    title: str
    summary: str
    columns: tuple[ColumnSpec, ...]
    rank_by: tuple[str, ...]
    """Ids of the columns whose unweighted mean ranks the models."""
    path: Path


def board_folder() -> Path:
    """Return `leaderboards` of the working folder if it has definitions, else the packaged ones."""
    here = Path("leaderboards")
    return here if any(here.glob("*.yaml")) else packaged_folder("_boards", "leaderboards")


def list_boards(folder: Path) -> list[str]:
    """Return the names of the boards defined in `folder`, sorted.

    Raises:
        ConfigError: If the folder is missing or defines none.
    """
    advice = "A board is a file BOARD.yaml; those of the package are used without --boards-dir."
    return defined_in([folder], "board", advice)


def load_board(folder: Path, name: str) -> BoardSpec:
    """Return the board `name` of `folder`.

    Raises:
        UnknownNameError: If there is none.
        ConfigError: With file and key, if the definition is wrong; if the folder is missing or defines none.
    """
    path, known = folder / f"{name}.yaml", list_boards(folder)
    if name not in known:
        raise UnknownNameError("leaderboard", name, known, str(folder))
    raw = read_yaml(path)
    _check_keys(raw, _BOARD_KEYS, f"{path}")
    if raw["name"] != name:
        raise ConfigError(f"{path}, key 'name': {raw['name']!r}; expected the file's stem {name!r}")
    if not isinstance(raw["columns"], list) or not raw["columns"]:
        raise ConfigError(f"{path}, key 'columns': expected a list of columns")
    columns = tuple(_column(entry, f"{path}, column {n}") for n, entry in enumerate(raw["columns"], 1))
    ids = [c.id for c in columns]
    if len(set(ids)) < len(ids):
        raise ConfigError(f"{path}, key 'columns': two columns have the same id")
    rank_by = tuple(str(entry) for entry in raw["rank_by"])
    for entry in rank_by:
        if entry not in ids:
            raise UnknownNameError("column", entry, ids, f"{path}, key 'rank_by'")
    return BoardSpec(name, str(raw["title"]), str(raw["summary"]).strip(), columns, rank_by, path)


def _column(raw: Any, where: str) -> ColumnSpec:
    if not isinstance(raw, Mapping):
        raise ConfigError(f"{where}: expected a mapping with {', '.join(_COLUMN_KEYS)}")
    _check_keys(raw, _COLUMN_KEYS, where, optional=("params",))
    params = {str(k): str(v) for k, v in (raw.get("params") or {}).items()}
    task = apply_params(load_task(str(raw["task"])), params)
    return ColumnSpec(str(raw["id"]), task, str(raw["metric"]), str(raw["label"]))


def _check_keys(
    raw: Mapping[str, Any], known: tuple[str, ...], where: str, optional: tuple[str, ...] = ()
) -> None:
    for key in raw:
        if key not in known:
            raise UnknownNameError("key", str(key), known, where)
    for key in known:
        if key not in raw and key not in optional:
            raise ConfigError(f"{where}: key {key!r} is missing")
