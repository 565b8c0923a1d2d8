"""Import of published results: files of rewards, verdicts or win rates become ordinary run records.

A format is a registered function from a path to runs. The rows of a run hold rewards, gold and lengths, but
no text. Files are JSON tables of any shape: an object of columns, a list of rows, or bare objects.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from rmbench.core.files import UNREADABLE, canonical_json, check_depth, open_text, raw_decode, require_file
from rmbench.core.registry import Registry
from rmbench.errors import DataError
from rmbench.metrics import Suite, measure_suite
from rmbench.results.read import complete_run
from rmbench.results.record import make_identity, run_id
from rmbench.results.run import Run, stored_panel
from rmbench.results.write import (
    encode_rewards,
    primary_metric,
    provenance_of,
    task_identity,
    write_run,
)
from rmbench.tasks import ItemSet, read_task_items
from rmbench.tasks.spec import TaskSpec, apply_params, load_task
from rmbench.types import Estimate, GoldKind, Item

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """Win rate of a generator's answers against the reference's, by a judge's verdicts."""

    generator: str
    win_rate: Estimate
    """Mean of P(the generator's answer is better), a fraction."""
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_missing: int
    """Prompts that other generators answered, without a preference for this one; no other number has them."""
    adversarial: bool
    """True for a generator that was made to fool the judge."""

    @property
    def n_total(self) -> int:
        """Number of rows with a preference."""
        return self.n_wins + self.n_wins_base + self.n_draws

    @property
    def discrete_win_rate(self) -> float:
        """Fraction of rows won; a draw counts half."""
        return (self.n_wins + self.n_draws / 2) / self.n_total


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One item with its rewards."""

    id: str
    rewards: tuple[float, ...]
    """One reward per response; NaN if none was published."""
    gold: tuple[float | None, ...]
    lengths: tuple[int, ...]
    """Length of each response in characters; all 0 if the texts are not known."""
    cluster: str
    strata: Mapping[str, str]
    flips: int = 0
    """Pairwise models: pairs whose winner depends on the order shown."""
    comparisons: int = 0
    """Pairwise models: pairs compared in both orders."""
    gold_kind: GoldKind = "label"

    def stored(self, *, pairwise: bool) -> dict[str, Any]:
        """Return the row in the form of a record's rewards file."""
        entry: dict[str, Any] = {
            "id": self.id,
            "rewards": [v if isfinite(v) else None for v in self.rewards],
            "gold": list(self.gold),
            "lengths": list(self.lengths),
            "cluster": self.cluster,
            "strata": dict(self.strata),
            "gold_kind": self.gold_kind,
        }
        return entry | ({"flips": self.flips, "comparisons": self.comparisons} if pairwise else {})


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRun:
    """One model on one task, as published."""

    model: str
    spec: TaskSpec
    rows: Sequence[PublishedRow]
    data_hash: str
    """Identity of the items: the same for every model on the same items."""
    source: str
    """Path of the file, for display; without the folders above the layout."""
    format: str
    facts: Mapping[str, str]
    """Facts of the file about its model, such as its type; part of the fingerprint."""
    pairwise: bool = False
    """True if the rewards are made from verdicts of a judge, not from scores."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Reason -> number of rows left out."""
    notes: Sequence[str] = ()
    """Remarks on this file for the user, one line each."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Official metric -> its published value, to be checked; empty if the layout has none."""

    def fingerprint(self) -> dict[str, str]:
        """Return the model's identity: the format, and a hash of ids and rewards."""
        total = sha256()
        for row in self.rows:
            values = [v if isfinite(v) else None for v in row.rewards]
            total.update(canonical_json([row.id, values, row.flips]).encode("utf-8", "surrogatepass"))
        return {
            "kind": "published", "format": self.format, "model": self.model, **self.facts,
            "sha256": total.hexdigest(), "version": "1",
        }  # fmt: skip


