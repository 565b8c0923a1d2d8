"""The items that a model gets most wrong, and the two responses of each that show it.

Texts are read from the task's data again, or from where `--keep-texts` put them: a record holds no text.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from rmbench.errors import ConfigError, RmbenchError, UnknownNameError
from rmbench.metrics import Panel
from rmbench.metrics.panel import pairs_of
from rmbench.metrics.selection import penalised, rule_of
from rmbench.plot import Source
from rmbench.results.disagree import gold_of_pick
from rmbench.results.run import Run
from rmbench.results.texts import kept_texts
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
    kept = None if data is not None else kept_texts(run, wanted)
    if kept is not None:
        return _own(run, wanted, kept)
    task = run.task
    try:
        spec = run.spec()
        if data is None and spec.data.path is None:
            return Texts(
                why=f"the data of {task} is not part of the package; --data PATH shows the texts, and"
                " `rmbench eval --keep-texts` keeps them with the records"
            )
        found = read_task_items(spec, data, on_bad="skip", offline=True)
    except UnknownNameError:
        if data is not None:
            raise
        return Texts(why=f"the task file of {task} is not at hand; RMBENCH_TASKS_DIR names its folder")
    except RmbenchError as error:
        if data is not None:
            raise
        return Texts(why=f"the data of {task} could not be read: {error}")
    return _own(run, wanted, found.items)


def _own(run: Run, wanted: Collection[str], found: Iterable[Item]) -> Texts:
    """Return those of the items found that belong to the run."""
    panel = run.panel
    place = {name: i for i, name in enumerate(panel.ids) if name in wanted}
    items = {}
    for item in found:
        if item.id in place:
            i = place[item.id]
            lengths = panel.lengths[panel.offsets[i] : panel.offsets[i + 1]]
            here = [len(r.text) for r in item.responses]
            if len(here) == len(lengths) and (not lengths.any() or here == [int(v) for v in lengths]):
                items[item.id] = item
    missing = len(place) - len(items)
    why = (
        f"{missing} of {len(place)} items are not in the data at hand, or not with the same responses;"
        " --data PATH names it, and `rmbench eval --keep-texts` keeps texts with the records"
    )
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


@dataclass(frozen=True, slots=True)
class ShownResponse:
    """One response of an item."""

    what: str
    """`chosen`, `rejected`, `picked` or `best`."""
    place: int
    """Among the item's responses, from 0."""
    reward: float
    gold: float
    length: int
    """Characters; 0 if unknown."""


@dataclass(frozen=True, slots=True)
class Worst:
    """One item that a model gets wrong."""

    item: str
    index: int
    """Of the item in the panel."""
    responses: tuple[ShownResponse, ShownResponse]
    """Chosen and rejected, or best and picked."""
    margin: float
    """Reward of the first less that of the second."""
    loss: float
    """Size of the margin, or gold lost."""
    n_responses: int


def picks(source: Source) -> bool:
    """Return whether a record measures best of N, not pairs."""
    return "best_of_n" in source.kinds


def worst_items(source: Source, n: int) -> list[Worst]:
    """Return at most `n` items that the model gets wrong, the worst first, equal ones in the data's order.

    Of pairs: the largest margin for the wrong response; an item of several pairs stands with its worst one.
    Of pools: the most gold lost by the pick of the highest reward, then the larger margin of that pick.
    Items with a reward that is no finite number are not among them.
    """
    return _of_pools(source, n) if picks(source) else _of_pairs(source.panel, n)


def _of_pairs(panel: Panel, n: int) -> list[Worst]:
    pairs = pairs_of(panel)
    wrong = np.flatnonzero(pairs.margin < 0)  # NaN is not
    order = wrong[np.lexsort((wrong, pairs.margin[wrong]))]
    _, first = np.unique(pairs.item[order], return_index=True)
    found = []
    for k in order[np.sort(first)][:n]:
        rows = ("chosen", int(pairs.chosen[k])), ("rejected", int(pairs.rejected[k]))
        margin = float(pairs.margin[k])
        found.append(_worst(panel, panel, int(pairs.item[k]), rows, margin, -margin))
    return found


def _of_pools(source: Source, n: int) -> list[Worst]:
    panel = source.panel
    # The rule's rewards decide the pick: a penalty changes the model's own.
    judged, picked = penalised(panel, rule_of(source.params)), gold_of_pick(panel, rule_of(source.params))
    found = []
    for i in range(panel.n_items):
        start, stop = int(panel.offsets[i]), int(panel.offsets[i + 1])
        rewards, gold = judged.rewards[start:stop], panel.gold[start:stop]
        if not (np.isfinite(rewards).all() and np.isfinite(gold).all()):
            continue
        # Equal rewards: the loss is the mean over them, and the worst of them is shown.
        tied = np.flatnonzero(rewards == rewards.max())
        pick, best = start + int(tied[gold[tied].argmin()]), start + int(gold.argmax())
        lost = float(gold.max() - picked[i])
        if lost > 0.0:
            rows = ("best", best), ("picked", pick)
            found.append(
                _worst(panel, judged, i, rows, float(judged.rewards[best] - judged.rewards[pick]), lost)
            )
    return sorted(found, key=lambda w: (-w.loss, w.margin, w.index))[:n]


def _worst(
    panel: Panel, judged: Panel, item: int, rows: Sequence[tuple[str, int]], margin: float, loss: float
) -> Worst:
    start = int(panel.offsets[item])
    first, second = (
        ShownResponse(
            what, row - start, float(judged.rewards[row]), float(panel.gold[row]), int(panel.lengths[row])
        )
        for what, row in rows
    )
    return Worst(panel.ids[item], item, (first, second), margin, loss, int(panel.sizes[item]))


def margin_of(source: Source, worst: Worst) -> float | None:
    """Return another model's margin between the same two responses; None where it has other items."""
    panel = source.panel
    if worst.index >= panel.n_items or panel.ids[worst.index] != worst.item:
        return None
    rows = [int(panel.offsets[worst.index]) + shown.place for shown in worst.responses]
    if max(rows) >= int(panel.offsets[worst.index + 1]):
        return None
    judged = penalised(panel, rule_of(source.params)) if picks(source) else panel
    return float(judged.rewards[rows[0]] - judged.rewards[rows[1]])
