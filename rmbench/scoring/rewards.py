"""Rewards of many items: eight bytes each, where a float in a tuple takes five times as much."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload


class RewardRows(Sequence[tuple[float, ...]]):
    """One row of rewards per item, each a tuple made anew; equal to any sequence of the same rows.

    Args:
        rows: The rows to begin with.
    """

    def __init__(self, rows: Iterable[Iterable[float]] = ()) -> None:
        self._values, self._ends = array("d"), array("Q", [0])
        for row in rows:
            self.append(row)

    def append(self, row: Iterable[float]) -> None:
        """Add the rewards of the next item."""
        self._values.extend(row)
        self._ends.append(len(self._values))

    @property
    def n_rewards(self) -> int:
        """Rewards of all items."""
        return len(self._values)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, place: int) -> tuple[float, ...]: ...
    @overload
    def __getitem__(self, place: slice) -> "RewardRows": ...
    def __getitem__(self, place: int | slice) -> "tuple[float, ...] | RewardRows":
        numbers = range(len(self))[place]
        if isinstance(numbers, range):
            return RewardRows(self._row(k) for k in numbers)
        return self._row(numbers)

    def __iter__(self) -> Iterator[tuple[float, ...]]:
        return map(self._row, range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(other) != len(self):
            return False
        return all(mine == tuple(theirs) for mine, theirs in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"RewardRows({list(self)!r})"

    def _row(self, number: int) -> tuple[float, ...]:
        return tuple(self._values[self._ends[number] : self._ends[number + 1]])
