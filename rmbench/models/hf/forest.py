"""Common beginnings of the token sequences of a batch, so that a model reads them once.

The sequences become a forest: each segment is a run of tokens, its parents are what comes before it. A
prompt with its candidates is one segment with many children; a system prompt that all share is a root above
them; a sequence that begins another one ends inside it. All segments stand one after the other in a single
row without padding; a token sees the segments above its own, and its own up to itself.

Pure: token ids in, places out. `rmbench.models.hf.sharing` runs a model on the result.
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]

SHARE_AT_LEAST = 8
"""Tokens. A shorter common beginning is read again: another segment costs more than it saves."""


@dataclass(slots=True)
class Forest:
    """The distinct tokens of R sequences: N tokens in S segments, parents before children."""

    tokens: list[int] = field(default_factory=list)
    """Token ids, N of them."""
    positions: list[int] = field(default_factory=list)
    """Place of each token in its sequence, from 0; N of them."""
    starts: list[int] = field(default_factory=list)
    """Where each segment begins in `tokens`; S of them, ascending."""
    parents: list[int] = field(default_factory=list)
    """The segment before each segment, -1 for none; S of them."""
    last: list[int] = field(default_factory=list)
    """Where the last token of each sequence is in `tokens`; R of them, in the caller's order."""

    @property
    def n_tokens(self) -> int:
        """Tokens that a model has to read."""
        return len(self.tokens)

    @property
    def depth(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.positions) + 1

    def own(self, segment: int) -> Ints:
        """Return the places of a segment's tokens."""
        ends = self.starts[segment + 1] if segment + 1 < len(self.starts) else len(self.tokens)
        return np.arange(self.starts[segment], ends)

    def above(self, segment: int) -> Ints:
        """Return the places of all tokens before a segment's first one, in order."""
        chain: list[Ints] = []
        while (segment := self.parents[segment]) >= 0:
            chain.append(self.own(segment))
        return np.concatenate(chain[::-1]) if chain else np.zeros(0, dtype=np.int64)

    def path(self, row: int) -> Ints:
        """Return the places of all tokens of a sequence, in order."""
        segment = bisect_right(self.starts, self.last[row]) - 1
        own = np.arange(self.starts[segment], self.last[row] + 1)
        return np.concatenate([self.above(segment), own])

    def _add(self, tokens: Sequence[int], depth: int, parent: int) -> int:
        self.starts.append(len(self.tokens))
        self.parents.append(parent)
        self.tokens.extend(tokens)
        self.positions.extend(range(depth, depth + len(tokens)))
        return len(self.starts) - 1


def share_beginnings(rows: Sequence[tuple[int, ...]], at_least: int = SHARE_AT_LEAST) -> Forest:
    """Return the forest of `rows`.

    Args:
        rows: Token ids of each sequence, none of them empty.
        at_least: Tokens that a common beginning must have to be shared.

    Returns:
        A forest in which walking from the root to where a row ends gives the row back.
    """
    order = sorted(range(len(rows)), key=lambda r: rows[r])
    common = [_common(rows[a], rows[b]) for a, b in pairwise(order)]
    forest = Forest(last=[0] * len(rows))
    # Rows low..high (sorted) share `depth` tokens, which are in the tree as far as `parent`; neighbours that
    # share no more than `floor` part ways here.
    waiting = [(0, len(rows), 0, 0, -1)]
    while waiting:
        low, high, depth, floor, parent = waiting.pop()
        for first, end in _runs(common, low, high, floor):
            row = rows[order[first]]
            shared = len(row) if end - first == 1 else min(common[first : end - 1])
            if len(row) == depth:  # it ends where its parent ends
                end_of_parent = forest.own(parent)[-1]
                for r in order[first:end]:
                    forest.last[r] = int(end_of_parent)
            elif end - first == 1:
                segment = forest._add(row[depth:], depth, parent)
                forest.last[order[first]] = int(forest.own(segment)[-1])
            elif shared - depth >= at_least:
                segment = forest._add(row[depth:shared], depth, parent)
                waiting.append((first, end, shared, shared, segment))
            else:
                waiting.append((first, end, depth, shared, parent))
    return forest


