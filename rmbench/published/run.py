"""What a published results file becomes: rows with rewards, gold and lengths, and no text."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from rmbench.canon import canonical_json
from rmbench.data import ItemSet, read_task_items
from rmbench.errors import DataError
from rmbench.specs import TaskSpec, apply_params, load_task
from rmbench.types import Estimate, GoldKind, Item

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WinRate:
    """How often a generator's answers beat the reference's, as a judge sees it."""

    generator: str
    win_rate: Estimate
    """Mean of P(the generator's answer is better), a fraction."""
    n_wins: int
    n_wins_base: int
    n_draws: int
    n_missing: int
    """Prompts that others have answered and this one has no preference for: they are in no other number."""
    adversarial: bool
    """Made to fool the judge."""

    @property
    def n_total(self) -> int:
        """Rows with a preference."""
        return self.n_wins + self.n_wins_base + self.n_draws

    @property
    def discrete_win_rate(self) -> float:
        """Share of rows won, a draw half; a fraction."""
        return (self.n_wins + self.n_draws / 2) / self.n_total


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """One item with its rewards."""

    id: str
    rewards: tuple[float, ...]
    """One per response; NaN where none was published."""
    gold: tuple[float | None, ...]
    lengths: tuple[int, ...]
    """Characters of each response; all 0 where the texts are not known."""
    cluster: str
    strata: Mapping[str, str]
    flips: int = 0
    """Pairwise models: pairs whose winner depends on the order shown."""
    comparisons: int = 0
    """Pairwise models: pairs that were compared in both orders."""
    gold_kind: GoldKind = "label"

    def stored(self, *, pairwise: bool) -> dict[str, Any]:
        """Return the row as the rewards file of a record holds it."""
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
    """One model on one task, as somebody else has run it."""

    model: str
    spec: TaskSpec
    rows: Sequence[PublishedRow]
    data_hash: str
    """Identity of the items: the same for every model on the same items."""
    source: str
    """The file, for people; without the folders above the layout."""
    format: str
    facts: Mapping[str, str]
    """What the file says of its model, e.g. its type: part of the fingerprint."""
    pairwise: bool = False
    """The rewards stand for verdicts of a judge, not for scores."""
    dropped: Mapping[str, int] = field(default_factory=dict)
    """Why rows were left out -> how many."""
    notes: Sequence[str] = ()
    """What a user should know of this file, one line each."""
    published: Mapping[str, float] = field(default_factory=dict)
    """Official metrics -> their published values, where the layout has them, to be checked."""

    def fingerprint(self) -> dict[str, str]:
        """Return the model's identity: who published what; a hash of ids and rewards."""
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
    """What was asked for, and what had to be left out."""

    data: Path | None = None
    """The benchmark's own data, to join texts and prompts to the results."""
    task_options: Mapping[str, str] = field(default_factory=dict)
    skip: bool = False
    """Leave a file that does not fit out instead of stopping."""
    prior_sets: bool = True
    """Join RewardBench's prior sets where a model has them."""
    skipped: list[str] = field(default_factory=list)
    """Why files were left out, one line each."""
    win_rates: list[WinRate] = field(default_factory=list)
    """AlpacaEval: the generators whose answers were judged; they are no reward models, and have no record."""
    _specs: dict[str, TaskSpec] = field(default_factory=dict)
    _items: dict[str, ItemSet] = field(default_factory=dict)

    def spec(self, task: str) -> TaskSpec:
        """Return a task with the `-T` options applied."""
        if task not in self._specs:
            self._specs[task] = apply_params(load_task(task), self.task_options)
        return self._specs[task]

    def items(self, task: str) -> ItemSet | None:
        """Return the items of a task in `data`, read once; None where no data was given."""
        if self.data is None:
            return None
        if task not in self._items:
            self._items[task] = read_task_items(self.spec(task), self.data, offline=True)
        return self._items[task]

    def each(self, things: Sequence[S], parse: Callable[[S], T]) -> Iterator[T]:
        """Yield `parse(thing)` of each that fits: a file, or what stands for several.

        Raises:
            DataError: At the first that does not, unless such files are skipped.
        """
        for thing in things:
            try:
                yield parse(thing)
            except DataError as error:
                if not self.skip:
                    raise
                self.skipped.append(str(error))


def reward_row(item: Item, rewards: tuple[float, ...], flips: int = 0, comparisons: int = 0) -> PublishedRow:
    """Return the row of an item whose texts are at hand."""
    gold = tuple(r.gold for r in item.responses)
    lengths = tuple(len(r.text) for r in item.responses)
    return PublishedRow(
        item.id, rewards, gold, lengths, item.cluster, item.strata, flips, comparisons, item.gold_kind
    )


def check_finite(path: Path, spec: TaskSpec, rows: Sequence[PublishedRow]) -> None:
    """Raise DataError for a reward that is not there, unless the task's `invalid` says what it means."""
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
    """Return the identity of items whose texts are not at hand: their ids and gold, in order."""
    total = sha256(f"published {task}\n".encode())
    for row in rows:
        total.update(canonical_json([row.id, list(row.gold)]).encode("utf-8", "surrogatepass") + b"\n")
    return total.hexdigest()


def left_out(counts: Counter[str]) -> dict[str, int]:
    """Return the counts that are not 0, sorted."""
    return {reason: n for reason, n in sorted(counts.items()) if n}
