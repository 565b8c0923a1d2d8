"""Speed and memory of `rmbench contamination`: are 1,000,000 training rows minutes, does memory follow them?

Usage: python benchmarks/contamination.py [--rows N ...] [--items N]

Training pairs of about 2.7 kB (a prompt of 60 words, two responses of 180, word frequencies by Zipf's law)
are written to a JSON Lines file, one in a thousand of them from the task, and looked through for the task's
items in a process of its own, which uses one core. Counted is that process's time and its peak of resident
memory, from the first import to the printed report. The claim: memory does not grow with the rows.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from tabulate import tabulate

N_WORDS = 50_000
POOL = 2**21
PROMPT, RESPONSE = 60, 180

CHILD = """
import resource, sys
from rmbench.cli.main import run
code = run(sys.argv[1:])
used = resource.getrusage(resource.RUSAGE_SELF)
print(used.ru_utime + used.ru_stime, used.ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


class Texts:
    """Stretches of a long text, one after the other; what two seeds give shares no n-gram but by chance."""

    def __init__(self, seed: int, size: int = POOL) -> None:
        self._at = 0
        self._rng = np.random.default_rng(seed)
        ranks = 1.0 / np.arange(1, N_WORDS + 1)
        words = np.random.default_rng(0)
        letters = "".join(chr(97 + k) for k in words.integers(0, 26, size=N_WORDS * 12))
        lengths = np.minimum(12, 2 + np.log2(np.arange(1, N_WORDS + 1)).astype(int) // 2)
        known = [letters[12 * k : 12 * k + n] for k, n in enumerate(lengths)]
        drawn = self._rng.choice(N_WORDS, size=size, p=ranks / ranks.sum())
        marks = self._rng.choice(["", "", "", "", "", "", ",", "."], size=size)
        self._pool = [known[k] + mark for k, mark in zip(drawn.tolist(), marks.tolist(), strict=True)]

    def pair(self) -> dict[str, str]:
        """Return a prompt with two responses."""
        return {
            key: self._text(n)
            for key, n in (("prompt", PROMPT), ("chosen", RESPONSE), ("rejected", RESPONSE))
        }

    def _text(self, about: int) -> str:
        n = int(self._rng.integers(about // 2, about + about // 2))
        start = self._at if self._at + n <= len(self._pool) else 0
        self._at = start + n
        return " ".join(self._pool[start : self._at])


def look(n_rows: int, items: list[dict[str, str]], folder: Path) -> list[float]:
    """Return [rows, MB of the file, seconds, CPU seconds, rows/s, peak MB, planted, found]."""
    task, train = folder / "task.jsonl", folder / "train.jsonl"
    with task.open("w", encoding="utf-8") as file:
        for k, pair in enumerate(items):
            row = {"id": str(k), "prompt": pair["prompt"], "responses": [pair["chosen"], pair["rejected"]]}
            file.write(json.dumps({**row, "gold": [1, 0], "strata": {"family": str(k % 5)}}) + "\n")
    texts = Texts(1)
    planted = {k // 1000 % len(items) for k in range(0, n_rows, 1000)}
    with train.open("w", encoding="utf-8") as file:
        for k in range(n_rows):
            file.write(json.dumps(texts.pair() if k % 1000 else items[k // 1000 % len(items)]) + "\n")
    command = [
        sys.executable, "-c", CHILD, "contamination", "--train", str(train), "--task", "preference",
        "--data", str(task), "--json", "--quiet",
    ]  # fmt: skip
    one_core = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    started = time.perf_counter()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=one_core)
    seconds = time.perf_counter() - started
    cpu, peak = map(float, done.stderr.split()[-2:])
    found = json.loads(done.stdout)["overall"]["contaminated"]["found"]
    size = train.stat().st_size / 1e6
    return [n_rows, size, seconds, cpu, n_rows / seconds, peak * 1024 / 1e6, len(planted), found]


def main() -> None:
    """Print one row per size; exit code 1 if other items are found than were planted."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--items", type=int, default=3000)
    given = parser.parse_args()
    texts = Texts(2, 2 * (PROMPT + 2 * RESPONSE) * given.items)
    items = [texts.pair() for _ in range(given.items)]
    with tempfile.TemporaryDirectory() as folder:
        rows = [look(n, items, Path(folder)) for n in sorted(given.rows)]
    heads = ["rows", "MB of data", "seconds", "CPU seconds", "rows/s", "peak resident MB", "planted", "found"]
    print(tabulate(rows, heads, floatfmt=("d", ".0f", ".1f", ".1f", ",.0f", ".0f"), intfmt=","))
    if len(rows) > 1:
        more = rows[-1][0] - rows[0][0]
        growth, speed = 1e6 * (rows[-1][5] - rows[0][5]) / more, 1e6 * (rows[-1][3] - rows[0][3]) / more
        print(f"per further row: {growth:.1f} bytes of memory, {speed:.0f} microseconds of CPU time")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
    if any(row[6] != row[7] for row in rows):
        raise SystemExit("found is not what was planted")


if __name__ == "__main__":
    main()
