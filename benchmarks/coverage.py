"""How often does a nominal 95% interval hold the truth, on data with the structures that real sets have?

    python benchmarks/coverage.py                          # all cases, 1,000 data sets each: about an hour
    python benchmarks/coverage.py --repeats 200 --only accuracy
    python benchmarks/coverage.py --json coverage.json

It uses nothing but task kinds and paired tests, so the same file also measures another version of the
package: run it with that version first on the path. The table in `docs/statistics.md` was made that way.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
from structures import (
    Simulation,
    binary_gold,
    blind_pools,
    by_length,
    claims,
    equal_models,
    lognormal_gold,
    many_pairs_in_strata,
    mostly_equal_pools,
    strata_of,
    unequal,
)

from rmbench.metrics import KINDS, Panel
from rmbench.stats import Statistic, compare, holm

FIRST_SEED = 10_000
VAST = 40_000


@dataclass(frozen=True)
class Case:
    """One metric on one structure."""

    metric: str
    structure: str
    sizes: tuple[int, ...]
    """Prompts of a data set."""
    held: Callable[[int, int], bool | None]
    """(prompts, seed) -> whether the interval holds the truth (or the test rejects); None: no interval."""
    aim: str = "0.93 to 0.97"


def covers(
    kind: str, metric: str, simulate: Simulation, truth: float | None, params: dict[str, Any] | None = None
) -> Callable[[int, int], bool | None]:
    """Return whether a metric's interval holds the truth; None: its value on a vast data set."""
    measure, full = KINDS.get(kind), {"seed": 0, **(params or {})}
    known: list[float] = [] if truth is None else [truth]

    def held(size: int, seed: int) -> bool | None:
        if not known:
            vast = measure(simulate(np.random.default_rng(1), VAST), full)
            known.append(vast.metrics[metric].value)
        found = measure(simulate(np.random.default_rng(FIRST_SEED + seed), size), full).metrics.get(metric)
        interval = None if found is None else found.estimate().ci95
        return None if interval is None else bool(interval[0] <= known[0] <= interval[1])

    return held


def accuracy_of(panel: Panel) -> Statistic:
    """Return the accuracy of a panel."""
    return KINDS.get("preference")(panel, {"seed": 0}).metrics["accuracy"]


def rejects(kind: str) -> Callable[[int, int], bool | None]:
    """Return whether the paired test tells two equally good models apart at 5%."""

    def held(size: int, seed: int) -> bool | None:
        a, b = (accuracy_of(p) for p in equal_models(np.random.default_rng(FIRST_SEED + seed), kind, size, 2))
        p = compare(a, b).p_value
        return None if p is None else p < 0.05

    return held


def rejects_any(kind: str) -> Callable[[int, int], bool | None]:
    """Return whether a board of ten equally good models tells any two apart at 5% after Holm's correction."""

    def held(size: int, seed: int) -> bool | None:
        panels = equal_models(np.random.default_rng(FIRST_SEED + seed), kind, size, 10)
        found = [accuracy_of(p) for p in panels]
        p_values = [compare(a, b).p_value for k, a in enumerate(found) for b in found[:k]]
        return min(holm([1.0 if p is None else p for p in p_values])) < 0.05

    return held


def entropy(spread: float) -> float:
    """Return the mean entropy, nats, of a probability whose log-odds are normal with this deviation."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    p = 1.0 / (1.0 + np.exp(-spread * nodes))
    return float((weights * -(p * np.log(p) + (1 - p) * np.log1p(-p))).sum() / weights.sum())


def resolution(spread: float) -> float:
    """Return the mean square distance from 1/2 of such a probability."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    return float((weights * np.square(1.0 / (1.0 + np.exp(-spread * nodes)) - 0.5)).sum() / weights.sum())