@dataclass(slots=True)
class Import:
    """Options of an import, and the files that were left out."""

    data: Path | None = None
    """The benchmark's own data, to join texts and prompts to the results."""
    task_options: Mapping[str, str] = field(default_factory=dict)
    skip: bool = False
    """True: leave out files that do not fit; False: stop."""
    prior_sets: bool = True
    """True: join RewardBench's prior sets if a model has them."""
    reduce: str = "prod"
    """RewardMATH: how the values of a solution's steps become one number."""
    skipped: list[str] = field(default_factory=list)
    """Reasons for which files were left out, one line each."""
    win_rates: list[WinRate] = field(default_factory=list)
    """AlpacaEval: the generators whose answers were judged; they are not reward models and have no record."""
    _specs: dict[str, TaskSpec] = field(default_factory=dict)
    _items: dict[str, ItemSet] = field(default_factory=dict)

    def spec(self, task: str) -> TaskSpec:
        """Return a task with the `-T` options applied."""
        if task not in self._specs:
            self._specs[task] = apply_params(load_task(task), self.task_options)
        return self._specs[task]

    def items(self, task: str) -> ItemSet | None:
        """Return the items of a task in `data`, read once; None without data."""
        if self.data is None:
            return None
        if task not in self._items:
            self._items[task] = read_task_items(self.spec(task), self.data, offline=True)
        return self._items[task]

    def each(self, things: Sequence[S], parse: Callable[[S], T]) -> Iterator[T]:
        """Yield `parse(thing)` of each thing (a file, or a name for several) that fits.

        Raises:
            DataError: At the first that does not fit, unless such files are skipped.
        """
        for thing in things:
            try:
                yield parse(thing)
            except DataError as error:
                if not self.skip:
                    raise
                self.skipped.append(str(error))


def reward_row(item: Item, rewards: tuple[float, ...], flips: int = 0, comparisons: int = 0) -> PublishedRow:
    """Return the row of an item whose texts are known."""
    gold = tuple(r.gold for r in item.responses)
    lengths = tuple(len(r.text) for r in item.responses)
    return PublishedRow(
        item.id, rewards, gold, lengths, item.cluster, item.strata, flips, comparisons, item.gold_kind
    )


def check_finite(path: Path, spec: TaskSpec, rows: Sequence[PublishedRow]) -> None:
    """Raise DataError for a missing reward, unless the task's `invalid` handles it."""
    bad = [row.id for row in rows if not all(map(isfinite, row.rewards))]
    if bad and spec.params["invalid"] == "fail":
        raise DataError(
            f"{len(bad)} of {len(rows)} items have a score that is null or not finite (first: {bad[0]!r}); "
            "-T invalid=wrong takes them as published in `official` and as wrong elsewhere, "
            "-T invalid=drop leaves them out elsewhere",
            path=path,
            reason="scores are not finite",
        )


def hash_of_ids(task: str, rows: Sequence[PublishedRow]) -> str:
    """Return the identity of items whose texts are not known: their ids and gold, in order."""
    total = sha256(f"published {task}\n".encode())
    for row in rows:
        total.update(canonical_json([row.id, list(row.gold)]).encode("utf-8", "surrogatepass") + b"\n")
    return total.hexdigest()


def left_out(counts: Counter[str]) -> dict[str, int]:
    """Return the counts that are not 0, sorted."""
    return {reason: n for reason, n in sorted(counts.items()) if n}


Format: TypeAlias = Callable[[Path, Import], list[PublishedRun]]
"""A format: (file or folder, options) -> every run found there, read and checked; nothing is written."""

