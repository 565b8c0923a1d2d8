"""Items that do not have to fit into memory: read once, kept in a temporary file where they are many."""

import json
import tempfile
import weakref
from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import IO, overload

from rmbench.types import Item, Response, Turn

_IN_MEMORY_BYTES = 32 * 2**20


class ItemShelf(Sequence[Item]):
    """Items in order, each made anew whenever it is asked for.

    Up to 32 MiB of them stay in memory; more is a file in the system's folder for temporary ones (`TMPDIR`),
    which has no name and goes with the shelf.
    """

    def __init__(self, store: "_Store", index: "array[int]") -> None:
        self._store, self._index = store, index

    @classmethod
    def of(cls, items: Iterable[Item]) -> "ItemShelf":
        """Return a shelf of `items`, iterated once."""
        store = _Store(items)
        return cls(store, array("Q", range(len(store))))

    def take(self, places: Iterable[int]) -> "ItemShelf":
        """Return the items at `places`, in that order; nothing is copied."""
        return ItemShelf(self._store, array("Q", (self._index[k] for k in places)))

    def __len__(self) -> int:
        return len(self._index)

    @overload
    def __getitem__(self, place: int) -> Item: ...
    @overload
    def __getitem__(self, place: slice) -> "ItemShelf": ...
    def __getitem__(self, place: int | slice) -> "Item | ItemShelf":
        if isinstance(place, slice):
            return ItemShelf(self._store, self._index[place])
        return self._store.read(self._index[place])

    def __iter__(self) -> Iterator[Item]:
        return map(self._store.read, self._index)


class _Store:
    """One line of JSON per item, one after the other."""

    def __init__(self, items: Iterable[Item]) -> None:
        self._file: IO[bytes] = tempfile.SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._ends = array("Q", [0])
        for item in items:
            self._ends.append(self._ends[-1] + self._file.write(_encoded(item)))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def read(self, number: int) -> Item:
        start = self._ends[number]
        self._file.seek(start)
        return _decoded(self._file.read(self._ends[number + 1] - start))


def _encoded(item: Item) -> bytes:
    return json.dumps(
        [
            item.id,
            [[turn["role"], turn["content"]] for turn in item.prompt],
            [[r.text, r.gold, dict(r.tags), r.logprob] for r in item.responses],
            item.cluster,
            dict(item.strata),
            item.gold_kind,
            dict(item.expected),
            item.votes,
        ]
    ).encode("ascii")


def _decoded(raw: bytes) -> Item:
    name, prompt, responses, cluster, strata, gold_kind, expected, votes = json.loads(raw)
    return Item(
        id=name,
        prompt=tuple(Turn(role=role, content=content) for role, content in prompt),
        responses=tuple(Response(*response) for response in responses),
        cluster=cluster,
        strata=strata,
        gold_kind=gold_kind,
        expected=expected,
        votes=None if votes is None else tuple(votes),
    )
