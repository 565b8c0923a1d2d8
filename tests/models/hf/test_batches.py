"""How rows are cut into forward passes: the cheapest cut, and the same rewards."""

from itertools import product

import numpy as np
import pytest

from rmbench.models.hf.forward import similar_length


def cost(groups: list[list[int]], lengths: list[int], tokens_per_forward: int) -> int:
    return sum(len(g) * max(lengths[k] for k in g) + tokens_per_forward for g in groups)


@pytest.mark.parametrize("n", range(1, 9))
@pytest.mark.parametrize("tokens_per_forward", [0, 5, 60, 10_000])
def test_similar_length_is_the_cheapest_cut(n: int, tokens_per_forward: int) -> None:
    lengths = np.random.default_rng(n).integers(1, 50, n).tolist()
    groups = similar_length(lengths, tokens_per_forward)
    assert sorted(k for g in groups for k in g) == list(range(n)), "each row once"
    widest = [max(lengths[k] for k in g) for g in groups]
    assert widest == sorted(widest, reverse=True)
    longest_first = sorted(range(n), key=lambda k: -lengths[k])
    least = min(
        cost(parts_of(longest_first, cuts), lengths, tokens_per_forward)
        for cuts in product((False, True), repeat=n - 1)
    )
    assert cost(groups, lengths, tokens_per_forward) == least


def parts_of(rows: list[int], cuts: tuple[bool, ...]) -> list[list[int]]:
    parts = [[rows[0]]]
    for row, cut in zip(rows[1:], cuts, strict=True):
        if cut:
            parts.append([])
        parts[-1].append(row)
    return parts


def test_equal_lengths_are_one_group() -> None:
    assert similar_length([7] * 6, 1) == [list(range(6))]
