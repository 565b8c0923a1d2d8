"""The figure of length bias: is the longer response preferred because it is longer?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rmbench.metrics.calibration import NO_PAIR
from rmbench.metrics.length import accuracy_by_length
from rmbench.metrics.pairs import pairs_of
from rmbench.metrics.panel import settle_invalid
from rmbench.metrics.preference import correctness, ties_rule
from rmbench.plot.canvas import dress, legend, level, new_figure, offsets, points, reach, six, style_of
from rmbench.plot.source import Source
from rmbench.types import Estimate

_METRICS = {
    "accuracy": "accuracy",
    "accuracy_length_controlled": "at equal\nlength",
    "longer_wins": "always the\nlonger",
}


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Accuracy, what is left of it at equal length, and how it goes with the difference in length."""

    metrics: dict[str, Estimate]
    tenths: list[dict[str, Any]]
    """See `accuracy_by_length`."""


def find_length_bias(source: Source) -> LengthBias | str:
    """Return what a record knows of length, or why it knows nothing."""
    if why := source.lacks("preference"):
        return why
    if "longer_wins" not in source.record.metrics:
        return source.record.undefined.get("longer_wins", "the record does not hold how often longer wins")
    params = source.params
    panel, _ = settle_invalid(source.panel, str(params.get("invalid", "fail")), ranking=True)
    pairs = pairs_of(panel)
    if len(pairs) == 0:
        return NO_PAIR
    credit = correctness(panel, pairs, ties_rule(params))
    held = {name: source.record.metrics[name] for name in _METRICS if name in source.record.metrics}
    return LengthBias(held, accuracy_by_length(pairs, credit, panel.n_clusters))


def draw_length_bias(figure_class: Any, found: Sequence[tuple[str, LengthBias]]) -> Any:
    """Draw the three numbers, and accuracy against how much longer the chosen response is."""
    figure = new_figure(figure_class, 2.7)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=[2, 3])
    for k, (name, one) in enumerate(found):
        values = [e.value for e in one.metrics.values()]
        places = [list(_METRICS).index(m) for m in one.metrics]
        x = np.array(places) + offsets(len(found), 0.4)[k]
        intervals = [e.ci95 for e in one.metrics.values()]
        style = style_of(k) | {"linestyle": ""}
        left.errorbar(six(x), six(values), yerr=reach(values, intervals), elinewidth=0.9, **style)
        rows = one.tenths
        spread = [tuple(r["ci95"]) if r["ci95"] else None for r in rows]
        places, shares = [r["length_median"] for r in rows], [r["accuracy"] for r in rows]
        points(right, places, shares, spread, k, name, faint=len(found) > 2)
    left.set_xticks(range(len(_METRICS)), list(_METRICS.values()))
    left.set(xlim=(-0.5, len(_METRICS) - 0.5), ylabel="share of pairs")
    right.locator_params(axis="x", nbins=5)
    right.set_xlabel("chosen is longer by (characters)")
    right.set_title("accuracy by difference in length")
    right.axvline(0, color=right.spines["left"].get_edgecolor(), linewidth=0.5)
    for axes in (left, right):
        level(axes, 0.5)
        dress(axes)
    if len(found) > 1:
        legend(figure, [right])
    return figure
