"""The first wrong step: task kind `process`, for rewards of the steps of a solution.

An item is one solution. Response k is the solution up to and with step k; its reward is the value of step k.
Gold is 1 for each step before the first wrong one, 0 for that one, and unknown after it. A solution that is
all right has gold 1 throughout. So records, panels and models need nothing new: a model that rates steps
gives the value at the end of the text, and any reward model can be asked where its reward falls.

A model names the first step whose reward is below a threshold, or no step. The threshold is fitted on *other*
problems, to the best F1. No scale is assumed but for the calibration of steps, which needs probabilities.
"""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from rmbench.core.options import Option
from rmbench.metrics.calibration import cross_fitted
from rmbench.metrics.kinds import Measured, Metric, Params, register_kind
from rmbench.metrics.margins import area_under_roc
from rmbench.metrics.panel import Panel, folds_of, left_out_items, settle_invalid
from rmbench.metrics.temperature import fit_temperature, named_bound, sigma
from rmbench.stats import Statistic, cluster_sums, mean, shares
from rmbench.stats.clusters import Floats, Ints

Mask: TypeAlias = NDArray[np.bool_]

_NEAREST = 1e-6
"""Probabilities of 0 and 1 are moved inside by this, so that their log-odds are finite."""
_DEPTHS = ((1, 1), (2, 2), (3, 3), (4, 5), (6, 8), (9, 10**9))
"""Places of the first wrong step, from 1, that share a row of the curve."""


@dataclass(frozen=True)
class Solutions:
    """I solutions with their step rewards.

    A threshold t names the right step, or rightly none, if and only if `low < t <= high`.
    """

    panel: Panel
    label: Ints
    """Index of the first wrong step, shape (I,); -1: the solution is all right."""
    low: Floats
    """Reward of the first wrong step, shape (I,); -inf for a solution that is all right."""
    high: Floats
    """Least reward of the steps before it (of all steps), shape (I,); inf without one."""

    @property
    def wrong(self) -> Mask:
        """Solutions with a wrong step, shape (I,)."""
        return self.label >= 0

    @property
    def cluster(self) -> Ints:
        """Problem of each solution, shape (I,)."""
        return self.panel.cluster

    @cached_property
    def steps(self) -> list[Floats]:
        """Rewards of each solution's steps."""
        return np.split(self.panel.rewards, self.panel.offsets[1:-1])

    def hit(self, threshold: Floats | float) -> Floats:
        """Return 1 for each solution where the threshold names the right step, or rightly none, (I,)."""
        return ((self.low < threshold) & (threshold <= self.high)).astype(np.float64)

    def named(self, threshold: Floats) -> Ints:
        """Return the index of the first step below a threshold (I,), shape (I,); -1 without one."""
        found = np.full(len(self.label), -1, dtype=np.int64)
        for i, (rewards, least) in enumerate(zip(self.steps, threshold, strict=True)):
            below = np.flatnonzero(rewards < least)
            if len(below):
                found[i] = below[0]
        return found


def solutions_of(panel: Panel) -> Solutions | str:
    """Return the solutions of a panel; or the reason why it has none."""
    gold = np.split(panel.gold, panel.offsets[1:-1])
    rewards = np.split(panel.rewards, panel.offsets[1:-1])
    label = np.full(panel.n_items, -1, dtype=np.int64)
    low, high = np.full(panel.n_items, -np.inf), np.full(panel.n_items, np.inf)
    for i, (truth, given) in enumerate(zip(gold, rewards, strict=True)):
        wrong = np.flatnonzero(truth == 0.0)
        first = int(wrong[0]) if len(wrong) else len(truth)
        if not (truth[:first] == 1.0).all():
            return f"item {panel.ids[i]!r} has a step without gold 1 or 0 before its first wrong one"
        if len(wrong):
            label[i], low[i] = first, given[first]
        if first:
            high[i] = given[:first].min()
    if not (label >= 0).any() or (label >= 0).all():
        return "no solution with a wrong step" if not (label >= 0).any() else "no solution that is all right"
    return Solutions(panel, label, low, high)


def harmonic(wrong: Statistic, right: Statistic) -> Statistic:
    """Return 2ab / (a + b) of two statistics over the same clusters, linearised; 0 without an error at 0."""
    a, b = wrong.value, right.value
    if a + b == 0.0 or wrong.influence is None or right.influence is None:
        return replace(wrong, value=0.0, influence=None, n=wrong.n + right.n, linear=False)
    by_wrong, by_right = 2.0 * b * b / (a + b) ** 2, 2.0 * a * a / (a + b) ** 2
    total = wrong.n + right.n
    held = [np.zeros_like(s.influence) if s.share is None else s.share * s.n for s in (wrong, right)]
    return Statistic(
        value=2.0 * a * b / (a + b),
        influence=by_wrong * wrong.influence + by_right * right.influence,
        share=(held[0] + held[1]) / total,
        n=total,
        n_clusters=int(np.count_nonzero(held[0] + held[1])),
        bounded=True,
    )


