"""Common beginnings: every sequence can be walked in the forest, and sees what it would see alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rmbench.models.hf.forest import Forest, attention_blocks, share_beginnings

ROWS = st.lists(
    # Few different tokens, so that beginnings coincide at every depth; equal and nested rows too.
    st.lists(st.integers(0, 1), min_size=1, max_size=12).map(tuple), min_size=1, max_size=12
)  # fmt: skip


def walk(forest: Forest, row: int) -> list[int]:
    """Return the places from the root to where a row ends, by brute force."""
    end = forest.last[row]
    segment = max(s for s, start in enumerate(forest.starts) if start <= end)
    own = list(range(forest.starts[segment], end + 1))
    return [*forest.above(segment).tolist(), *own]


@given(rows=ROWS, at_least=st.integers(1, 6))
def test_walking_the_forest_gives_every_row_back(rows: list[tuple[int, ...]], at_least: int) -> None:
    forest = share_beginnings(rows, at_least)
    for r, row in enumerate(rows):
        places = walk(forest, r)
        assert forest.path(r).tolist() == places
        assert tuple(forest.tokens[p] for p in places) == row
        assert [forest.positions[p] for p in places] == list(range(len(row)))
    assert forest.n_tokens <= sum(map(len, rows))
    assert forest.depth == max(map(len, rows))


@given(rows=ROWS)
def test_sharing_everything_leaves_the_distinct_beginnings(rows: list[tuple[int, ...]]) -> None:
    distinct = {row[:n] for row in rows for n in range(1, len(row) + 1)}
    assert share_beginnings(rows, 1).n_tokens == len(distinct)


def test_a_beginning_that_is_too_short_is_read_again() -> None:
    rows = [(1, 2, 3, 4, 5), (1, 2, 3, 9), (1, 7, 7)]
    assert share_beginnings(rows, 4).n_tokens == 12
    assert share_beginnings(rows, 3).n_tokens == 9
    assert share_beginnings(rows, 1).n_tokens == 8


def test_many_nested_rows_do_not_exhaust_the_stack() -> None:
    rows = [tuple(range(n)) for n in range(1, 2_000)]
    assert share_beginnings(rows, 1).n_tokens == 1_999


@given(rows=ROWS, at_least=st.integers(1, 4), waste=st.floats(0, 3), most=st.integers(1, 200))
def test_blocks_ask_for_each_token_once_and_show_it_what_it_may_see(
    rows: list[tuple[int, ...]], at_least: int, waste: float, most: int
) -> None:
    forest = share_beginnings(rows, at_least)
    seen: dict[int, set[int]] = {}
    for block in attention_blocks(forest, waste, most):
        visible = block.visible()
        assert len(block.queries) == 1 or visible[0].size * len(block.queries) <= most
        for k, n_own in enumerate(block.n_own):
            for q in range(n_own):
                place = int(block.queries[k, q])
                assert place not in seen
                seen[place] = set(block.keys[k, visible[k, q]].tolist())
                if block.is_causal:
                    assert visible[k, q].tolist() == [j <= q for j in range(block.keys.shape[1])]
    assert sorted(seen) == list(range(forest.n_tokens))
    for r in range(len(rows)):
        path = walk(forest, r)
        for n, place in enumerate(path):
            assert seen[place] == set(path[: n + 1])


@settings(max_examples=100, deadline=None)
@given(rows=ROWS, strip=st.sampled_from((1, 2, 3, 5, 100)))
def test_strips_ask_for_each_token_once_and_show_it_what_it_may_see(
    rows: list[tuple[int, ...]], strip: int
) -> None:
    forest = share_beginnings(rows, 1)
    seen: dict[int, list[int]] = {}
    for block in attention_blocks(forest, 0.25, 10**6, strip):
        for n, own in enumerate(block.n_own):
            for query in range(own):
                assert block.queries[n, query] not in seen
                seen[int(block.queries[n, query])] = list(block.keys[n][block.visible()[n, query]])
    assert sorted(seen) == list(range(forest.n_tokens))
    for row in range(len(rows)):
        path = list(forest.path(row))
        for k, place in enumerate(path):
            assert seen[int(place)] == path[: k + 1]


def test_strips_leave_out_most_of_what_no_query_sees() -> None:
    forest = share_beginnings([tuple(range(1000))])

    def cells(strip: int | None) -> int:
        return sum(b.queries.size * b.keys.shape[1] for b in attention_blocks(forest, 0.0, 10**7, strip))

    assert cells(None) == 1000 * 1000
    assert cells(100) == sum(100 * 100 * k for k in range(1, 11)) == 550_000
    assert cells(501) == cells(None)


def test_blocks_waste_no_more_than_allowed() -> None:
    forest = share_beginnings([tuple(range(10 * n, 10 * n + n)) for n in range(1, 9)], 1)
    for waste in (0.0, 0.2, 5.0):
        for block in attention_blocks(forest, waste, 10**6):
            real = int((block.n_own * (block.n_own + block.n_above)).sum())
            assert block.queries.shape[0] * block.queries.shape[1] * block.keys.shape[1] <= (1 + waste) * real
    assert len(attention_blocks(forest, 5.0, 10**6)) < len(attention_blocks(forest, 0.0, 10**6)) == 8
    assert np.concatenate([b.n_own for b in attention_blocks(forest, 0.2, 10**6)]).sum() == forest.n_tokens


@pytest.mark.parametrize("n", [1, 2, 40])
def test_equal_rows_are_one(n: int) -> None:
    forest = share_beginnings([tuple(range(20))] * n)
    assert forest.n_tokens == 20
    assert forest.last == [19] * n
