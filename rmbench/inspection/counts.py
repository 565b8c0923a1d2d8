"""Counts and lengths of the items of one split, and what they share with another."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from rmbench.core.files import digest, identity_of, prompt_cluster
from rmbench.inspection.spoilers import Spoilers, place_of
from rmbench.tasks.rows import Row
from rmbench.types import Item

_SIDES = ("prompt", "better reply", "worse reply", "reply")
"""Texts whose lengths are counted."""


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths of many texts."""

    n: int
    median: float
    p95: int
    """At least 95% are at most so long."""
    longest: int


def lengths_of(values: Sequence[int]) -> Lengths | None:
    """Return the lengths in short; None for none."""
    if not values:
        return None
    ordered = sorted(values)
    return Lengths(len(ordered), median(ordered), ordered[-(-95 * len(ordered) // 100) - 1], ordered[-1])


@dataclass(slots=True)
class Counts:
    """What a split holds; `add` counts an item."""

    spoilers: Spoilers
    n_items: int = 0
    n_pairs: int = 0
    """Items with two responses."""
    n_responses: int = 0
    gold_kinds: Counter[str] = field(default_factory=Counter)
    prompts: Counter[str] = field(default_factory=Counter)
    """Prompt, hashed -> items."""
    characters: dict[str, "array[int]"] = field(default_factory=lambda: {name: array("Q") for name in _SIDES})
    """Of a pair's replies by their gold; `reply`: those of pools and of pairs without an order."""
    _seen: dict[str, list[float | None]] = field(default_factory=dict)

    def add(self, item: Item, row: Row) -> None:
        """Count an item, and look at its texts."""
        self.n_items += 1
        self.n_responses += len(item.responses)
        self.n_pairs += len(item.responses) == 2
        self.gold_kinds[item.gold_kind if any(r.gold is not None for r in item.responses) else "none"] += 1
        self.prompts[prompt_cluster(item.prompt)] += 1
        self.characters["prompt"].append(sum(len(turn["content"]) for turn in item.prompt))
        for side, length in _sides(item):
            self.characters[side].append(length)
        self._note_twins(item, row)
        self.spoilers.read(item, row)

    @property
    def n_shared(self) -> int:
        """Prompts that several items have."""
        return sum(n > 1 for n in self.prompts.values())

    def _note_twins(self, item: Item, row: Row) -> None:
        order = sorted(range(len(item.responses)), key=lambda k: repr(item.responses[k].content))
        key = digest(
            [[identity_of(t) for t in item.prompt], [identity_of(item.responses[k].turn) for k in order]], 32
        )
        gold = [item.responses[k].gold for k in order]
        before = self._seen.setdefault(key, gold)
        if before is gold:
            return
        name = "pairs that stand in both orders" if _contradicts(before, gold) else "items that stand twice"
        self.spoilers.add(name, place_of(row, item.prompt[-1]["content"] if item.prompt else item.id))


def _contradicts(before: Sequence[float | None], gold: Sequence[float | None]) -> bool:
    if len(gold) != 2 or None in before or None in gold:
        return False
    signs = [(a > b) - (a < b) for a, b in (before, gold)]  # type: ignore[operator]
    return signs[0] * signs[1] < 0


def _sides(item: Item) -> list[tuple[str, int]]:
    gold = [response.gold for response in item.responses]
    lengths = [len(response.text) for response in item.responses]
    if len(gold) != 2 or gold[0] is None or gold[1] is None or gold[0] == gold[1]:
        return [("reply", length) for length in lengths]
    names = ("better reply", "worse reply") if gold[0] > gold[1] else ("worse reply", "better reply")
    return list(zip(names, lengths, strict=True))