def three_numbers(found: Solutions, hit: Floats, of: Mask | None = None) -> list[Statistic]:
    """Return F1, the accuracy on wrong and on right solutions, of all or some of the solutions.

    Args:
        found: I solutions.
        hit: 1 where the right step is named, or rightly none, shape (I,).
        of: Solutions to count, shape (I,), some wrong and some right; None: all.
    """
    of = np.ones(len(hit), dtype=bool) if of is None else of
    n_clusters = found.panel.n_clusters
    wrong, right = (
        mean(hit[part], found.cluster[part], n_clusters, bounded=True)
        for part in (of & found.wrong, of & ~found.wrong)
    )
    return [harmonic(wrong, right), wrong, right]


def best_threshold(found: Solutions, inside: Mask) -> float:
    """Return the threshold of the best F1 on the solutions `inside` (I,), the lowest of equal ones.

    F1 changes at rewards alone. The threshold is put in the middle between two of them.
    """
    possible = inside & (found.low < found.high)
    ends = np.unique(np.concatenate([found.low[inside], found.high[inside]]))
    ends = ends[np.isfinite(ends)]
    if len(ends) == 0:
        return 0.0
    scores = []
    for part in (found.wrong, ~found.wrong):
        here = possible & part
        lows, highs = np.sort(found.low[here]), np.sort(found.high[here])
        # At t = ends[k]: those with low < t, without those with high < t.
        n = np.searchsorted(lows, ends, "left") - np.searchsorted(highs, ends, "left")
        scores.append(n / max(1, int((inside & part).sum())))
    a, b = scores
    f1 = np.divide(2.0 * a * b, a + b, out=np.zeros(len(ends)), where=a + b > 0.0)
    k = int(np.argmax(f1))
    return float(ends[k] if k == 0 else 0.5 * (ends[k - 1] + ends[k]))


def fitted_thresholds(found: Solutions, n_folds: int, seed: int) -> Floats:
    """Return for each solution the threshold that is best on the other folds of problems, shape (I,)."""
    fold = folds_of(found.cluster, n_folds, seed)
    thresholds = np.empty(len(fold))
    for k in range(int(fold.max()) + 1):
        thresholds[fold == k] = best_threshold(found, fold != k)
    return thresholds


@dataclass(frozen=True, kw_only=True)
class Process(Params):
    """Parameters of the kind `process`."""

    bins: Annotated[int, Option("most bins of the reliability curve of steps", low=2)] = 15
    folds: Annotated[int, Option("folds of the cross-fitted threshold and temperature", low=2)] = 5


_REDUCTIONS = ("min", "product", "mean", "last")
_STEPS = ("step_temperature", "step_ece", "step_ece_scaled")


@register_kind(
    "process",
    params=Process,
    title="First wrong step",
    needs_scale=lambda _: True,
    metrics=[
        Metric(
            "process_f1", "harmonic mean of the two accuracies; threshold fitted on others", in_strata=True
        ),
        Metric("process_found", "wrong solutions whose first wrong step is named", in_strata=True),
        Metric("process_passed", "right solutions in which no step is named", in_strata=True),
        Metric("process_early", "wrong solutions in which an earlier step is named"),
        Metric("process_late", "wrong solutions in which a later step is named"),
        Metric("process_missed", "wrong solutions in which no step is named"),
        *(
            Metric(
                f"auroc_{name}",
                f"right solutions told from wrong ones by the {name} of step rewards",
                in_strata=True,
            )
            for name in _REDUCTIONS
        ),
        Metric("step_temperature", "temperature of the steps' log-odds", brief=False),
        Metric("step_ece", "calibration error of the steps' probabilities"),
        Metric("step_ece_scaled", "the same after a temperature fitted on other problems"),
    ],
)
def measure_process(panel: Panel, params: Process) -> Measured:
    """Measure how well step rewards show the first wrong step of a solution.

    Args:
        panel: Items as the module describes them.
        params: Folds and bins.

    Returns:
        F1 and both accuracies at the cross-fitted threshold, depth of the errors, AUROC of "all right" by
        the least, product, mean and last step reward, and calibration of steps. The curve `first_wrong_step`
        has a row per depth.
    """
    left_out = left_out_items(panel, params.invalid, ranking=False)
    panel, n_invalid = settle_invalid(panel, params.invalid, ranking=False)
    counts = {"invalid": n_invalid}
    found = solutions_of(panel) if panel.n_items else "no solution"
    if isinstance(found, str):
        return Measured({}, counts, dict.fromkeys(measure_process.headlines, found), {}, left_out)
    metrics, undefined, curves = dict[str, Statistic](), dict[str, str](), dict[str, Any]()
    if len(np.unique(found.cluster)) < 2:
        names = [n for n in measure_process.headlines if n.startswith("process_")]
        undefined |= dict.fromkeys(names, "fewer than two problems to cross-fit a threshold")
    else:
        _put_named(found, params, metrics, curves)
    certain = _are_probabilities(panel.rewards)
    for name in _REDUCTIONS:
        if name == "product" and not certain:
            undefined[f"auroc_{name}"] = _NO_PROBABILITY
            continue
        score = np.array([_reduced(name, rewards) for rewards in found.steps])
        area = area_under_roc(score, (~found.wrong).astype(np.float64), found.cluster, panel.n_clusters)
        if area is not None:
            metrics[f"auroc_{name}"] = area
    if not certain:
        undefined |= dict.fromkeys(_STEPS, _NO_PROBABILITY)
    elif not params.short:
        _put_calibration(panel, params, metrics, undefined, curves)
    return Measured(metrics, counts, undefined, curves, left_out)


