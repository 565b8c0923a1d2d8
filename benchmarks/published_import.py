"""Importing RewardBench's published results: how long do 150 scores files take, and in how much memory?

Usage: python benchmarks/published_import.py [FILES]

Files of the published layout and size (7 MB each) are written to the system's folder for temporary ones and
imported by the command line. Seconds depend on the machine; time per file must not grow with their number.
"""

import json
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

from rmbench.benchmarks.rewardbench.official import SECTIONS
from rmbench.cli.main import run

_TRUE_COUNTS = {"math-prm": 447}


def write_files(folder: Path, n_files: int) -> int:
    """Write scores files of made-up models, each better than the one before; return the items of one."""
    subsets = [
        s for section in SECTIONS.values() for s, n in section.items() for _ in range(_TRUE_COUNTS.get(s, n))
    ]
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghij", k=6)) for _ in range(500)]
    texts = [[" ".join(draw.choices(words, k=draw.randint(50, 250))) for _ in subsets] for _ in range(2)]
    for k in range(n_files):
        chosen = [[draw.gauss(1 + k / n_files, 1)] for _ in subsets]
        rejected = [[draw.gauss(0, 1)] for _ in subsets]
        columns = {
            "id": list(range(len(subsets))),
            "subset": subsets,
            "text_chosen": [f"<{k}>{text}" for text in texts[0]],
            "text_rejected": [f"<{k}>{text}" for text in texts[1]],
            "results": [int(c > r) for c, r in zip(chosen, rejected, strict=True)],
            "scores_chosen": chosen,
            "scores_rejected": rejected,
            "model": f"org/model-{k}",
            "model_type": "Seq. Classifier",
        }
        path = folder / "eval-set-scores" / "org" / f"model-{k}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(columns, indent=4, sort_keys=True))
    return len(subsets)


def cpu_seconds() -> float:
    """Return the seconds of CPU that this process and those it waited for have used."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(u.ru_utime + u.ru_stime for u in used)


def main() -> None:
    """Import, and print seconds, seconds of CPU and the largest process."""
    n_files = int(sys.argv[1]) if len(sys.argv) > 1 else 150
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        n_items = write_files(folder, n_files)
        before = cpu_seconds()
        started, silent = time.perf_counter(), open(os.devnull, "w")  # noqa: PTH123, SIM115
        sys.stdout = silent
        code = run(["import", "rewardbench", str(folder), "--results", str(folder / "results"), "-q"])
        sys.stdout = sys.__stdout__
        silent.close()
        seconds = time.perf_counter() - started
        assert code == 0
        assert len(list((folder / "results").rglob("*@1/*.json"))) == n_files
    both = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    peak = max(resource.getrusage(who).ru_maxrss for who in both) / 1024**2
    load = os.getloadavg()[0]
    print(f"{n_files} files of {n_items:,} items: {seconds:.0f} s ({cpu_seconds() - before:.0f} s of CPU)")
    print(f"largest process {peak:.2f} GiB; load {load:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
