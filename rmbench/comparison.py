"""Two models on the same items: paired differences, and where they disagree most."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.metrics import Panel, resolve_metric
from rmbench.metrics.headlines import HEADLINES
from rmbench.metrics.pairs import pairs_of
from rmbench.metrics.selection import Rule, expectation, penalised, rule_of
from rmbench.notebook import html_table
from rmbench.record_reader import StoredRun, find_records, stored_suite
from rmbench.specs import kinds_of
from rmbench.stats import Comparison, compare
from rmbench.tables import show_estimate
from rmbench.types import Estimate

_NOT_THE_MODELS = ("longer_wins", "gold@1", "oracle@max")
"""Headlines that describe the data alone."""


@dataclass(frozen=True, slots=True)
class MetricComparison:
    """One metric of two models."""

    metric: str
    first: Estimate
    second: Estimate
    paired: Comparison


@dataclass(frozen=True, slots=True)
class Disagreement:
    """One item on which the models part."""

    item: str
    first: float
    second: float
    """Share of the item's pairs in gold's order, or gold of the pick: what the task's headline is made of."""


@dataclass(frozen=True, slots=True)
class PairedReport:
    """Everything `rmbench compare` shows."""

    task: str
    first: str
    """Name of the first model."""
    second: str
    measure: str
    """What `Disagreement` values are."""
    metrics: tuple[MetricComparison, ...]
    disagreements: tuple[Disagreement, ...]

    def _repr_html_(self) -> str:
        """Return the comparison as notebooks show it."""
        rows = [
            (
                m.metric,
                *map(show_estimate, (m.first, m.second, m.paired.difference)),
                p_text(m.paired.p_value),
            )
            for m in self.metrics
        ]
        heads = ("metric", self.first, self.second, "difference (paired)", "p")
        return html_table(heads, rows, about=[f"{self.task}: {self.first} against {self.second}"])


def find_run(results: Path, name: str, task: str) -> StoredRun:
    """Return the one record that `name` means: a record's path, or a model's name in `results`.

    Raises:
        ConfigError: If there is none, or more than one (the message names them).
    """
    if name.endswith(".json") and Path(name).is_file():
        return next(find_records(Path(name)))
    if not results.is_dir():
        raise ConfigError(f"there is no folder {results}; run `rmbench eval` first or give --results")
    return pick_run(list(find_records(results)), name, task, str(results))


def pick_run(runs: Sequence[StoredRun], name: str, task: str, where: str) -> StoredRun:
    """Return the one of `runs` that is of this model and task; `where` begins messages.

    Raises:
        ConfigError: If there is none, or more than one (the message names them).
    """
    of_model = [r for r in runs if r.record.model == name]
    if not of_model:
        raise UnknownNameError("model", name, {r.record.model for r in runs}, where)
    of_task = [r for r in of_model if r.record.task == task]
    if not of_task:
        raise UnknownNameError("task", task, {r.record.task for r in of_model}, f"records of {name}")
    if len(of_task) > 1:
        paths = ", ".join(str(r.path) for r in of_task)
        raise ConfigError(f"{len(of_task)} records of {name!r} on {task!r}: name one by its path: {paths}")
    return of_task[0]


def headline_metrics(a: StoredRun, b: StoredRun, convention: str = "both") -> list[str]:
    """Return the metrics that two records are compared by unless somebody names others.

    Raises:
        ConfigError: If their task has none of the convention that was asked for.
    """
    kinds = kinds_of(a.record.identity["task"]["kinds"], convention)
    if not kinds:
        raise ConfigError(f"task {a.record.task!r} has no {convention} convention")
    known = {*a.record.metrics, *b.record.metrics}
    return [
        m
        for kind in kinds
        for m in HEADLINES.get(kind, ())
        if (m in known or m.endswith("@max")) and m not in _NOT_THE_MODELS
    ]


def p_text(value: float | None) -> str:
    """Return a p-value for people; a dash where there is none."""
    if value is None:
        return "-"
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"


def compare_runs(a: StoredRun, b: StoredRun, metrics: Sequence[str], n_items: int) -> PairedReport:
    """Compare two records of one task, metric by metric, on the same prompts.

    Args:
        a: First run.
        b: Second run.
        metrics: Names; `win_rate@max` is understood.
        n_items: How many disagreements to return.

    Raises:
        ConfigError: If the runs are not of the same items: a paired comparison would mean nothing.
    """
    for key in ("task", "data", "limit", "seed"):
        if a.record.identity[key] != b.record.identity[key]:
            raise ConfigError(
                f"{a.record.model!r} and {b.record.model!r} were not measured on the same items: their {key} "
                f"differs ({_brief(a.record.identity[key])} against {_brief(b.record.identity[key])})"
            )
    (suite_a, panel_a), (suite_b, panel_b) = stored_suite(a, strata=False), stored_suite(b, strata=False)
    if panel_a.ids != panel_b.ids:
        raise ConfigError("the two records hold different items; evaluate both models again")
    found = []
    for wanted in metrics:
        name = resolve_metric(wanted, {**suite_a.metrics, **suite_b.metrics})
        if name not in suite_a.metrics or name not in suite_b.metrics:
            continue
        first, second = suite_a.metrics[name], suite_b.metrics[name]
        found.append(MetricComparison(name, first.estimate(), second.estimate(), compare(first, second)))
    measure, value_a = _per_item(panel_a, a)
    _, value_b = _per_item(panel_b, b)
    gap = np.abs(value_a - value_b)
    order = np.lexsort((np.arange(len(gap)), -np.nan_to_num(gap, nan=-1.0)))[:n_items]
    worst = tuple(
        Disagreement(panel_a.ids[i], float(value_a[i]), float(value_b[i])) for i in order if gap[i] > 0
    )
    return PairedReport(a.record.task, a.record.model, b.record.model, measure, tuple(found), worst)


def _per_item(panel: Panel, run: StoredRun) -> tuple[str, np.ndarray]:
    """Return what is compared item by item, and its value per item (NaN where it has none)."""
    if "best_of_n" in run.record.identity["task"]["kinds"]:
        rule = rule_of(run.record.identity["task"]["params"])
        return "gold of the pick out of the whole pool", _gold_of_pick(panel, rule)
    pairs = pairs_of(panel)
    credit = (pairs.margin > 0) + 0.5 * (pairs.margin == 0)
    n = np.bincount(pairs.item, minlength=panel.n_items)
    total = np.bincount(pairs.item, weights=credit, minlength=panel.n_items)
    return "share of pairs ranked as gold does", np.where(n > 0, total / np.maximum(n, 1), np.nan)


def _gold_of_pick(panel: Panel, rule: Rule) -> np.ndarray:
    panel, picked = penalised(panel, rule), np.full(panel.n_items, np.nan)
    rng = np.random.default_rng(0)
    for i in range(panel.n_items):
        rows = slice(int(panel.offsets[i]), int(panel.offsets[i + 1]))
        rewards, gold = panel.rewards[None, rows], panel.gold[None, rows]
        if np.isfinite(rewards).all():
            size = rewards.shape[1]
            picked[i] = expectation(rule, size, (size,), rng)(rewards, [gold])[0][0, 0]
    return picked


def _brief(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else text[:57] + "..."
