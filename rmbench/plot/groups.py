"""Figures of groups of items: styles, strata, length bias and best of N."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from rmbench.benchmarks.rm_bench import STYLES
from rmbench.core.digits import Digits
from rmbench.metrics.best_of_n import best_of_n_curves, prepare
from rmbench.metrics.calibration import NO_PAIR
from rmbench.metrics.kinds import at_largest_n
from rmbench.metrics.panel import pairs_of, settle_invalid
from rmbench.metrics.preference import accuracy_by_length, correctness, ties_rule
from rmbench.plot.source import Source
from rmbench.plot.style import (
    COLOURS,
    INK,
    QUIET,
    band,
    doublings,
    dress,
    label,
    legend,
    level,
    new_figure,
    offsets,
    points,
    reach,
    six,
    style_of,
)
from rmbench.types import Estimate

MOST = 30
"""Largest number of strata shown per key, those with the most items."""
_PREFERRED = ("accuracy", "win_rate@max", "ece")


def find_styles(source: Source) -> Mapping[str, Any] | str:
    """Return domain -> matrix (3, 3) of win rates, the mean of domains as `all`; or why there is none."""
    if why := source.lacks("rm-bench"):
        return why
    return source.curve("style_matrix") or "an item has not three styles of two responses"


def draw_styles(figure_class: Any, found: Sequence[tuple[str, Mapping[str, Any]]]) -> Any:
    """Draw win rates between styles: a panel per record; for a single record a panel per domain too."""
    panels = [(name, "all" if "all" in one else next(iter(one)), one) for name, one in found]
    if len(found) == 1:
        panels = [(name, domain, one) for name, _, one in panels for domain in ["all", *one] if domain in one]
        panels = list({domain: (name, domain, one) for name, domain, one in panels}.values())
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure = new_figure(figure_class, 0.5 + 1.75 * rows)
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for axes, (name, domain, one) in zip(grid.flat, panels, strict=False):
        _heat(axes, np.asarray(one[domain], dtype=np.float64))
        what = "all domains" if domain == "all" else f"{domain} alone"
        alone = [name] if domain == "all" else [name, what]  # without a mean of all domains
        axes.set_title("\n".join(label(line, 24) for line in (alone if len(found) > 1 else [what])))
    for empty in grid.flat[len(panels) :]:
        empty.axis("off")
    figure.supxlabel("style of the rejected response", fontsize=8)
    figure.supylabel("style of the chosen response", fontsize=8)
    return figure


def _heat(axes: Any, matrix: Any) -> None:
    """Draw cells whose opacity is their value, as vectors that a page can colour."""
    names = [style.replace("detailed_", "") for style in STYLES]
    for i in range(3):
        for j in range(3):
            value = float(matrix[i, j])
            cell = {"alpha": round(min(max(value, 0.0), 1.0) * 0.7, 3), "linewidth": 0}
            axes.bar([j], [1], bottom=[i - 0.5], width=1, color=COLOURS[0], **cell)
            axes.text(j, i, Digits(2).write(value), ha="center", va="center", fontsize=8, color=INK)
    axes.set(xlim=(-0.5, 2.5), ylim=(2.5, -0.5), aspect="equal")
    axes.set_xticks(range(3), names)
    axes.set_yticks(range(3), names)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)


@dataclass(frozen=True, slots=True)
class Strata:
    """One metric by stratum."""

    metric: str
    overall: Estimate
    by_key: dict[str, dict[str, Estimate]]
    """Stratum key -> stratum -> number; strata without a value are left out."""
    undefined: dict[str, int]
    """Stratum key -> number of strata without a value."""


def find_strata(source: Source) -> Strata | str:
    """Return the headline by stratum; if strata lack it, another metric that they have."""
    strata, record = source.record.strata, source.record
    if not strata:
        return f"the task {record.task} has no strata"
    held = {name for values in strata.values() for metrics in values.values() for name in metrics}
    known = {name: e for name, e in record.metrics.items() if name in held}
    for wanted in (record.primary, *_PREFERRED, *known):
        metric = at_largest_n(wanted, [known])
        if metric in known:
            break
    else:
        return "no stratum has a value"
    by_key = {
        key: {value: metrics[metric] for value, metrics in values.items() if metric in metrics}
        for key, values in strata.items()
    }
    undefined = {key: len(values) - len(by_key[key]) for key, values in strata.items()}
    return Strata(metric, record.metrics[metric], {k: v for k, v in by_key.items() if v}, undefined)


def draw_strata(figure_class: Any, found: Sequence[tuple[str, Strata]]) -> Any:
    """Draw the metric with its interval on all items and in each stratum, a block per key."""
    keys = list(dict.fromkeys(key for _, one in found for key in one.by_key))
    rows = {key: _largest([one.by_key.get(key, {}) for _, one in found]) for key in keys}
    sizes = [len(rows[key][0]) + (key == keys[0]) for key in keys]
    lanes = max(0.16, 0.075 * len(found) + 0.06)
    figure = new_figure(figure_class, 0.75 + lanes * sum(sizes) + 0.28 * len(keys))
    grid = figure.subplots(len(keys), 1, squeeze=False, sharex=True, height_ratios=[s + 0.4 for s in sizes])
    for axes, key in zip(grid[:, 0], keys, strict=True):
        names, n_all = rows[key]
        lead = ["all"] if key == keys[0] else []
        place = {name: y for y, name in enumerate([*lead, *names])}
        for k, (name, one) in enumerate(found):
            there = {n: e for n, e in one.by_key.get(key, {}).items() if n in names}
            shown = [*([(0, one.overall)] if lead else []), *((place[n], e) for n, e in there.items())]
            _lane(axes, shown, k, len(found), name)
            axes.axvline(six(one.overall.value), color=style_of(k)["color"], linewidth=0.6, linestyle=":")
        cut = f" ({len(names)} of {n_all}, the largest)" if len(names) < n_all else ""
        axes.set_title(label(key, 40) + cut, fontsize=7)
        axes.set_yticks(range(len(place)), [label(n, 24) for n in place])
        axes.set_ylim(len(place) - 0.4, -0.6)
        dress(axes, grid="x")
    metrics = dict.fromkeys(one.metric for _, one in found)
    grid[-1][0].set_xlabel(label(" / ".join(metrics), 60))
    if len(found) > 1:
        legend(figure, list(grid.flat))
    return figure


def _lane(axes: Any, shown: Sequence[tuple[int, Estimate]], k: int, n_records: int, name: str) -> None:
    """Draw points with intervals along x, beside those of the other records."""
    values = [e.value for _, e in shown]
    style = style_of(k) | {"linestyle": ""}
    y = np.array([at for at, _ in shown]) + offsets(n_records, 0.6)[k]
    xerr = reach(values, [e.ci95 for _, e in shown])
    axes.errorbar(six(values), six(y), xerr=xerr, elinewidth=0.9, label=label(name), **style)


def _largest(several: Sequence[Mapping[str, Estimate]]) -> tuple[list[str], int]:
    """Return the strata with the most observations, by name, and how many there are."""
    n: dict[str, int] = {}
    for one in several:
        for name, estimate in one.items():
            n[name] = max(n.get(name, 0), estimate.n)
    kept = sorted(n, key=lambda name: (-n[name], name))[:MOST]
    return sorted(kept), len(n)


_METRICS = {
    "accuracy": "accuracy",
    "accuracy_length_controlled": "at equal\nlength",
    "longer_wins": "always the\nlonger",
}


@dataclass(frozen=True, slots=True)
class LengthBias:
    """Accuracy, accuracy at equal length, and accuracy by difference in length."""

    metrics: dict[str, Estimate]
    tenths: list[dict[str, Any]]
    """See `accuracy_by_length`."""


def find_length_bias(source: Source) -> LengthBias | str:
    """Return the length bias of a record, or the reason for none."""
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


@dataclass(frozen=True, slots=True)
class BestOfN:
    """Curves over n, G of them."""

    n: list[int]
    win_rate: list[Estimate]
    gold: list[Estimate]
    oracle_win_rate: list[float]
    """Of a model whose reward is the gold itself."""
    oracle_gold: list[float]
    random_gold: float
    """Mean gold of a pool: a random pick's, at every n."""


