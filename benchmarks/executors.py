"""What the planning process takes beside the model, and what a batch costs by worker processes and by Ray.

Usage: python benchmarks/executors.py [PAIRS]

Preference pairs as in `scoring_memory.py` are read, hashed, planned, scored by `length`, which takes next to
no time itself, and stored: by this process, by two worker processes and by two Ray actors, with batches of
the default budget and with small ones. Processes have started, and answered once, before the clock starts.
What is left is the process that plans, and no executor can be faster than that; so rates are by its CPU time,
all its threads together, which other work on the machine does not change much. Differences are what a batch
costs. Sizing the texts is measured apart, also for a model with a tokenizer.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

from scoring_memory import write_pairs
from tabulate import tabulate

from rmbench.core.files import digest
from rmbench.evaluation.options import EvalOptions
from rmbench.evaluation.task import prepare_task
from rmbench.models.resolve import LoadedModel, fingerprint_of, load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring import Executor, open_store, score_items
from rmbench.scoring.executor import InProcess
from rmbench.scoring.plan import DEFAULT_BATCH_TOKENS, conversation_measure, conversations_of, distinct, plan
from rmbench.scoring.processes import processes_for
from rmbench.scoring.ray import ray_actors_for
from rmbench.tasks.spec import load_task
from rmbench.types import Item, RewardModel

N_WORKERS = 2
SMALL_BATCH_TOKENS = 256
N_SIZED = 4_000
"""Items whose texts are sized by a tokenizer: enough for a rate."""


class Counted:
    """Another executor, and how many batches it was given."""

    def __init__(self, executor: Executor[Any]) -> None:
        self._executor = executor
        self.n_at_once = executor.n_at_once
        self.n = 0

    def start(self, ticket: int, batch: Sequence[Any]) -> None:
        """Pass it on."""
        self.n += 1
        self._executor.start(ticket, batch)

    def finished(self) -> Any:
        """Pass it on."""
        return self._executor.finished()


def model_of(loaded: LoadedModel) -> RewardModel:
    """Return the model, which scores texts one by one."""
    assert isinstance(loaded.model, RewardModel)
    return loaded.model


def executors(loaded: LoadedModel) -> dict[str, Callable[[], AbstractContextManager[Executor[Any]]]]:
    """Return what makes each executor."""
    return {
        "this process": lambda: nullcontext(InProcess(model_of(loaded).score)),
        f"{N_WORKERS} workers": lambda: processes_for(loaded, {}, Runtime(), N_WORKERS),
        f"{N_WORKERS} Ray actors": lambda: ray_actors_for(loaded, {}, Runtime(), N_WORKERS),
    }


def run(folder: Path, items: Sequence[Item]) -> tuple[list[list[Any]], Path]:
    """Return a row per executor and budget, and the last store."""
    loaded = load_model("length")
    rows: list[list[Any]] = []
    by_itself: dict[int, float] = {}
    path = folder
    for name, make in executors(loaded).items():
        begun = time.perf_counter()
        with make() as executor:
            for ticket in range(N_WORKERS):
                executor.start(ticket, [items[0].conversation(0)])
            for _ in range(N_WORKERS):
                executor.finished()
            start_s = time.perf_counter() - begun
            for budget in (DEFAULT_BATCH_TOKENS, SMALL_BATCH_TOKENS):
                counted = Counted(executor)
                with open_store(folder / digest([name, budget], 8), fingerprint_of(loaded)) as store:
                    begun, cpu_before = time.perf_counter(), time.process_time()
                    scoring = score_items(loaded.model, items, store, batch_tokens=budget, executor=counted)
                    cpu_s, seconds = time.process_time() - cpu_before, time.perf_counter() - begun
                    path = store.path
                by_itself.setdefault(budget, cpu_s)
                extra = 1e3 * (cpu_s - by_itself[budget]) / counted.n
                rate = scoring.n_computed / cpu_s
                rows.append([name, scoring.n_computed, counted.n, seconds, cpu_s, rate, extra, start_s])
    return rows, path


def size(items: Sequence[Item], spec: str) -> float:
    """Return how many conversations a CPU second are hashed, sized by a model and planned."""
    measure = conversation_measure(model_of(load_model(spec)))
    begun = time.process_time()
    units = distinct(unit for item in items for unit in conversations_of(item))
    plan(units, measure, DEFAULT_BATCH_TOKENS)
    return len(units) / (time.process_time() - begun)


def main() -> None:
    """Print a row per executor and budget, and the sizes of things."""
    n_pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "pairs.jsonl"
        write_pairs(data, n_pairs)
        begun = time.process_time()
        options = EvalOptions(data=data, results=folder, store=folder, runtime=Runtime(offline=True))
        task = prepare_task(load_task("preference"), options)
        read_s = time.process_time() - begun
        rows, store = run(folder, task.items)
        n = 2 * n_pairs
        sized = list(islice(task.items, N_SIZED))
        characters = [sum(len(t["content"]) for t in item.conversation(0)) for item in sized]
        print(
            f"per conversation {data.stat().st_size / n:.0f} bytes of data, {mean(characters):.0f} characters"
        )
        print("conversations per CPU second:")
        print(f"  reading {n / read_s:,.0f}")
        for spec in ("length", "builtin:tiny"):
            print(f"  hashing, sizing and planning for {spec} {size(sized, spec):,.0f}")
        print(f"store: {store.stat().st_size / n:.1f} bytes per reward\n")
        heads = [
            "who answers",
            "conversations",
            "batches",
            "seconds",
            "CPU seconds",
            "conversations per CPU s",
            "CPU ms per batch more",
            "seconds to start",
        ]
        floats = ("", "d", "d", ".2f", ".2f", ",.0f", ".2f", ".1f")
        print(tabulate(rows, heads, floatfmt=floats, intfmt=","))
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