_NO_PROBABILITY = "rewards are no probabilities: some are outside [0, 1]"


def _are_probabilities(rewards: Floats) -> bool:
    return bool(((rewards >= 0.0) & (rewards <= 1.0)).all())


def _reduced(name: str, rewards: Floats) -> float:
    if name == "product":
        return float(np.log(np.maximum(rewards, np.finfo(float).tiny)).sum())
    return float({"min": rewards.min(), "mean": rewards.mean(), "last": rewards[-1]}[name])


def _put_named(
    found: Solutions, params: Process, metrics: dict[str, Statistic], curves: dict[str, Any]
) -> None:
    thresholds = fitted_thresholds(found, params.folds, params.seed)
    hit = found.hit(thresholds)
    names = ("process_f1", "process_found", "process_passed")
    metrics |= zip(names, three_numbers(found, hit), strict=True)
    if params.short:
        return
    wrong, label = found.wrong, found.label
    named = found.named(thresholds)
    places = {
        "process_early": (named >= 0) & (named < label),
        "process_late": named > label,
        "process_missed": named < 0,
    }
    for name, there in places.items():
        value = mean(
            there[wrong].astype(np.float64), found.cluster[wrong], found.panel.n_clusters, bounded=True
        )
        metrics[name] = replace(value, higher_is_better=False)
    curves["step_thresholds"] = [float(t) for t in np.unique(thresholds)]
    curves["first_wrong_step"] = [
        {
            "from": low, "to": int(label[here].max()) + 1, "n": int(here.sum()),
            "found": float(hit[here].mean()),
            **{name.removeprefix("process_"): float(there[here].mean()) for name, there in places.items()},
        }
        for low, high in _DEPTHS
        if (here := wrong & (label + 1 >= low) & (label + 1 <= high)).any()
    ]  # fmt: skip


def _put_calibration(
    panel: Panel,
    params: Process,
    metrics: dict[str, Statistic],
    undefined: dict[str, str],
    curves: dict[str, Any],
) -> None:
    """Add the calibration of the probabilities of all steps with gold; later steps have no truth."""
    known = np.isfinite(panel.gold)
    label, cluster = panel.gold[known], panel.cluster[panel.item_of_row()][known]
    p = np.clip(panel.rewards[known], _NEAREST, 1.0 - _NEAREST)
    margin = np.log(p) - np.log1p(-p)
    fit = fit_temperature(margin, label, cluster, panel.n_clusters)
    why = fit if isinstance(fit, str) else named_bound(fit)
    if why:
        undefined["step_temperature"] = why
    elif not isinstance(fit, str):
        metrics["step_temperature"] = fit
    scaled = cross_fitted(margin, label, cluster, params.folds, params.seed)
    metrics["step_ece"], curves["step_reliability"] = step_error(
        p, label, cluster, panel.n_clusters, params.bins
    )
    if isinstance(scaled, str):
        undefined["step_ece_scaled"] = scaled
        return
    error, table = step_error(sigma(scaled), label, cluster, panel.n_clusters, params.bins)
    metrics["step_ece_scaled"], curves["step_reliability_scaled"] = error, table


def step_error(
    p: Floats, label: Floats, cluster: Ints, n_clusters: int, bins: int
) -> tuple[Statistic, list[dict[str, float | int]]]:
    """Return the ECE of probabilities in bins of equal mass, and its reliability table.

    A step has no mirror image, unlike a pair, so bins hold forecasts as they are. The interval takes bins and
    signs as fixed. Noise makes the value too large where steps are few.

    Args:
        p: Claimed P(the step is right), shape (n,).
        label: 1 for a right step, shape (n,).
        cluster: Shape (n,).
        n_clusters: Clusters in the panel.
        bins: Most bins.
    """
    edges = np.unique(np.quantile(p, np.arange(1, bins) / bins, method="higher"))
    here = np.searchsorted(edges, p, side="right")
    n = np.bincount(here, minlength=len(edges) + 1)
    forecast, observed = (np.bincount(here, v, minlength=len(edges) + 1) for v in (p, label))
    side = np.sign(forecast - observed)[here]
    value = float(np.abs(forecast - observed).sum() / len(p))
    pull = (side * (p - label) - value) / len(p)
    error = Statistic(
        value=value,
        influence=cluster_sums(pull, cluster, n_clusters),
        share=shares(cluster, n_clusters),
        n=len(p),
        n_clusters=len(np.unique(cluster)),
        higher_is_better=False,
        bounded=True,
    )
    table: list[dict[str, float | int]] = [
        {"n": int(k), "forecast": float(f / k), "observed": float(o / k)}
        for k, f, o in zip(n, forecast, observed, strict=True)
        if k > 0
    ]
    return error, table
