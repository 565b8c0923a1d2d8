"""The items that a model gets most wrong, and the two responses of each that show it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.metrics import Panel
from rmbench.metrics.panel import pairs_of
from rmbench.metrics.selection import penalised, rule_of
from rmbench.plot import Source
from rmbench.results.compare import gold_of_pick


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
