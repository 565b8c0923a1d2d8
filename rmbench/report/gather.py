"""Records of a report, and its sections: models on the same items."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.plot import Source, name_sources
from rmbench.report.tables import side_by_side
from rmbench.results.read import find_records
from rmbench.results.run import Run


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
    """Return a sort key: pools stand last, before them tasks whose headline is a calibration error."""
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
    """Return runs by their items, in the order of the tasks' first records."""
    return [
        Section(f"s{n}", tuple(dict.fromkeys(name for name, _ in tasks)), tuple(name_sources(group)))
        for n, (tasks, group) in enumerate(side_by_side(runs), 1)
    ]
