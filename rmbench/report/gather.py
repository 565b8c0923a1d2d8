"""Which records a report is of, and which of them stand side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.plot import Source, name_sources
from rmbench.results.read import find_records
from rmbench.results.run import Run


@dataclass(frozen=True, slots=True)
class Section:
    """Models on the same items."""

    key: str
    """What ids of this section begin with."""
    tasks: tuple[str, ...]
    """Names of the tasks; several where their numbers are the same (`preference` and `calibration`)."""
    sources: tuple[Source, ...]

    @property
    def task(self) -> str:
        """The first task."""
        return self.tasks[0]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds that are measured."""
        return self.sources[0].kinds


def runs_of(names: Sequence[str], results: Path, tasks: Sequence[str] = ()) -> list[Run]:
    """Return the records that `names` mean: paths of records or folders, or models in `results`.

    They stand in the order of `tasks`; without, those of pools last, and else in the order of `names`.

    Args:
        names: As on the command line.
        results: Where the records of a model are looked for.
        tasks: Only those of these tasks; none: all.

    Raises:
        ConfigError: If one means nothing.
        UnknownNameError: If there is no such model, or no record of such a task.
        DataError: If a file is no record.
    """
    found: dict[Path, Run] = {}
    for name in names:
        for run in _runs(name, results):
            found.setdefault(run.path.resolve(), run)
    for task in tasks:
        known = {run.record.task for run in found.values()}
        if task not in known:
            raise UnknownNameError("task", task, known, f"records of {', '.join(names)}")
    runs = list(found.values())
    if tasks:
        place = {task: n for n, task in enumerate(tasks)}
        return sorted((r for r in runs if r.record.task in place), key=lambda r: place[r.record.task])
    return sorted(runs, key=_rank)


def _rank(run: Run) -> tuple[bool, bool]:
    """Say what stands later in a report: pools, and a task whose headline is an error of calibration."""
    return "best_of_n" in run.kinds, run.record.primary.startswith("ece")


def _runs(name: str, results: Path) -> list[Run]:
    path = Path(name)
    if path.exists():
        runs = list(find_records(path))
        if not runs:
            raise ConfigError(f"no record in {path}")
        return runs
    if name.endswith(".json"):
        raise ConfigError(f"there is no record {path}")
    if not results.is_dir():
        raise ConfigError(
            f"{name!r} is no path of records, and there is no folder {results} to look for a model in; "
            "run `rmbench eval` first or give --results"
        )
    runs = list(find_records(results))
    of_model = [run for run in runs if run.record.model == name]
    if not of_model:
        raise UnknownNameError("model", name, {run.record.model for run in runs}, str(results))
    return of_model


def sections_of(runs: Sequence[Run]) -> list[Section]:
    """Return runs by the items that they are of, in the order of the tasks' first records."""
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        place = (run.task, run.version, run.data, run.limit, run.seed)
        groups.setdefault(place, []).append(run)
    merged: list[tuple[list[str], list[Run]]] = []
    for group in groups.values():
        same = next((names for names, others in merged if _numbers(others) == _numbers(group)), None)
        if same is None:
            merged.append(([group[0].record.task], group))
        else:
            same.append(group[0].record.task)
    return [
        Section(f"s{n}", tuple(dict.fromkeys(names)), tuple(name_sources(group)))
        for n, (names, group) in enumerate(merged, 1)
    ]


def _numbers(runs: Sequence[Run]) -> list[Any]:
    return [(r.model, r.data, r.metrics, r.record.counts) for r in runs]