def find_best_of_n(source: Source) -> BestOfN | str:
    """Return the curves of a record, or the reason for none."""
    if why := source.lacks("best_of_n"):
        return why
    win, gold, oracle = (source.by_n(stem) for stem in ("win_rate", "gold", "oracle"))
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
    """Draw win rate and gold against n, between a random pick and the best possible one."""
    figure = new_figure(figure_class, 2.7)
    left, right = figure.subplots(1, 2)
    for k, (name, one) in enumerate(found):
        for axes, values in ((left, one.win_rate), (right, one.gold)):
            band(axes, one.n, [e.value for e in values], [e.ci95 for e in values], k, name)
    drawn: list[tuple[list[float], list[float]]] = []
    for _, one in found:
        ends = (list(six(one.oracle_win_rate)), list(six(one.oracle_gold)))
        if ends in drawn:  # records on the same pools
            continue
        best_name = None if drawn else "best possible"
        for axes, best in ((left, one.oracle_win_rate), (right, one.oracle_gold)):
            axes.plot(one.n, six(best), color=QUIET, linewidth=0.9, linestyle="--", label=best_name)
        level(right, one.random_gold)
        drawn.append(ends)
    level(left, 0.5, "random pick")
    ticks = max((one.n for _, one in found), key=lambda n: n[-1])
    for axes, what in ((left, "win rate over the pool"), (right, "gold of the pick")):
        doublings(axes, ticks)
        axes.set(xlabel="N (responses to choose from)", title=what)
        dress(axes)
    legend(figure, [left], 2 if len(found) <= 2 else None)
    return figure
