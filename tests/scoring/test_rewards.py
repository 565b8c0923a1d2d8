"""Compact rows of rewards behave as the tuples that they stand for."""

from hypothesis import given
from hypothesis import strategies as st

from rmbench.scoring.run import RewardRows

ROWS = st.lists(st.lists(st.floats(allow_nan=False), max_size=4).map(tuple), max_size=6)


@given(rows=ROWS, other=ROWS, low=st.integers(-7, 7), high=st.integers(-7, 7))
def test_they_are_a_sequence_of_tuples(
    rows: list[tuple[float, ...]], other: list[tuple[float, ...]], low: int, high: int
) -> None:
    found = RewardRows(rows)
    assert list(found) == rows
    assert [found[k] for k in range(-len(rows), len(rows))] == [rows[k] for k in range(-len(rows), len(rows))]
    assert list(found[low:high]) == rows[low:high]
    assert found == rows == list(RewardRows(found))
    assert (found == other) == (rows == other)
    assert found != [*rows, (1.0,)]
    assert found.n_rewards == sum(map(len, rows))
