"""Board definitions: facts in YAML, unknown keys refused."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from rmbench.core.options import NO_OPTION, Option, Texts
from rmbench.core.schema import parse
from rmbench.core.yaml import defined_in, packaged_folder, read_yaml
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.tasks.spec import TaskSpec, apply_params, load_task


@dataclass(frozen=True, slots=True)
class ColumnSpec:
    """One column: a metric of a task."""

    id: str
    """Short name, unique on the board; names the column in CSV and JSON and in `rank_by`."""
    task: Annotated[TaskSpec, Option(convert=lambda name, _: load_task(name))]
    """The task's name, or its file."""
    metric: str
    """A metric of the task, such as `accuracy`; `win_rate@max` is the one at the largest n."""
    label: str
    """Heading of the column."""
    params: Texts = field(default_factory=dict)
    """Parameters of the task, as `-T` sets them."""


@dataclass(frozen=True, slots=True)
class ModelCard:
    """What a board says of a model besides its records."""

    license: str = ""
    link: str = ""
    """Address of its card, http:// or https://."""
    parameters: Annotated[int | None, Option(low=1)] = None
    """Size, where records do not hold it."""


@dataclass(frozen=True, slots=True)
class BoardSpec:
    """A leaderboard: which metrics of which tasks it shows, and which of them rank the models."""

    name: str
    """The file's stem."""
    title: str
    summary: str
    columns: Annotated[tuple[ColumnSpec, ...], Option(low=1)]
    rank_by: tuple[str, ...]
    """Ids of the columns whose unweighted mean ranks the models."""
    path: Annotated[Path, NO_OPTION]
    models: Mapping[str, ModelCard] = field(default_factory=dict)
    """Model -> licence, link and size, which the page shows beside its name."""


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
    board = parse(BoardSpec, read_yaml(path), str(path), path=path)
    if board.name != name:
        raise ConfigError(f"{path}, key 'name': {board.name!r}; expected the file's stem {name!r}")
    columns = tuple(replace(c, task=apply_params(c.task, c.params)) for c in board.columns)
    ids = [c.id for c in columns]
    if len(set(ids)) < len(ids):
        raise ConfigError(f"{path}, key 'columns': two columns have the same id")
    for model, card in board.models.items():
        if card.link and not re.match(r"https?://[^/\s]\S*$", card.link):
            where = f"{path}, key 'models', {model!r}"
            raise ConfigError(f"{where}: link {card.link!r}; expected an address http(s)://HOST/...")
    for entry in board.rank_by:
        if entry not in ids:
            raise UnknownNameError("column", entry, ids, f"{path}, key 'rank_by'")
        if board.rank_by.count(entry) > 1:
            raise ConfigError(f"{path}, key 'rank_by': {entry!r} is given twice; each column counts once")
    return replace(board, columns=columns, summary=board.summary.strip())
