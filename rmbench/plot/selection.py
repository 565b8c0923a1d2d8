"""The figure of best of N: what picking with the model gives, between chance and the best there is."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from rmbench.metrics.best_of_n import best_of_n_curves, prepare
from rmbench.plot.canvas import QUIET, band, dress, legend, level, new_figure, six
from rmbench.plot.source import Source
from rmbench.types import Estimate


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Curves over n, G of them."""

    n: list[int]
    win_rate: list[Estimate]
    gold: list[Estimate]
    oracle_win_rate: list[float]
    """Of a model whose reward is the gold."""
    oracle_gold: list[float]
    random_gold: float
    """The mean of a pool: what a pick at random gives, at every n."""


def find_best_of_n(source: Source) -> BestOfN | str:
    """Return the curves of a record, or why it has none."""
    if why := source.lacks("best_of_n"):
        return why
    win, gold, oracle = (source.metrics(stem) for stem in ("win_rate", "gold", "oracle"))
    if not win:
        return source.record.undefined.get("win_rate", "the record holds no win rate")
    ready = prepare(source.panel, source.params)
    curves = best_of_n_curves(replace(ready.pools, rewards=ready.pools.gold), ready.n_values)
    return BestOfN(
        list(win),
        list(win.values()),
        list(gold.values()),
        curves.win.mean(axis=0).tolist(),
        [e.value for e in oracle.values()],
        gold[min(gold)].value,
    )


def draw_best_of_n(figure_class: Any, found: Sequence[tuple[str, BestOfN]]) -> Any:
    """Draw win rate and gold against n, each with what the best pick and a random one would give."""
    figure = new_figure(figure_class, 2.7)
    left, right = figure.subplots(1, 2)
    for k, (name, one) in enumerate(found):
        for axes, values in ((left, one.win_rate), (right, one.gold)):
            band(axes, one.n, [e.value for e in values], [e.ci95 for e in values], k, name)
    drawn: list[tuple[list[float], list[float]]] = []
    for _, one in found:
        ends = (list(six(one.oracle_win_rate)), list(six(one.oracle_gold)))
        if ends in drawn:  # the same pools
            continue
        best_name = None if drawn else "best possible"
        for axes, best in ((left, one.oracle_win_rate), (right, one.oracle_gold)):
            axes.plot(one.n, six(best), color=QUIET, linewidth=0.9, linestyle="--", label=best_name)
        level(right, one.random_gold)
        drawn.append(ends)
    level(left, 0.5, "random pick")
    ticks = max((one.n for _, one in found), key=lambda n: n[-1])
    shown = [t for t in ticks if t == ticks[-1] or t * 1.3 < ticks[-1]]
    for axes, what in ((left, "win rate over the pool"), (right, "gold of the pick")):
        axes.set_xscale("log", base=2)
        axes.set_xticks(shown, [str(t) for t in shown])
        axes.set(xlabel="N (responses to choose from)", title=what)
        dress(axes)
    legend(figure, [left], 2 if len(found) <= 2 else None)
    return figure
