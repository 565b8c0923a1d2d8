"""Reading records, and finding those that a command means: by name, path or task."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from math import inf, isfinite
from pathlib import Path
from typing import Any, TypeAlias

from rmbench.core.files import digest, read_json, slug
from rmbench.core.options import parameters_of
from rmbench.core.schema import checked, parse
from rmbench.errors import ConfigError, RmbenchError, UnknownNameError
from rmbench.metrics.kinds import known_kind
from rmbench.results.record import (
    FORMAT,
    Record,
    RecordFile,
    bad_record,
    check_rewards_file,
    is_whole,
    record_folder,
    rewards_name,
    run_id,
)
from rmbench.results.run import Run, find_own_kinds, full_name, shown_name
from rmbench.tasks.spec import TaskSpec, task_name, tasks_also_from
from rmbench.types import Estimate


def read_record(path: Path, *, as_written: bool = True) -> Record:
    """Return the record in `path`; with `as_written` False also an edited one.

    Raises:
        DataError: If it is not a record, its id does not follow from its identity, or it was edited.
    """
    try:
        raw = read_json(path)
    except ConfigError as error:
        raise bad_record(path, str(error).removeprefix(f"{path}: ")) from None
    if not isinstance(raw, dict) or raw.get("rmbench_record") != FORMAT:
        raise bad_record(path, f"expected an object with rmbench_record = {FORMAT}")
    parse(RecordFile, raw, f"{path}: not a run record")
    try:
        record = Record(
            model=raw["model"],
            identity=raw["identity"],
            primary=raw["primary"],
            counts=raw["counts"],
            metrics=_estimates(raw["metrics"]),
            undefined=raw["undefined"],
            strata={k: {v: _estimates(m) for v, m in vs.items()} for k, vs in raw["strata"].items()},
            curves=raw["curves"],
            rewards_sha256=raw["files"]["rewards"]["sha256"],
            provenance=raw["provenance"],
            task_file=raw.get("task_file"),
        )
        own_id = run_id(record.identity)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise bad_record(path, told) from None
    if raw.get("run_id") != own_id:
        raise bad_record(path, "run_id does not follow from the identity; the file was edited")
    if as_written and not is_whole(raw):
        found = "its content does not match its hash" if "sha256" in raw else "it has no hash"
        raise bad_record(
            path,
            f"{found}: the file was edited or damaged, or an older version wrote it;"
            " `rmbench remeasure` computes its metrics again from its rewards",
        )
    with suppress(ConfigError):  # a record is shown without its kinds, but not measured
        find_own_kinds(record)
    _check_params(record, f"{path}: not a run record, key 'params'")
    return record


def _check_params(record: Record, where: str) -> None:
    """Raise ConfigError for a parameter of the record's task that is none of its kinds' type."""
    params = record.identity["task"]["params"]
    for kind in filter(None, map(known_kind, record.identity["task"]["kinds"])):
        for name, one in parameters_of(kind.params).items():
            if params.get(name) is not None:
                checked(one.hint, params[name], f"{where}, key {name!r}")


def runs_at(place: Path, *, as_written: bool = True) -> list[Run]:
    """Return every record at or below `place` (a results folder, a part of one, or one file), in path order.

    Args:
        place: Folder or file.
        as_written: False: also edited records.

    Raises:
        ConfigError: If `place` does not exist, or has no record.
        DataError: If a file is not a record.
    """
    advice = "run `rmbench eval` first or give --results"
    if not place.exists():
        raise ConfigError(f"there is no file or folder {place}; {advice}")
    runs = list(find_records(place, as_written=as_written))
    if not runs:
        raise ConfigError(f"no record in {place}; {advice}")
    return runs


Tell: TypeAlias = Callable[[str], None]
"""Takes a remark for the user."""


def find_run(results: Path, name: str, task: str, tell: Tell | None = None) -> Run:
    """Return the record that `name` means: a record's path, or a model's name in `results`.

    A name with the hash that tables show, `model (a1b2c3)`, means one of several models of that name. Of a
    model's records on all items and on samples (`--limit`), the one on all items is meant.

    Args:
        results: Folder in which a model's name is looked up.
        name: Path or name, as on the command line.
        task: Name of the task, or its file.
        tell: Is told which of several records is taken.

    Raises:
        ConfigError: If no record matches, or more than one does (the message names them).
    """
    if name.endswith(".json") and Path(name).is_file():
        return runs_at(Path(name))[0]
    return pick_run(runs_at(results), name, task, str(results), tell)


def find_runs(names: Sequence[str], results: Path, tasks: Sequence[str] = ()) -> list[Run]:
    """Return all records that `names` mean: models in `results`, else paths of records or folders.

    A model of `results` comes before a folder of the same name, such as its checkpoint.

    Args:
        names: Paths or names, as on the command line; the records have their order.
        results: Folder in which models' names are looked up.
        tasks: Names of tasks, or their files: only records of these; empty: all.

    Raises:
        ConfigError: If a name matches nothing.
        UnknownNameError: If there is no such model, or no record of such a task.
        DataError: If a file is not a record.
    """
    found: dict[Path, Run] = {}
    for name in names:
        for run in _meant(name, results):
            found.setdefault(run.path.resolve(), run)
    wanted = [task_name(task) for task in tasks]
    known = {run.task for run in found.values()}
    for task in wanted:
        if task not in known:
            raise UnknownNameError("task", task, known, f"records of {', '.join(names)}")
    return [run for run in found.values() if not wanted or run.task in wanted]


def _meant(name: str, results: Path) -> list[Run]:
    path = Path(name)
    if name.endswith(".json"):
        return runs_at(path)
    known = runs_at(results) if results.exists() and (path.resolve() != results.resolve()) else []
    if of_model := [run for run in known if name in (run.model, full_name(run))]:
        return of_model
    if not path.exists():
        return _of_model(known or runs_at(results), name, str(results))
    if any((path / config).is_file() for config in ("config.json", "adapter_config.json")):
        # A checkpoint: its records have the name of its folder, or the end of its path.
        ends = ["/".join(path.resolve().parts[-n:]) for n in range(1, len(path.resolve().parts))]
        if of_model := [run for run in known if run.model in ends]:
            return of_model
        raise ConfigError(
            f"{name} is a checkpoint, and {results} has no record of it; evaluate it first:"
            f" rmbench eval --model {name} --task TASK"
        )
    return runs_at(path)


@contextmanager
def with_tasks_of(runs: Iterable[Run]) -> Iterator[None]:
    """Let `load_task` also find the tasks whose files are in records."""
    held = {run.task: run for run in runs if run.record.task_file is not None}
    with tasks_also_from(lambda name: held[name].recorded_spec() if name in held else None):
        yield


def pick_run(runs: Sequence[Run], name: str, task: str, where: str, tell: Tell | None = None) -> Run:
    """Return the run of this model and task among `runs`; `where` begins messages, `tell` gets remarks.

    Of records that differ in `--limit` alone, the one on all items is taken, and `tell` is told.

    Raises:
        ConfigError: If no record matches, or more than one does (the message names them).
    """
    of_model, task = _of_model(runs, name, where), task_name(task)
    of_task = [r for r in of_model if r.task == task]
    if not of_task:
        raise UnknownNameError("task", task, {r.task for r in of_model}, f"records of {name}")
    if len(of_task) == 1:
        return of_task[0]
    whole = [r for r in of_task if r.limit is None]
    if len(whole) == 1 and len({_without_sample(r) for r in of_task}) == 1:
        if tell is not None:
            others = ", ".join(_sample(r) for r in of_task if r is not whole[0])
            tell(f"{name} has {len(of_task)} records on {task}: the one on all items is taken, not {others}")
        return whole[0]
    shown = ", ".join(f"{r.path} ({shown_name(r, of_task)}; {_sample(r)})" for r in of_task)
    raise ConfigError(
        f"{len(of_task)} records of {name!r} on {task!r}: name one by its path, or by its name in"
        f" brackets: {shown}"
    )


def _sample(run: Run) -> str:
    """Return which items a record is of, and its seed."""
    items = "all items" if run.limit is None else f"--limit {run.limit}"
    return f"{items}, seed {run.seed}" + (f", data {run.data[:6]}" if run.limit is None else "")


def _without_sample(run: Run) -> str:
    """Return what a record is of apart from the sample: records that differ otherwise are not one choice."""
    left_out = ("limit", "seed")
    return digest({key: value for key, value in run.record.identity.items() if key not in left_out})


def _of_model(runs: Sequence[Run], name: str, where: str) -> list[Run]:
    found = [run for run in runs if name in (run.model, full_name(run))]
    if not found:
        raise UnknownNameError("model", name, {shown_name(run, runs) for run in runs}, where)
    return found


def others_of_name(results: Path, model: str, fingerprint: Mapping[str, str]) -> list[Run]:
    """Return the runs in `results` of other models with the same name; unreadable records are left out."""
    found: list[Run] = []
    for path in sorted((results / slug(model)).rglob("*.json")):
        with suppress(RmbenchError):
            run = Run(read_record(path), path)
            if run.model == model and run.fingerprint != fingerprint:
                found.append(run)
    return found


def find_records(folder: Path, *, as_written: bool = True) -> Iterator[Run]:
    """Yield every record at or below `folder` (a results folder, a subfolder, or one file), in path order."""
    if folder.is_file():
        yield Run(read_record(folder, as_written=as_written), folder)
        return
    for path in sorted(folder.rglob("*.json"), key=lambda p: p.as_posix()):
        if not path.name.startswith("."):
            yield Run(read_record(path, as_written=as_written), path)


def _estimates(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    return {name: estimate_from_json(name, e) for name, e in raw.items()}


def estimate_from_json(name: str, e: Any) -> Estimate:
    """Return the estimate of the metric `name` from a record's JSON values; null is an infinite end.

    Raises:
        ValueError: If a value is missing or of another type; nothing is converted.
    """
    if not isinstance(e, Mapping):
        raise ValueError(f"the metric {name!r}: {type(e).__name__}; expected a number with its interval")
    for key, (fits, expected) in _ESTIMATE.items():
        if not fits(e.get(key, _MISSING if key != "remark" else "")):
            found = repr(e[key])[:40] if key in e else "missing"
            raise ValueError(f"the metric {name!r}, key {key!r}: {found}; expected {expected}")
    low, high = e["ci95"] or (None, None)
    interval = (-inf if low is None else float(low), inf if high is None else float(high))
    return Estimate(
        value=float(e["value"]),
        ci95=interval if e["ci95"] else None,  # an end that is infinite is null
        stderr=None if e["stderr"] is None else float(e["stderr"]),
        n=e["n"],
        n_clusters=e["n_clusters"],
        unit=e["unit"],
        higher_is_better=e["higher_is_better"],
        remark=e.get("remark", ""),
    )


_MISSING = object()


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_interval(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, list) or len(value) != 2 or not all(v is None or _is_number(v) for v in value):
        return False
    return None in value or value[0] <= value[1]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


_ESTIMATE: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "value": (_is_number, "a finite number"),
    "ci95": (_is_interval, "[low, high], low first, or null"),
    "stderr": (lambda value: value is None or _is_number(value), "a finite number or null"),
    "n": (_is_count, "a whole number"),
    "n_clusters": (_is_count, "a whole number"),
    "unit": (_is_text, "text"),
    "higher_is_better": (lambda value: isinstance(value, bool | None), "true, false or null"),
    "remark": (_is_text, "text"),
}


def complete_run(results: Path, model: str, spec: TaskSpec, run: str) -> Run | None:
    """Return the run if it is already complete, checked; None without a record."""
    path = record_folder(results, model, spec.name, spec.version) / f"{run}.json"
    if not path.exists():
        return None
    record = read_record(path)
    check_rewards_file(path.with_name(rewards_name(run)), record.rewards_sha256)
    return Run(record, path)
