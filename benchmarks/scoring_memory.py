"""Memory of `rmbench eval` on a large data set: does what is resident follow the data, or the budget?

Usage: python benchmarks/scoring_memory.py [PAIRS]

Preference pairs of about 700 characters each are written to a file and evaluated by `length`, which takes no
memory of its own, in a process of its own. Counted is that process's peak of resident memory, from the first
import to the written record, metrics with their intervals included. The claim: 1,000,000 pairs stay under
1.5 GB, though their file is larger.
"""

import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

LIMIT_BYTES = 1_500_000_000
WORDS = [
    "granite",
    "orbit",
    "lantern",
    "velvet",
    "compass",
    "harvest",
    "mirror",
    "thunder",
    "willow",
    "anchor",
]


def write_pairs(path: Path, n_pairs: int) -> None:
    """Write pairs that are all different, a prompt to each."""
    rng = random.Random(0)

    def text(n_words: int) -> str:
        return " ".join(rng.choices(WORDS, k=n_words))

    with path.open("w", encoding="utf-8") as file:
        for k in range(n_pairs):
            row = {
                "id": f"pair-{k}",
                "prompt": f"{k}: {text(30)}",
                "responses": [text(rng.randint(10, 50)) for _ in range(2)],
                "gold": [1.0, 0.0],
                "strata": {"family": WORDS[k % 5]},
            }
            file.write(json.dumps(row) + "\n")


def evaluate(n_pairs: int) -> list[float]:
    """Return [pairs, MB of the file, peak MB, seconds] of one evaluation."""
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "pairs.jsonl"
        write_pairs(data, n_pairs)
        size = data.stat().st_size
        arguments = [
            sys.executable, "-c", CHILD, "eval", "--model", "length", "--task", "preference",
            "--data", str(data), "--results", f"{folder}/results", "--store", f"{folder}/store", "--quiet",
        ]  # fmt: skip
        started = time.perf_counter()
        done = subprocess.run(arguments, check=True, capture_output=True, text=True)
        seconds = time.perf_counter() - started
    return [n_pairs, size / 1e6, int(done.stderr.split()[-1]) * 1024 / 1e6, seconds]


CHILD = """
import resource, sys
from rmbench.cli.main import run
code = run(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def main() -> None:
    """Print one row per size; exit code 1 if the largest is over the limit."""
    most = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rows = [evaluate(n) for n in (most // 10, most)]
    heads = ["pairs", "MB of data", "peak resident MB", "seconds"]
    print(tabulate(rows, heads, floatfmt=("d", ".0f", ".0f", ".1f"), intfmt=","))
    growth = 1e6 * (rows[1][2] - rows[0][2]) / (rows[1][0] - rows[0][0])
    print(f"bytes per further pair: {growth:.0f}, of {1e6 * rows[1][1] / rows[1][0]:.0f} in the file")
    if rows[1][2] * 1e6 > LIMIT_BYTES:
        raise SystemExit(f"over {LIMIT_BYTES / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
