"""From a published run to an ordinary record."""

import multiprocessing
import os
import platform
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from rmbench.evaluation import complete_run, primary_metric, task_identity
from rmbench.files import sha256_bytes
from rmbench.metrics import Suite, measure_suite
from rmbench.published.run import PublishedRun
from rmbench.record_reader import StoredRun, stored_panel
from rmbench.records import Record, encode_rewards, make_identity, run_id, suite_fields, write_record
from rmbench.versions import package_versions


@dataclass(frozen=True, slots=True)
class Imported:
    """A record, and how it came about."""

    run: StoredRun
    reused: bool
    """True if the record was there already."""
    notes: tuple[str, ...]


def write_runs(
    runs: Sequence[PublishedRun], results: Path, *, seed: int, command: Sequence[str], n_workers: int = 1
) -> Iterator[Imported]:
    """Measure and write runs in order, several processes at a time: what they write does not depend on it.

    Raises:
        StoreError: If an existing record is damaged. What was written before stays.
    """
    write = partial(write_run, results=results, seed=seed, command=command)
    if n_workers == 1 or len(runs) < 2:
        yield from map(write, runs)
        return
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn")) as pool:
        with _one_thread_each():  # `map` starts the processes
            measured = pool.map(write, runs)
        yield from measured


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that start inside multiply matrices in one thread each, unless the user says otherwise.

    Threads of several processes on the same cores wait for each other in busy loops: six times the CPU time,
    as measured on two busy cores. Numpy reads it when it is imported, so it must be there before.
    """
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def write_run(run: PublishedRun, results: Path, *, seed: int, command: Sequence[str]) -> Imported:
    """Measure a published run and write its record, unless the very same one is there.

    Raises:
        StoreError: If an existing record is damaged.
    """
    identity = make_identity(
        task=task_identity(run.spec),
        data_hash=run.data_hash,
        fingerprint=run.fingerprint(),
        limit=None,
        seed=seed,
    )
    done = complete_run(results, run.model, run.spec, run_id(identity))
    if done is not None:
        return Imported(done, True, tuple(run.notes))
    rows = [row.stored(pairwise=run.pairwise) for row in run.rows]
    flips = ([r.flips for r in run.rows], [r.comparisons for r in run.rows]) if run.pairwise else None
    suite = measure_suite(
        stored_panel(rows), run.spec.kinds, {**run.spec.params, "seed": seed}, run.spec.strata, flips=flips
    )
    rewards = encode_rewards(rows)
    record = Record(
        model=run.model,
        identity=identity,
        primary=primary_metric(run.spec, suite),
        counts={
            "items": len(rows),
            "items_available": len(rows),
            "responses": sum(len(r.rewards) for r in run.rows),
            "distinct_texts": None,
            "dropped": dict(run.dropped),
            "truncated": None,
            "invalid": sum(v is None for row in rows for v in row["rewards"]),
            "trained_on": None,
            "ties": suite.counts.get("preference", {}).get("reward_ties"),
            **suite.counts,
        },
        rewards_sha256=sha256_bytes(rewards),
        provenance={
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": f"published results ({run.format})",
            "data": run.source,
            "command": list(command),
            "versions": package_versions(),
            "machine": platform.machine(),
        },
        **suite_fields(suite),
    )
    path = write_record(results, record, rewards)
    return Imported(StoredRun(record, path), False, (*run.notes, *_differences(run, suite)))


def _differences(run: PublishedRun, suite: Suite) -> list[str]:
    """Return the published numbers that the scores do not give."""
    return [
        f"{name}: published {value:.4f}, its scores give {suite.metrics[name].value:.4f}"
        for name, value in run.published.items()
        if name in suite.metrics and abs(value - suite.metrics[name].value) > 5e-5
    ]
