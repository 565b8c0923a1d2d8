"""The functions of the Python API."""

import atexit
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

from rmbench.api.records import Records
from rmbench.boards import BoardSpec, Leaderboard, load_board, make_board
from rmbench.boards.board import require_rows
from rmbench.boards.definition import board_folder
from rmbench.core.options import parse_part
from rmbench.errors import ConfigError
from rmbench.evaluation.request import Asked, Request, run_all
from rmbench.models.resolve import given_model
from rmbench.models.runtime import Dtype, Runtime
from rmbench.results.compare import PairedReport, compare_runs, headline_metrics
from rmbench.results.read import find_run, runs_at, with_tasks_of
from rmbench.results.run import Run
from rmbench.types import AnyModel

Model: TypeAlias = str | AnyModel
"""The text of `--model`, or an object with the methods of a reward model."""
Options: TypeAlias = Mapping[str, Any]
Which: TypeAlias = str | Path | Run | Records
"""A record: itself, records that are one, its file, or the name of its model."""


def evaluate(
    model: Model | Sequence[Model] | Mapping[str, Model],
    tasks: str | Path | Sequence[str | Path],
    *,
    limit: int | None = None,
    seed: int = 0,
    results: Path | str | None = None,
    store: Path | str | None = None,
    params: Options | None = None,
    options: Options | None = None,
    data: Path | str | None = None,
    on_bad: str = "fail",
    part: tuple[float, float] | None = None,
    gold: str | None = None,
    gold_options: Options | None = None,
    self_gold: bool = False,
    batch_tokens: int | None = None,
    device: str = "auto",
    dtype: Dtype = "auto",
    offline: bool = False,
    trust_remote_code: bool = False,
    quiet: bool = False,
) -> Records:
    """Evaluate reward models on tasks: what `rmbench eval` does, with the same numbers.

    Args:
        model: What `--model` takes, or an object with the methods of a reward model (`rmbench.RewardModel`,
            `rmbench.PairwiseModel`); several of these as a list, or as a mapping that names them.
        tasks: Names of tasks, or task files; one or several.
        limit: Measure a seeded random sample of this many items; None: all.
        seed: Of everything that is drawn.
        results: Folder where records are kept. None: a temporary one, which goes when Python ends;
            `Records.save` keeps them.
        store: Folder of the score stores, by which a second call does no model work. None: the one that the
            command line uses (`RMBENCH_STORE`, else in the user's cache folder).
        params: Parameters of the tasks, `-T`.
        options: Options of the model, `-M`; for a single model that is given by its text.
        data: Read the task's data from here, in its own schema.
        on_bad: What a row that does not fit does: `fail`, or `skip` to leave it out and count it.
        part: Only prompts whose hash lies in this share, (low, high) in [0, 1].
        gold: What gives gold in place of the data: a model's text, or `verifier:NAME`.
        gold_options: Options of the gold, `-G`.
        self_gold: Let a model be measured against its own scores; recorded.
        batch_tokens: Most tokens in one forward pass; None: what fits.
        device: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`.
        dtype: `auto`, `float32`, `bfloat16`, `float16`.
        offline: Never reach for a hub.
        trust_remote_code: Run Python code that comes with a checkpoint.
        quiet: No remarks on stderr, and no progress bar (there is one on a terminal alone).

    Returns:
        One record per model and task, in that order.

    Raises:
        ConfigError: If a name, an option or a row does not fit; nothing was run.
        RunError: If a model fails. What was scored by then is kept, and the same call continues.
    """
    asked = _asked(model, _texts(options))
    request = Request(
        models=asked,
        tasks=[str(task) for task in _several(tasks, "tasks")],
        results=_session_folder() if results is None else Path(results),
        data=None if data is None else Path(data),
        task_options=_texts(params),
        on_bad=_one_of(on_bad, ("fail", "skip"), "on_bad"),
        runtime=Runtime(
            device=device, dtype=dtype, offline=offline, seed=seed, trust_remote_code=trust_remote_code
        ),
        part=None if part is None else parse_part(":".join(map(str, part)), "part"),
        limit=_at_least(limit, 1, "limit"),
        seed=_at_least(seed, 0, "seed") or 0,
        batch_tokens=_at_least(batch_tokens, 1, "batch_tokens"),
        gold=gold,
        gold_options=_texts(gold_options),
        self_gold=self_gold,
        store=None if store is None else Path(store),
        show_progress=not quiet,
    )
    return Records(outcome.run for outcome in run_all(request))


def load_records(path: Path | str) -> Records:
    """Return the records at or below `path`: a results folder, a part of one, or one file.

    Raises:
        ConfigError: If there is no such folder, or no record in it.
        DataError: If a file is not a record.
    """
    return Records(runs_at(Path(path)))


def leaderboard(records: Iterable[Run] | Path | str, board: str | Path | BoardSpec = "main") -> Leaderboard:
    """Return a leaderboard of records, as `rmbench leaderboard` makes it.

    Args:
        records: Records, or the folder that they are in.
        board: A board's name (of `./leaderboards`, else of the package), its YAML file, or its definition.

    Raises:
        UnknownNameError: If there is no such board.
        ConfigError: If its definition is wrong, or no record is of its tasks.
        StoreError: If the rewards of a record are missing or damaged.
    """
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
        records: Where names are looked up: records, or a results folder.
        metrics: What to compare; None: the task's headlines.
        n_items: How many of the items on which they part most to return.
        margin: Within which the two are called equivalent, in each metric's own unit; None: not tested.

    Raises:
        ConfigError: If a record is not found, or the two are not of the same items; if the margin is not
            above 0.
    """
    a, b = (_run(which, task, records) for which in (first, second))
    for run in (a, b):
        if task is not None and run.task != task:
            raise ConfigError(f"the record of {run.model!r} is of task {run.task!r}, not {task!r}")
    if _at_least(n_items, 0, "n_items") is None:
        raise ConfigError("n_items is None; expected a whole number from 0")
    wanted = headline_metrics([a, b]) if metrics is None else _several(metrics, "metrics")
    return compare_runs(a, b, wanted, n_items, margin)


@cache
def _session_folder() -> Path:
    """Return the results folder of calls that name none; it lasts as long as this process."""
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


def _texts(options: Options | None) -> dict[str, str]:
    """Return options as the command line has them: what they are typed by is the same signature."""
    return {str(key): str(value) for key, value in (options or {}).items()}


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


def _one_of(value: str, choices: Sequence[str], what: str) -> str:
    if value not in choices:
        raise ConfigError(f"{what} is {value!r}; expected {' or '.join(choices)}")
    return value
