"""Texts per second of `dpo:` with prompts shared against without: one process after the other, in one run.

Usage: python benchmarks/shared_replies.py POLICY [--reference FOLDER] [--prompts N] [--replies K] [--words W]

Items are made up: each of N prompts has W words (others in every prompt) and K replies of 8 to 24. Both ways
read the same tokens with the same weights through rmbench's engine into a store that is thrown away. Printed
are seconds, the tokens that the models were given, and the largest difference between two rewards. POLICY is
the folder of a causal language model.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from tabulate import tabulate

from rmbench.models.resolve import load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring import open_stores, score_items
from rmbench.types import Item, Response, Turn

WORDS = ("granite", "orbit", "lantern", "velvet", "compass", "harvest", "mirror", "thunder", "willow")


def main() -> None:
    """Measure both ways in processes of their own and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("policy", type=Path)
    parser.add_argument("--reference", type=Path)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--replies", type=int, default=16)
    parser.add_argument("--words", type=int, default=100)
    parser.add_argument("--share", choices=("yes", "no"), help=argparse.SUPPRESS)  # a process of its own
    given = parser.parse_args()
    if given.share:
        print(json.dumps(measure(given)))
        return
    found = {}
    for share in ("no", "yes"):
        command = [sys.executable, __file__, *sys.argv[1:], "--share", share]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found[share] = json.loads(done.stdout.splitlines()[-1])
    gap = max(abs(a - b) for a, b in zip(found["no"]["rewards"], found["yes"]["rewards"], strict=True))
    rows = [[share, f"{one['s']:.1f}", f"{one['tokens']:,}"] for share, one in found.items()]
    print(tabulate(rows, ("prompts shared", "seconds", "tokens given to the models"), disable_numparse=True))
    print(
        f"{found['no']['s'] / found['yes']['s']:.2f} times as fast, largest difference of rewards {gap:.1g}"
    )


def measure(given: argparse.Namespace) -> dict[str, Any]:
    """Return seconds, tokens and rewards of one way."""
    spec = f"dpo:policy={given.policy}" + (f",ref={given.reference}" if given.reference else "")
    options = {"share_prompts": given.share, "beta": "1"}
    if given.reference is None:
        options["reference"] = "none"
    model: Any = load_model(spec, options, Runtime(dtype="float32")).model
    n_given = 0

    def count(_module: Any, _args: Any, inputs: dict[str, Any]) -> None:
        nonlocal n_given
        n_given += inputs["input_ids"].numel()

    for part in model.parts():
        part.model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    with tempfile.TemporaryDirectory() as folder, open_stores(Path(folder), model, {}) as stores:
        scoring = score_items(model, made_items(given), stores)
    return {"s": scoring.wall_s, "tokens": n_given, "rewards": [x for row in scoring.rewards for x in row]}


def made_items(given: argparse.Namespace) -> list[Item]:
    """Return the items."""
    rng = random.Random(0)

    def text(n: int) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(n))

    return [
        Item(
            str(k),
            (Turn(role="user", content=text(given.words)),),
            tuple(Response(text(rng.randint(8, 24))) for _ in range(given.replies)),
            cluster=str(k),
        )
        for k in range(given.prompts)
    ]


if __name__ == "__main__":
    main()
