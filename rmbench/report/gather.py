"""Records of a report, and its sections: models on the same items."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rmbench.plot import Source, name_sources
from rmbench.report.tables import side_by_side
from rmbench.results.read import find_runs
from rmbench.results.run import Run
from rmbench.tasks.spec import task_name


@dataclass(frozen=True, slots=True)
class Section:
    """Models on the same items."""

    key: str
    """Prefix of this section's ids."""
    tasks: tuple[str, ...]
    """Names; several for tasks with equal numbers (`preference` and `calibration`)."""
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

    They are in the order of `tasks`; without `tasks` in the order of `names`, pools last.

    Args:
        names: Paths or model names, as on the command line.
        results: Folder where the records of a model are.
        tasks: Only records of these tasks; empty: of all tasks.

    Raises:
        ConfigError: If a path has no record.
        UnknownNameError: If there is no such model, or no record of such a task.
        DataError: If a file is not a record.
    """
    runs = find_runs(names, results, tasks)
    place = {task_name(task): n for n, task in enumerate(tasks)}
    return sorted(runs, key=lambda run: (place.get(run.task, 0), *(() if tasks else _rank(run))))


def _rank(run: Run) -> tuple[bool, bool]:
    """Return a sort key: pools stand last, before them tasks whose headline is a calibration error."""
    return "best_of_n" in run.kinds, run.record.primary.startswith("ece")


def sections_of(runs: Sequence[Run]) -> list[Section]:
    """Return runs by their items, in the order of the tasks' first records."""
    return [
        Section(f"s{n}", tuple(dict.fromkeys(name for name, _ in tasks)), tuple(name_sources(group)))
        for n, (tasks, group) in enumerate(side_by_side(runs), 1)
    ]
