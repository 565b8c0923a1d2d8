"""Cost of the score store: processor seconds to put, find and verify many rewards.

Usage: python benchmarks/score_store.py [ROWS]

Rows are put in batches of 64, as an evaluation puts them, and found again in windows of 5,000, the half of
the keys stored. The best of three rounds counts.
"""

import sys
import tempfile
import time
from pathlib import Path

from tabulate import tabulate

from rmbench.core.files import digest
from rmbench.scoring import open_store
from rmbench.types import Scored

BATCH, WINDOW, ROUNDS = 64, 5_000, 3


def one_round(rows: list[tuple[str, Scored]], absent: list[str]) -> tuple[float, float, float]:
    """Return the seconds of putting all rows, of getting them, and of asking for keys that are absent."""
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder), {"kind": "speed"}) as store:
        started = time.process_time()
        for k in range(0, len(rows), BATCH):
            store.put(rows[k : k + BATCH])
        put = time.process_time()
        for k in range(0, len(rows), WINDOW):
            part = rows[k : k + WINDOW]
            assert store.get([key for key, _ in part]) == dict(part)
        got = time.process_time()
        for k in range(0, len(absent), WINDOW):
            assert not store.get(absent[k : k + WINDOW])
        return put - started, got - put, time.process_time() - got


def main() -> None:
    """Print the table."""
    n = int(sys.argv[1]) if len(sys.argv) > 1 else 100_000
    rows = [(digest(["row", k], 32), Scored(k / 7, k % 900, k % 5 == 0)) for k in range(n)]
    absent = [digest(["absent", k], 32) for k in range(n)]
    rounds = [one_round(rows, absent) for _ in range(ROUNDS)]
    best = [min(times) for times in zip(*rounds, strict=True)]
    table = [[name, s, 1e6 * s / n] for name, s in zip(("put", "get", "get, absent"), best, strict=True)]
    print(tabulate(table, headers=[f"{n:,} rows", "seconds", "microseconds a row"], floatfmt=".2f"))


if __name__ == "__main__":
    main()
