"""The verdict of a comparison in one sentence, and gates on it for continuous integration.

A verdict is on one metric that is named before the data is looked at: the task's headline, or the first
`--metric`. Its tests, of every pair of models, are a family of their own: they are not corrected for the
further metrics that a table shows, which are a second family.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from rmbench.core.digits import digits_of_estimates, probability, significant
from rmbench.core.escape import one_line
from rmbench.errors import ConfigError
from rmbench.metrics.kinds import at_largest_n
from rmbench.results.compare import (
    ItemCount,
    ManyReport,
    MetricComparison,
    PairedReport,
    compare_many,
    headline_metrics,
    verdict_metric,
)
from rmbench.results.run import Run
from rmbench.results.strata import StrataReport, strata_of
from rmbench.stats import Tested
from rmbench.types import Estimate

Gate: TypeAlias = Literal["better", "not-worse"]
GATES: tuple[Gate, ...] = ("better", "not-worse")
_MOST_PROMPTS = 10**7


@dataclass(frozen=True, slots=True)
class Verdict:
    """The first model against one other, on one metric."""

    metric: str
    first: str
    second: str
    test: Tested | None
    """None if there is no difference to test; `why` says the reason."""
    why: str = ""
    count: ItemCount | None = None
    """Items of the numbers, if not all."""

    @property
    def better_by(self) -> float:
        """By how much the first model is better, in the metric's unit; negative: it is worse."""
        return self._sign * self._difference.value

    @property
    def interval(self) -> tuple[float, float] | None:
        """95% interval of `better_by`."""
        return _turned(self._difference.ci95, self._sign)

    @property
    def has_direction(self) -> bool:
        """True if the metric has a better direction."""
        return self.test is not None and self._difference.higher_is_better is not None

    @property
    def _difference(self) -> Estimate:
        assert self.test is not None  # noqa: S101  (callers look first)
        return self.test.paired.difference

    @property
    def _sign(self) -> int:
        return -1 if self._difference.higher_is_better is False else 1

    def sentence(self) -> str:
        """Return the verdict in words: who is better by how much, and whether the data shows it."""
        first, second = (one_line(name, 60) for name in (self.first, self.second))
        if self.test is None:
            return f"{first} against {second}: no {self.metric} to compare: {self.why}"
        difference = self._difference
        size, interval = self.better_by, self.interval
        words = ("better", "worse") if self.has_direction else ("higher", "lower")
        if size < 0.0:
            size, interval = -size, _turned(interval, -1)
        digits = digits_of_estimates([difference])
        shown = f"{digits.write(size)} {digits.interval(interval)}" if interval else digits.write(size)
        word = words[self.better_by < 0.0]
        told = f"{first} is {word} than {second} by {shown} in {self.metric}{self._on()}"
        if size == 0.0:
            told = f"{first} and {second} differ by {shown} in {self.metric}{self._on()}"
        return f"{told}{self._ends()}"

    def _on(self) -> str:
        if self.count is None:
            return ""
        return f" on the {self.count.both:,} of {self.count.of:,} items that both answered"

    def _ends(self) -> str:
        assert self.test is not None  # noqa: S101
        small = f", and shown to differ by less than {self.test.margin:g}" if self.test.within_margin else ""
        if self.test.p_holm is None:
            return ": no error is known, so nothing is shown"
        if self.test.told_apart:
            return f": told apart (p {probability(self.test.p_holm)}){small}"
        smallest = self.test.smallest()
        shows = "no difference" if smallest is None else f"differences from {significant(smallest, 2)} up"
        return f", not told apart{small}; this data shows {shows}"

    def needed(self) -> str:
        """Return how many prompts would show this difference; empty where that says nothing."""
        if self.test is None or self.test.told_apart or self.test.paired.resolution is None:
            return ""
        resolution, size = self.test.paired.resolution, abs(self._difference.value)
        if size == 0.0 or (resolution.largest is not None and size > resolution.largest):
            return ""
        n = resolution.clusters_for(size, 0.05 / max(1, self.test.n_tests))
        if n is None or n > _MOST_PROMPTS or n <= resolution.n_clusters:
            return ""
        return (
            f"If {significant(size, 2)} is the true difference, about {n:,} prompts like these would show it"
            f" (80% power); here are {resolution.n_clusters:,}."
        )


def _turned(interval: tuple[float, float] | None, sign: int) -> tuple[float, float] | None:
    if interval is None:
        return None
    low, high = sorted((sign * interval[0], sign * interval[1]))
    return low, high


@dataclass(frozen=True, slots=True)
class Decision:
    """All that is said of models on one task: the verdict, the comparison behind it, and where they part."""

    runs: tuple[Run, ...]
    report: ManyReport
    metric: str
    """Metric of the verdict."""
    verdicts: tuple[Verdict, ...]
    """The first model against each other one."""
    strata: StrataReport | None
    """Of two models; None for more."""


