"""Texts of items, read from the task's data again: a record holds no text."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from rmbench.errors import ConfigError, RmbenchError, UnknownNameError
from rmbench.results.run import Run
from rmbench.tasks import read_task_items
from rmbench.tasks.spec import list_tasks
from rmbench.types import Item


@dataclass(frozen=True, slots=True)
class Texts:
    """Items with their texts, as far as they are at hand."""

    items: Mapping[str, Item] = field(default_factory=dict)
    why: str = ""
    """Why texts are missing; empty if none are missing."""


def read_texts(run: Run, wanted: Collection[str], data: Path | None) -> Texts:
    """Return the wanted items of a run's task.

    An item belongs to the run if it has as many responses, of the same lengths: an id alone could be that of
    other data. Published results have no lengths (zeros).

    Args:
        run: The run.
        wanted: Ids.
        data: Path of the task's data; None: the data in the package.

    Raises:
        RmbenchError: If `data` was given and cannot be read.
    """
    if not wanted:
        return Texts()
    task = run.task
    try:
        spec = run.spec()
        if data is None and spec.data.path is None:
            return Texts(why=f"the data of {task} is not part of the package; --data PATH shows the texts")
        found = read_task_items(spec, data, on_bad="skip", offline=True)
    except UnknownNameError:
        if data is not None:
            raise
        return Texts(why=f"the task file of {task} is not at hand; RMBENCH_TASKS_DIR names its folder")
    except RmbenchError as error:
        if data is not None:
            raise
        return Texts(why=f"the data of {task} could not be read: {error}")
    panel = run.panel
    place = {name: i for i, name in enumerate(panel.ids) if name in wanted}
    items = {}
    for item in found.items:
        if item.id in place:
            i = place[item.id]
            lengths = panel.lengths[panel.offsets[i] : panel.offsets[i + 1]]
            here = [len(r.text) for r in item.responses]
            if len(here) == len(lengths) and (not lengths.any() or here == [int(v) for v in lengths]):
                items[item.id] = item
    missing = len(place) - len(items)
    why = f"{missing} of {len(place)} items are not in the data at hand, or not with the same responses"
    return Texts(items, why if missing else "")


def data_by_task(given: Collection[str], tasks: Collection[str]) -> dict[str, Path]:
    """Return task -> path from `--data [TASK=]PATH`; a path alone is for the only task.

    Raises:
        ConfigError: If it does not say for which of several tasks, or a task has two.
    """
    found: dict[str, Path] = {}
    for text in given:
        task, equals, path = text.partition("=")
        if equals and task not in tasks and task in list_tasks():
            raise UnknownNameError("task", task, tasks, f"--data {text}: the report's tasks")
        if not equals or task not in tasks:  # a path may hold "=" itself
            if len(tasks) != 1:
                raise ConfigError(
                    f"--data {text}: the report is of {len(tasks)} tasks; give TASK=PATH with one of"
                    f" {', '.join(sorted(tasks))}"
                )
            task, path = next(iter(tasks)), text
        if task in found:
            raise ConfigError(f"--data is given twice for {task}")
        found[task] = Path(path)
    return found
