"""Exact best-of-n with intervals at scale: is the cost linear in prompts, and what does 200,000 x 64 take?

Usage: python benchmarks/bon_scale.py [PROMPTS] [CANDIDATES]

The claim that can be checked on any machine is the ratio: doubling the prompts must not much more than
double the time. Seconds and memory are printed for the record, not compared with anything.
"""

import resource
import sys
import time

import numpy as np
from tabulate import tabulate

from rmbench.metrics import Panel
from rmbench.metrics.best_of_n import measure_best_of_n


def synthetic_panel(n_prompts: int, n_candidates: int) -> Panel:
    """Return pools whose reward is gold and noise, with tied rewards."""
    rng = np.random.default_rng(0)
    gold = rng.random(n_prompts * n_candidates)
    rewards = np.round(gold + rng.normal(0, 0.5, len(gold)), 3)
    return Panel(
        ids=tuple(map(str, range(n_prompts))),
        rewards=rewards,
        gold=gold,
        lengths=np.ones(len(gold)),
        logprobs=np.full(len(gold), np.nan),
        offsets=np.arange(0, len(gold) + 1, n_candidates),
        cluster=np.arange(n_prompts),
        cluster_names=tuple(f"{k:09d}" for k in range(n_prompts)),
        strata={},
        gold_kind=np.zeros(n_prompts, dtype=np.int64),
    )


def main() -> None:
    """Print one row per size, and the largest ratio of time per prompt."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 200_000
    n_candidates = int(sys.argv[2]) if len(sys.argv) > 2 else 64
    rows = []
    for n_prompts in (most // 8, most // 4, most // 2, most):
        panel = synthetic_panel(n_prompts, n_candidates)
        started = time.perf_counter()
        measured = measure_best_of_n(panel, {"seed": 0})
        seconds = time.perf_counter() - started
        estimate = measured.metrics[f"win_rate@{n_candidates}"].estimate()
        assert estimate.ci95 is not None
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
        rows.append([n_prompts, seconds, 1e6 * seconds / n_prompts, peak, len(measured.metrics)])
    heads = ["prompts", "seconds", "microseconds per prompt", "peak GiB so far", "metrics with intervals"]
    print(tabulate(rows, heads, floatfmt=("d", ".2f", ".1f", ".2f", "d"), intfmt=","))
    per_prompt = [row[2] for row in rows]
    print(f"time per prompt, largest size over smallest: {per_prompt[-1] / per_prompt[0]:.2f}")


if __name__ == "__main__":
    main()