def decide(
    runs: Sequence[Run],
    *,
    metrics: Sequence[str] = (),
    n_items: int = 10,
    margin: float | None = None,
    convention: str = "both",
) -> Decision:
    """Compare two runs or more of one task, and say what the comparison shows.

    Args:
        runs: Of the same items.
        metrics: Metrics to compare, the one of the verdict first; empty: the task's headlines.
        n_items: Number of disagreements to return.
        margin: Margin within which models are called equivalent, in each metric's unit.
        convention: Of the headlines: `official`, `clean` or `both`.

    Raises:
        ConfigError: If the runs are not of the same items, or a metric is unknown.
    """
    metric = verdict_metric(runs, metrics)
    wanted = list(metrics) or headline_metrics(runs, convention)
    known = {name: None for run in runs for name in (*run.record.metrics, *run.record.undefined)}
    if not any(at_largest_n(name, [known]) == metric for name in wanted):
        wanted.insert(0, metric)
    report = compare_many(runs, wanted, n_items, margin, metric)
    strata = strata_of(runs[0], runs[1], metric) if len(runs) == 2 else None
    return Decision(tuple(runs), report, metric, tuple(verdicts_of(report, metric)), strata)


def verdicts_of(report: ManyReport, metric: str) -> list[Verdict]:
    """Return the verdicts on the first model against each other one.

    Args:
        report: A comparison that has the metric.
        metric: Its name, resolved.
    """
    pairs = [pair for pair in report.pairs if pair.first == report.models[0]]
    found = {pair.second: m for pair in pairs for m in pair.metrics if m.metric == metric}
    verdicts = []
    for pair in pairs:
        of_pair = found.get(pair.second)
        why, count = _about(report, pair, of_pair, metric)
        test = None if of_pair is None else of_pair.test
        verdicts.append(Verdict(metric, pair.first, pair.second, test, why, count))
    return verdicts


def _about(
    report: ManyReport, pair: PairedReport, found: MetricComparison | None, metric: str
) -> tuple[str, ItemCount | None]:
    """Return why a pair has no comparison, or its items."""
    if found is not None:
        return "", found.count
    undefined = report.undefined.get(metric, {})
    reasons = [f"{one_line(m, 60)}: {undefined[m]}" for m in (pair.first, pair.second) if m in undefined]
    return pair.lacking.get(metric) or "; ".join(reasons) or "it has no value", None


@dataclass(frozen=True, slots=True)
class Gated:
    """The answer of a gate."""

    rule: Gate
    shown: bool
    sentence: str


def pass_gate(verdict: Verdict, rule: Gate, margin: float | None) -> Gated:
    """Return whether the data shows what a gate asks of the first model.

    `better`: the test tells the models apart at 5%, and the first is better; with a margin, the whole 95%
    interval lies above it too. `not-worse`: the whole 95% interval lies above minus the margin, which is a
    one-sided test at 2.5%.

    Source: for `not-worse`, ICH E9 1998, "Statistical principles for clinical trials", section 3.3.2.

    Raises:
        ConfigError: If `not-worse` has no margin, or the metric has no better direction.
    """
    if rule == "not-worse" and margin is None:
        raise ConfigError("--gate not-worse needs --margin D: the loss that you would accept, such as 0.01")
    if verdict.test is None:
        return Gated(rule, False, f"gate {rule}: not shown: {verdict.why}")
    if not verdict.has_direction:
        raise ConfigError(
            f"--gate {rule}: {verdict.metric} has no better direction; name a --metric that has"
        )
    first, interval = one_line(verdict.first, 60), verdict.interval
    if interval is None:
        return Gated(rule, False, f"gate {rule}: not shown: no error of {verdict.metric} is known")
    low = significant(interval[0], 3)
    if rule == "not-worse":
        assert margin is not None  # noqa: S101  (refused above)
        shown = interval[0] > -margin
        end = f"the 95% interval of its gain in {verdict.metric} begins at {low}"
        side = f"above -{margin:g}" if shown else f"not above -{margin:g}"
        said = (
            f"{first} is not worse by {margin:g} or more" if shown else f"{first} may be worse by {margin:g}"
        )
        return Gated(rule, shown, f"gate {rule}: {_word(shown)}: {said}: {end}, {side}")
    shown = verdict.test.verdict == "better" and (margin is None or interval[0] > margin)
    more = "" if margin is None else f"; its 95% interval begins at {low}, and {margin:g} was asked for"
    return Gated(rule, shown, f"gate {rule}: {_word(shown)}: {verdict.sentence()}{more}")


def _word(shown: bool) -> str:
    return "shown" if shown else "not shown"


def verdict_json(verdict: Verdict) -> dict[str, Any]:
    """Return a verdict as JSON values."""
    test = verdict.test
    return {
        "metric": verdict.metric,
        "first": verdict.first,
        "second": verdict.second,
        "sentence": verdict.sentence(),
        "better_by": verdict.better_by if verdict.has_direction else None,
        "ci95": list(verdict.interval) if verdict.has_direction and verdict.interval else None,
        "verdict": "no test" if test is None else test.verdict,
        "p": None if test is None else test.p_holm,
        "shows_from": None if test is None else test.smallest(),
    }
