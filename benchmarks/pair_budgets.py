"""Best-of-N gold lost by asking a pairwise model some pairs instead of all: a synthetic judge of known noise.

Gold is normal with standard deviation 1. The judge's log-odds for a pair are twice the gap in gold plus
normal noise, drawn for each pair once. With hard verdicts only the winner is told (0 or 1), as most judges
do. The pick is the response with the largest reward; ties share. Gold lost: that of the best response minus
that of the pick.

    python benchmarks/pair_budgets.py
"""

import argparse

import numpy as np
from numpy.typing import NDArray

from rmbench.models.pairwise import rewards_from_pairs
from rmbench.models.schedule import KINDS, Schedule
from rmbench.types import Item, Response, Turn

SCALE = 2.0


def preferences(gold: NDArray[np.float64], noise: float, hard: bool, seed: int) -> NDArray[np.float64]:
    """Return P(i better), shape (K, K), equal in both orders."""
    k = len(gold)
    upper = np.triu(np.random.default_rng(seed).normal(0, noise, (k, k)), 1)
    logit = SCALE * (gold[:, None] - gold[None, :]) + upper - upper.T
    return (logit > 0).astype(float) if hard else 1.0 / (1.0 + np.exp(-logit))


def measure(schedule: Schedule, k: int, noise: float, hard: bool, n_items: int) -> tuple[float, float]:
    """Return (share of items whose best response is picked, mean gold lost), fraction and gold's unit."""
    hits, lost = [], []
    for n in range(n_items):
        gold = np.random.default_rng([n, k]).normal(size=k)
        replies = tuple(Response(f"reply {n} {place}") for place in range(k))
        item = Item(f"i{n}", (Turn(role="user", content="q"),), replies, cluster="q")
        rewards, _, _ = rewards_from_pairs(preferences(gold, noise, hard, n), schedule.pairs(item))
        top = rewards >= rewards.max() - 1e-9
        hits.append(float(np.mean(gold[top] == gold.max())))
        lost.append(float(gold.max() - gold[top].mean()))
    return float(np.mean(hits)), float(np.mean(lost))


def main() -> None:
    """Print a table: budget, share of items with the best response picked, gold lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--responses", type=int, default=32)
    parser.add_argument("--items", type=int, default=400)
    parser.add_argument("--noise", type=float, default=1.0)
    args = parser.parse_args()
    k = args.responses
    every = k * (k - 1) // 2
    print("| pairs | questions | verdicts | schedule | best picked | gold lost |")
    print("|---:|---:|---|---|---:|---:|")
    for hard in (False, True):
        for budget in [k * m for m in (1, 2, 3, 5, 8) if k * m < every] + [every]:
            for kind in KINDS if budget < every else KINDS[:1]:
                hit, lost = measure(Schedule(budget, kind), k, args.noise, hard, args.items)
                name = kind if budget < every else "every pair"
                said = "hard" if hard else "graded"
                print(f"| {budget} | {2 * budget} | {said} | {name} | {hit:.3f} | {lost:.3f} |")


if __name__ == "__main__":
    main()
