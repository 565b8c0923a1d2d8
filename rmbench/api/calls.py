"""Functions of the Python API: evaluate, load_records, leaderboard, compare."""

import atexit
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, TypeAlias, Unpack

from rmbench.api.records import Records
from rmbench.core.options import takes_options
from rmbench.core.schema import from_values
from rmbench.errors import ConfigError
from rmbench.evaluation.options import EvalKeywords, EvalOptions
from rmbench.evaluation.request import Asked, run_all
from rmbench.models.resolve import given_model
from rmbench.results.compare import PairedReport, compare_runs, headline_metrics, verdict_metric
from rmbench.results.read import find_run, runs_at, with_tasks_of
from rmbench.results.run import Run
from rmbench.types import AnyModel

if TYPE_CHECKING:
    from rmbench.boards import BoardSpec, Leaderboard

Model: TypeAlias = str | AnyModel
"""The text of `--model`, or an object with the methods of a reward model."""
Which: TypeAlias = str | Path | Run | Records
"""A record: itself, records that are one, its file, or the name of its model."""


@takes_options(EvalOptions)
def evaluate(
    model: Model | Sequence[Model] | Mapping[str, Model],
    tasks: str | Path | Sequence[str | Path],
    **keywords: Unpack[EvalKeywords],
) -> Records:
    """Evaluate reward models on tasks, with the numbers of `rmbench eval`.

    Args:
        model: The text of `--model`, or an object with the methods of a reward model (`rmbench.RewardModel`,
            `rmbench.PairwiseModel`). Several: a list, or a mapping from names to models.
        tasks: Names of tasks, or task files; one or several.
        keywords: Options of `rmbench eval` by their names; `help(rmbench.evaluate)` lists them. Without
            `results` records are kept in a temporary folder, which is removed when Python ends;
            `Records.save` keeps them. `n_workers` and `executor` need models that are given by their texts.

    Returns:
        One record per model and task, in that order.

    Raises:
        UnknownNameError: If there is no such option.
        ConfigError: If a name, an option or a row does not fit. No model was run.
        RunError: If a model fails. Its rewards so far are kept, and the same call continues.
    """
    settled = from_values(EvalOptions, keywords, "rmbench.evaluate")
    if keywords.get("results") is None:
        settled = replace(settled, results=_session_folder())
    asked = _asked(model, settled.options)
    outcomes = run_all(asked, [str(task) for task in _several(tasks, "tasks")], settled)
    return Records((outcome.run for outcome in outcomes), convention=settled.convention)


def load_records(path: Path | str) -> Records:
    """Return the records at or below `path`: a results folder, a part of one, or one file.

    Raises:
        ConfigError: If there is no such folder, or no record in it.
        DataError: If a file is not a record.
    """
    return Records(runs_at(Path(path)))


def leaderboard(
    records: Iterable[Run] | Path | str, board: "str | Path | BoardSpec" = "main"
) -> "Leaderboard":
    """Return a leaderboard of records, as `rmbench leaderboard` makes it.

    Args:
        records: Records, or the folder that they are in.
        board: A board's name (of `./leaderboards`, else of the package), its YAML file, or its definition.

    Raises:
        UnknownNameError: If there is no such board.
        ConfigError: If its definition is wrong, or no record is of its tasks.
        StoreError: If the rewards of a record are missing or damaged.
    """
    # Here and not above: `evaluate` needs no boards.
    from rmbench.boards import BoardSpec, load_board, make_board
    from rmbench.boards.board import require_rows
    from rmbench.boards.definition import board_folder

    runs = load_records(records) if isinstance(records, str | Path) else list(records)
    if not isinstance(board, BoardSpec):
        path = Path(board)
        is_file = path.suffix in (".yaml", ".yml")
        folder, name = (path.parent, path.stem) if is_file else (board_folder(), str(board))
        with with_tasks_of(runs):
            board = load_board(folder, name)
    made = make_board(board, list(runs))
    require_rows(made)
    return made


def compare(
    first: Which,
    second: Which,
    *,
    task: str | None = None,
    records: Records | Path | str = "results",
    metrics: Sequence[str] | None = None,
    n_items: int = 10,
    margin: float | None = None,
) -> PairedReport:
    """Compare two models on the same items: paired differences, their intervals, p-values and verdicts.

    Args:
        first: A record, or the name of a model in `records`.
        second: The other.
        task: The task of both; needed where one of them is a name.
        records: Records or results folder in which names are looked up.
        metrics: Metrics to compare, the one that you decide by first; None: the task's headlines.
        n_items: Number of items with the largest differences to return.
        margin: Largest difference that counts as equivalent, in each metric's unit; None: no test.

    Raises:
        ConfigError: If a record is not found, if the two are not of the same items, or if the margin is not
            above 0.
    """
    a, b = (_run(which, task, records) for which in (first, second))
    for run in (a, b):
        if task is not None and run.task != task:
            raise ConfigError(f"the record of {run.model!r} is of task {run.task!r}, not {task!r}")
    if _at_least(n_items, 0, "n_items") is None:
        raise ConfigError("n_items is None; expected a whole number from 0")
    wanted = headline_metrics([a, b]) if metrics is None else _several(metrics, "metrics")
    return compare_runs(a, b, wanted, n_items, margin, verdict_metric([a, b], metrics or ()))


@cache
def _session_folder() -> Path:
    """Return the results folder of calls without `results`; it is removed when this process ends."""
    folder = TemporaryDirectory(prefix="rmbench-results-")
    atexit.register(folder.cleanup)
    return Path(folder.name)


def _asked(model: Any, options: Mapping[str, str]) -> list[Asked]:
    named = isinstance(model, Mapping)
    models = _several(list(model.items()) if named else model, "model")
    models = models if named else [(None, m) for m in models]
    if options and (len(models) > 1 or not isinstance(models[0][1], str)):
        raise ConfigError(
            "options belong to one model that is given by its text; give a single text with them"
        )
    found: list[Asked] = []
    for name, one in models:
        if isinstance(one, str):
            asked = Asked(one, options if name is None else {**options, "name": str(name)})
        else:
            loaded = given_model(one, None if name is None else str(name))
            asked = Asked(loaded.spec, loaded=loaded)
        if asked not in found:
            found.append(asked)
    return found


def _several(value: Any, what: str) -> list[Any]:
    """Return one or several things as a list of at least one."""
    found = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    if not found:
        raise ConfigError(f"{what} is empty; expected at least one")
    return found


def _run(which: Which, task: str | None, records: Records | Path | str) -> Run:
    if isinstance(which, Run):
        return which
    if isinstance(which, Records):
        found = which if task is None else which.filter(task=task)
        if len(found) != 1:
            raise ConfigError(f"{len(found)} records where one was expected; name the task, or filter them")
        return found[0]
    name = str(which)
    if name.endswith(".json") and Path(name).is_file():
        return load_records(name)[0]
    if task is None:
        raise ConfigError(f"compare {name!r}: a model's name needs the task; give task=NAME")
    return records.one(name, task) if isinstance(records, Records) else find_run(Path(records), name, task)


def _at_least(value: int | None, low: int, what: str) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < low):
        raise ConfigError(f"{what} is {value!r}; expected a whole number from {low}")
    return value