def _runs(common: Sequence[int], low: int, high: int, floor: int) -> list[tuple[int, int]]:
    """Return the runs of sorted rows within low..high whose neighbours share more than `floor` tokens."""
    cuts = [low, *(k + 1 for k in range(low, high - 1) if common[k] <= floor), high]
    return list(pairwise(cuts))


def _common(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Return how many tokens two sequences begin with in common."""
    n = min(len(a), len(b))
    if a[:n] == b[:n]:
        return n
    low = 0  # a[:low] == b[:low]; halving compares slices in C, most pairs share a long prompt
    while n - low > 1:
        middle = (low + n) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            n = middle
    return low


@dataclass(frozen=True, slots=True)
class Block:
    """Segments of similar length, whose attention is computed together: n of them, padded to (Q, K)."""

    queries: Ints
    """Places of the tokens that look, shape (n, Q); padded with the segment's last place."""
    keys: Ints
    """Places of the tokens that are looked at, shape (n, K): those above, then the segment's own."""
    n_above: Ints
    """How many of the keys are above the segment, shape (n,)."""
    n_own: Ints
    """Tokens of each segment, shape (n,)."""

    @property
    def is_causal(self) -> bool:
        """Whether no segment is above: then an ordinary causal mask does, right padding included."""
        return not self.n_above.any()

    def visible(self) -> NDArray[np.bool_]:
        """Return which keys each query sees, shape (n, Q, K)."""
        query = np.arange(self.queries.shape[1])[None, :, None]
        key = np.arange(self.keys.shape[1])[None, None, :]
        return key <= query + self.n_above[:, None, None]


def attention_blocks(forest: Forest, waste: float, most_cells: int, strip: int | None = None) -> list[Block]:
    """Return the segments in blocks of similar length.

    Half of the pairs of a long segment with itself are later keys, which no query sees. In strips most of
    them are never computed: a strip is a segment for which what comes before it in its own is above it.

    Args:
        forest: What to attend within.
        waste: Query-key pairs that padding may add, as a fraction of those asked for.
        most_cells: Most query-key pairs of a block of more than one segment.
        strip: Tokens, about: segments of twice as many are computed in strips; None for whole segments.
    """
    whole = [(forest.own(s), forest.above(s)) for s in range(len(forest.starts))]
    parts = [part for own, above in whole for part in _strips(own, above, strip or max(1, len(own)))]
    order = sorted(
        range(len(parts)), key=lambda s: (len(parts[s][1]) > 0, -len(parts[s][0]), -len(parts[s][1]))
    )
    blocks: list[Block] = []
    group: list[tuple[Ints, Ints]] = []
    for s in order:
        wider = [*group, parts[s]]
        if group and not _fits(wider, waste, most_cells):
            blocks.append(_block(group))
            wider = [parts[s]]
        group = wider
    return [*blocks, _block(group)] if group else blocks


def _strips(own: Ints, above: Ints, width: int) -> list[tuple[Ints, Ints]]:
    cut = np.array_split(np.arange(len(own)), max(1, len(own) // width))
    return [(own[places], np.concatenate([above, own[: places[0]]])) for places in cut]


def _fits(group: Sequence[tuple[Ints, Ints]], waste: float, most_cells: int) -> bool:
    if bool(len(group[0][1])) != bool(len(group[-1][1])):
        return False
    n_keys = [len(own) + len(above) for own, above in group]
    padded = len(group) * max(len(own) for own, _ in group) * max(n_keys)
    real = sum(len(own) * n for (own, _), n in zip(group, n_keys, strict=True))
    return padded <= min(most_cells, (1 + waste) * real)


def _block(group: Sequence[tuple[Ints, Ints]]) -> Block:
    n_queries = max(len(own) for own, _ in group)
    n_keys = max(len(own) + len(above) for own, above in group)

    def padded(places: Ints, width: int) -> Ints:
        return np.pad(places, (0, width - len(places)), mode="edge")

    return Block(
        np.stack([padded(own, n_queries) for own, _ in group]),
        np.stack([padded(np.concatenate([above, own]), n_keys) for own, above in group]),
        np.array([len(above) for _, above in group]),
        np.array([len(own) for own, _ in group]),
    )