FORMATS: Registry[Format] = Registry(
    "results format",
    group="rmbench.formats",
    homes=("rmbench.benchmarks", "rmbench.benchmarks.rewardbench"),
)


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one length, and the values of the whole file."""

    path: Path
    columns: Mapping[str, list[Any]]
    facts: Mapping[str, Any]
    """Keys whose value is not a list: `model`, `model_type`."""
    n_rows: int

    def column(self, key: str) -> list[Any] | None:
        """Return a column, or None if it is missing or holds only null."""
        values = self.columns.get(key)
        return None if values is None or all(v is None for v in values) else values

    def required(self, key: str) -> list[Any]:
        """Return a column. Raises DataError if it is missing."""
        values = self.column(key)
        if values is None:
            known = ", ".join(sorted(self.columns)) or "none"
            raise DataError(f"the column is missing; columns: {known}", path=self.path, key=key)
        return values

    def fact(self, key: str) -> str | None:
        """Return a text that holds for the whole file, if there is one."""
        value = self.facts.get(key)
        return value if isinstance(value, str) and value.strip() else None

    def error(self, row: int, key: str, problem: str) -> DataError:
        """Return the error for one value."""
        return DataError(problem, path=self.path, line=row + 1, key=key, reason=f"{key} does not fit")


_LARGEST = 256 * 2**20
"""Characters of a file of published results; a larger one is refused."""


def read_objects(path: Path) -> list[Any]:
    """Return the JSON values of a file: one, or several concatenated without a separator.

    Some publishers save lists as concatenated pretty-printed objects.

    Raises:
        DataError: If the file cannot be read, is empty, is cut off, is too large, or holds something else.
    """
    require_file(path)
    try:
        with open_text(path) as file:
            text = file.read(_LARGEST)
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason})", path=path) from None
    except UNREADABLE as error:
        raise DataError(f"cannot be read: {error}", path=path) from None
    if len(text) == _LARGEST:
        raise DataError(f"{_LARGEST:,} characters or more", path=path)
    found, at = list[Any](), _skip_space(text, 0)
    while at < len(text):
        try:
            value, at = raw_decode(text, at)
            check_depth(value)
        except ValueError as error:
            raise DataError(
                f"not valid JSON, or cut off after {len(text):,} characters ({error})",
                path=path,
                reason="file is not JSON, or cut off",
            ) from None
        found.append(value)
        at = _skip_space(text, at)
    if not found:
        raise DataError("the file is empty", path=path, reason="file is empty")
    return found


def read_table(path: Path) -> Table:
    """Return the table in a file.

    Raises:
        DataError: If the file holds no table, or its columns differ in length.
    """
    values = read_objects(path)
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    if not all(isinstance(v, dict) for v in values):
        raise DataError("expected an object of columns, or objects that are rows", path=path)
    if len(values) != 1 or not any(isinstance(v, list) for v in values[0].values()):
        keys = dict.fromkeys(key for row in values for key in row)
        columns = {key: [row.get(key) for row in values] for key in keys}
        facts = {k: c[0] for k, c in columns.items() if k.startswith("model") and len(set(map(str, c))) == 1}
        return Table(path, columns, facts, len(values))
    columns = {key: v for key, v in values[0].items() if isinstance(v, list)}
    sizes = {key: len(v) for key, v in columns.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{key} {n:,}" for key, n in sizes.items())
        raise DataError(f"columns differ in length: {shown}", path=path, reason="columns differ in length")
    facts = {key: v for key, v in values[0].items() if not isinstance(v, list)}
    return Table(path, columns, facts, next(iter(sizes.values())))


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


@dataclass(frozen=True, slots=True)
class Imported:
    """A record, and whether it is new."""

    run: Run
    reused: bool
    """True if the record was there already."""
    notes: tuple[str, ...]


def write_runs(
    runs: Sequence[PublishedRun], results: Path, *, seed: int, command: Sequence[str], n_workers: int = 1
) -> Iterator[Imported]:
    """Measure and write runs in order, in several processes; the records do not depend on their number.

    Raises:
        StoreError: If an existing record is damaged. Records written before stay.
    """
    write = partial(_measured, results=results, seed=seed, command=command)
    if n_workers == 1 or len(runs) < 2:
        yield from map(write, runs)
        return
    with ProcessPoolExecutor(n_workers, multiprocessing.get_context("spawn")) as pool:
        with _one_thread_each():  # `map` starts the processes
            measured = pool.map(write, runs)
        yield from measured


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Let processes that start inside multiply matrices in one thread each, unless the user set a number.

    Threads of several processes on the same cores wait for each other in busy loops: six times the CPU time,
    as measured on two busy cores. Numpy reads the variable when it is imported, so it must be set before.
    """
    if "OMP_NUM_THREADS" in os.environ:
        yield
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        yield
    finally:
        del os.environ["OMP_NUM_THREADS"]


def _measured(run: PublishedRun, results: Path, *, seed: int, command: Sequence[str]) -> Imported:
    """Measure a published run and write it, unless the same record exists.

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
    written = write_run(
        results,
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
        },
        suite=suite,
        rewards=encode_rewards(rows),
        provenance=provenance_of(model=f"published results ({run.format})", data=run.source, command=command),
        task_file=run.spec.text,
    )
    return Imported(written, False, (*run.notes, *_differences(run, suite)))


def _differences(run: PublishedRun, suite: Suite) -> list[str]:
    """Return the published metrics that differ from those of the scores."""
    return [
        f"{name}: published {value:.4f}, its scores give {suite.metrics[name].value:.4f}"
        for name, value in run.published.items()
        if name in suite.metrics and abs(value - suite.metrics[name].value) > 5e-5
    ]
