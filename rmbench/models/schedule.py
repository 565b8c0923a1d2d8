"""Schedules of comparisons: which pairs of an item's responses a pairwise model is asked.

All K (K - 1) / 2 pairs unless `-M comparisons=N` sets a budget of N pairs an item. Which pairs these are
depends on the texts and the seed alone: not on the order of the responses, nor on any answer.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal, get_args

from rmbench.core.files import conversation_key, digest
from rmbench.errors import ConfigError
from rmbench.types import Item

MANY = 8
"""Responses of an item from which the cost of the full round robin is told before a run.

The full round robin stays the default there too: a cheaper default would change the numbers and the run ids
of every pairwise run with such items without anyone asking for it.
"""

Kind = Literal["circular", "sampled"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Edge = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Schedule:
    """Which pairs of an item are asked, each in both orders."""

    comparisons: int | None = None
    """Most pairs of an item; None: every pair."""
    kind: Kind = "circular"
    """circular: each response meets its next neighbours on a random ring, so all meet about equally many;
    sampled: a random path through all of them, then random pairs."""
    seed: int = 0

    def identity(self) -> dict[str, str]:
        """Return the schedule's part of a run's identity; empty for the full round robin."""
        if self.comparisons is None:
            return {}
        return {"comparisons": f"{self.kind}, {self.comparisons} pairs an item, seed {self.seed}"}

    def n_pairs(self, k: int) -> int:
        """Return how many pairs of `k` responses are asked."""
        every = k * (k - 1) // 2
        return every if self.comparisons is None else min(self.comparisons, every)

    def check(self, item: Item) -> None:
        """Raise ConfigError if the budget cannot connect all responses of an item."""
        k = len(item.responses)
        if self.n_pairs(k) < k - 1:
            raise ConfigError(
                f"-M comparisons={self.comparisons}: item {item.id!r} has {k} responses, and fewer than"
                f" {k - 1} pairs leave some of them without any comparison with the others; expected"
                f" comparisons={k - 1} or more (comparisons={2 * k} meets each in 4 pairs), or leave it out"
                " for every pair"
            )

    def pairs(self, item: Item) -> list[Edge]:
        """Return the pairs (i, j), i < j, of an item's responses that are asked, sorted.

        Raises:
            ConfigError: If the budget cannot connect them.
        """
        k = len(item.responses)
        if self.n_pairs(k) == k * (k - 1) // 2:
            return list(combinations(range(k), 2))
        self.check(item)
        names = [conversation_key(item.conversation(place)) for place in range(k)]
        marks = [digest([self.seed, name], 32) for name in names]
        ring = sorted(range(k), key=lambda place: (marks[place], place))
        edges = _circular(k, self.n_pairs(k)) if self.kind == "circular" else self._sampled(ring, names)
        return sorted((min(ring[a], ring[b]), max(ring[a], ring[b])) for a, b in edges)

    def _sampled(self, ring: Sequence[int], names: Sequence[str]) -> list[Edge]:
        """Return pairs of places on the ring: the path along it, then pairs in the order of their hashes."""
        k = len(ring)
        path = [(a, a + 1) for a in range(k - 1)]
        # Places on the ring do not depend on the order of the responses, so neither do the hashes.
        others = [(a, b) for a, b in combinations(range(k), 2) if b > a + 1]
        others.sort(key=lambda edge: (digest([self.seed, *(names[ring[x]] for x in edge)], 32), edge))
        return path + others[: self.n_pairs(k) - len(path)]

    def cost(self, items: Iterable[Item]) -> str | None:
        """Return what the largest item costs, in words; None for a full round robin of few responses.

        Raises:
            ConfigError: If the budget cannot connect the responses of an item.
        """
        largest = n_pairs = n_items = 0
        for item in items:
            self.check(item)
            k = len(item.responses)
            largest, n_items, n_pairs = max(largest, k), n_items + 1, n_pairs + self.n_pairs(k)
        if self.comparisons is None and largest < MANY:
            return None
        asked, every = self.n_pairs(largest), largest * (largest - 1) // 2
        told = (
            f"K={largest}: {asked:,} of {every:,} pairs, both orders: {2 * asked:,} questions;"
            f" {2 * n_pairs:,} questions for {n_items:,} items"
        )
        if self.comparisons is None:
            told += f". -M comparisons={3 * largest} asks {6 * largest:,} of an item with {largest} responses"
        return told


FULL = Schedule()
"""Every pair."""


def _circular(k: int, n_pairs: int) -> list[Edge]:
    """Return `n_pairs` pairs of places on a ring of `k`: all neighbours, then those two apart, and so on.

    The last distance may be asked in part; its pairs are then spread over the ring.
    """
    edges: list[Edge] = []
    for distance in range(1, k // 2 + 1):
        n_here = k // 2 if 2 * distance == k else k
        left = min(n_pairs - len(edges), n_here)
        starts = (place * n_here // left for place in range(left))
        edges += [(start, (start + distance) % k) for start in starts]
        if len(edges) == n_pairs:
            break
    return edges
