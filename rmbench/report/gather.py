"""Which records a report is of, and which of them stand side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.plot import Source, name_sources
from rmbench.results.read import find_runs
from rmbench.results.run import Run
from rmbench.tasks.spec import task_name


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
    runs = find_runs(names, results, tasks)
    place = {task_name(task): n for n, task in enumerate(tasks)}
    return sorted(runs, key=lambda run: (place.get(run.task, 0), *(() if tasks else _rank(run))))


def _rank(run: Run) -> tuple[bool, bool]:
    """Say what stands later in a report: pools, and a task whose headline is an error of calibration."""
    return "best_of_n" in run.kinds, run.record.primary.startswith("ece")


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