def cases() -> Iterator[Case]:
    """Yield every case."""
    most = (10, 20, 50, 200)
    for kind, what in {
        "lognormal": "clusters of very unequal size",
        "pareto": "Pareto cluster sizes",
        "one-large": "one prompt holds half of the data",
        "few-large": "a few prompts of 30 items among prompts of one",
    }.items():
        yield Case("accuracy", what, most, covers("preference", "accuracy", unequal(kind, 0.3), 0.6))
    for kind in ("lognormal", "pareto"):
        what = f"two equal models, {kind} cluster sizes: P(p < 0.05)"
        yield Case("paired test", what, (5, *most), rejects(kind), "at most 0.05")
    for kind in ("lognormal", "pareto"):
        what = f"ten equal models, {kind} cluster sizes: P(any letter is wrong)"
        yield Case("board", what, (20, 50), rejects_any(kind), "at most 0.06")
    for sizes in ((300, 150, 60, 20, 5, 2, 1, 1), (50, 1, 1, 1, 1), (100, 3, 3)):
        what = f"strata of {', '.join(map(str, sizes))} prompts"
        simulate = strata_of(sizes)
        held = covers("preference", "accuracy_macro", simulate, 0.6, {"macro_over": "part"})
        yield Case("accuracy_macro", what, (sum(sizes),), held)
    simulate = many_pairs_in_strata((20, 8, 6, 5, 4, 3), 30)
    held = covers("preference", "accuracy_macro", simulate, 0.75, {"macro_over": "part"})
    yield Case("accuracy_macro", "strata of 20, 8, 6, 5, 4, 3 prompts, 30 pairs each", (46,), held)
    yield from calibration_cases()
    for longer, slope in ((0.95, 0.5), (0.9, inf), (0.6, 0.5), (0.6, inf)):
        what = f"chosen is longer in {longer:.0%}, " + (
            "a scorer of pure length" if slope == inf else "the model likes length"
        )
        held = covers("preference", "accuracy_length_controlled", by_length(longer, slope),
                      0.5 if slope == inf else 0.65)  # fmt: skip
        yield Case("length-controlled accuracy", what, (20, 50, 200), held)
    for metric, what, simulate in (
        ("gold@16", "heavy tail between prompts (log-normal, 1.5)", lognormal_gold),
        ("win_rate@16", "nine pools in ten equal", mostly_equal_pools),
        ("recovery@16", "binary gold", binary_gold),
        ("overoptimization_drop", "rewards know nothing of gold", blind_pools),
    ):
        truth = None if metric != "overoptimization_drop" else 0.0
        yield Case(metric, what, (5, 10, 20, 50), covers("best_of_n", metric, simulate, truth))


def calibration_cases() -> Iterator[Case]:
    """Yield the cases of margins that claim probabilities."""
    few, more = (10, 20), (10, 20, 50, 200)
    for metric in ("ece", "ece_debiased"):
        yield Case(
            metric, "calibrated", more, covers("calibration", metric, claims(1.5), 0.0), "at least 0.95"
        )
    yield Case(
        "brier_resolution",
        "calibrated",
        more,
        covers("calibration", "brier_resolution", claims(1.5), resolution(1.5)),
    )
    yield Case("temperature", "calibrated", more, covers("calibration", "temperature", claims(1.5), 1.0))
    yield Case(
        "temperature", "twice too sure", few, covers("calibration", "temperature", claims(1.5, 2.0), 2.0)
    )
    for spread, what in ((0.3, "weak signal"), (1.5, "strong signal")):
        held = covers("calibration", "nll_scaled", claims(spread), entropy(spread))
        yield Case("nll_scaled", what, (20, 50, 200), held)
        held = covers("calibration", "brier_scaled", claims(spread), 0.25 - resolution(spread))
        yield Case("brier_scaled", what, (20, 50, 200), held)


def measured(case: Case, size: int, repeats: int) -> tuple[float, int]:
    """Return the share of data sets on which `held` is true, and on how many there is no interval."""
    found = [case.held(size, seed) for seed in range(repeats)]
    there = [f for f in found if f is not None]
    return (sum(there) / len(there) if there else float("nan")), len(found) - len(there)


def main() -> None:
    """Measure, print a Markdown table, and write the numbers as JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=1000, help="data sets per case and size")
    parser.add_argument("--only", default="", help="cases whose metric or structure holds this text")
    parser.add_argument("--json", type=Path, help="write the numbers there")
    given = parser.parse_args()
    rows = []
    print("| what | structure | prompts | share | no interval | aim |\n|---|---|---|---|---|---|")
    for case in cases():
        if given.only not in f"{case.metric} {case.structure}":
            continue
        for size in case.sizes:
            share, without = measured(case, size, given.repeats)
            rows.append({"metric": case.metric, "structure": case.structure, "prompts": size,
                         "share": share, "no_interval": without})  # fmt: skip
            print(
                f"| {case.metric} | {case.structure} | {size} | {share:.3f} | {without} | {case.aim} |",
                flush=True,
            )
    if given.json:
        given.json.write_text(json.dumps({"repeats": given.repeats, "rows": rows}, indent=1) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
