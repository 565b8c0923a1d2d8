"""Items on a shelf: the same ones, in memory or in a file, in any order."""

import gc
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.tasks import ItemShelf
from rmbench.tasks import items as shelf
from rmbench.types import GOLD_KINDS, Item, Response, Turn

TEXT = st.text(st.characters(), max_size=20)  # lone surrogates too
TURNS = st.lists(st.builds(lambda r, c: Turn(role=r, content=c), TEXT, TEXT), max_size=3).map(tuple)
RESPONSES = st.lists(
    st.builds(
        Response, TEXT, st.none() | st.floats(allow_nan=False) | st.integers(), st.dictionaries(TEXT, TEXT),
        st.none() | st.floats(max_value=0.0, allow_nan=False),
    ),
    max_size=3,
).map(tuple)  # fmt: skip
ITEMS = st.lists(
    st.builds(Item, TEXT, TURNS, RESPONSES, TEXT, st.dictionaries(TEXT, TEXT), st.sampled_from(GOLD_KINDS)),
    max_size=6,
)


@given(items=ITEMS, order=st.randoms())
def test_what_was_put_comes_back(items: list[Item], order: object) -> None:
    found = ItemShelf.of(iter(items))
    assert list(found) == items
    assert [found[k] for k in range(-len(items), 0)] == items
    assert list(found[1:]) == items[1:]
    places = list(range(len(items))) * 2
    order.shuffle(places)  # type: ignore[attr-defined]
    taken = found.take(places)
    assert list(taken) == [items[k] for k in places]
    assert list(taken.take([0] if places else [])) == [items[k] for k in places[:1]]


def test_many_items_are_a_file_that_goes_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "IN_MEMORY_BYTES", 1_000)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    made: list[Any] = []
    own = tempfile.SpooledTemporaryFile

    def spooled(size: int) -> Any:
        made.append(own(size))
        return made[-1]

    monkeypatch.setattr(tempfile, "SpooledTemporaryFile", spooled)
    items = [Item(f"i{k}", (), (Response("x" * k),), "c") for k in range(100)]
    found = ItemShelf.of(items)
    (file,) = made
    assert file.name is not None, "it is a file of the system"
    # Two readers at once, and one of a part.
    assert [(a.id, b.id) for a, b in zip(found, found[::-1], strict=True)] == [
        (f"i{k}", f"i{99 - k}") for k in range(100)
    ]
    part = found.take([3])
    del found
    gc.collect()
    assert part[0] == items[3]
    del part
    gc.collect()
    assert file.closed
    assert not list(tmp_path.iterdir())


def test_a_place_that_is_not_there() -> None:
    with pytest.raises(IndexError):
        ItemShelf.of([])[0]
