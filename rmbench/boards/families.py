"""The families of tests behind a board: what is corrected together, and what it could have shown."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import inf

from rmbench.boards.separation import Pairs, ranked_cells
from rmbench.stats import Statistic, compare
from rmbench.stats.power import ALPHA

SHOWS = (
    "Shows from: the smallest difference that the tests of a family show with 80% power after the "
    "correction, the median over neighbours in rank. Models that are not told apart may differ by less."
)
"""What `Family.smallest` is, in words."""


@dataclass(frozen=True, slots=True)
class Family:
    """The tests that are corrected together: every two models on one number."""

    n_models: int
    n_tests: int
    smallest: float | None
    """Smallest difference of neighbours in rank that the tests show with 80% power, the median over them, at
    5% over the number of tests; None where most could show none."""

    def words(self, of: str) -> str:
        """Return the family in words, `of` being the number that it is on."""
        pairs = "1 pair" if self.n_tests == 1 else f"{self.n_tests:,} pairs"
        return f"{pairs} of {self.n_models:,} models on {of}, Holm at 5%"


def family_of(ranked: Sequence[Statistic], on_common: Pairs | None = None) -> Family | None:
    """Return the family of the tests of every two of `ranked`, the best first; None below two.

    Args:
        ranked: The models' numbers.
        on_common: Pairs whose test is of other numbers, as in `separated`.
    """
    k = len(ranked)
    if k < 2:
        return None
    n_tests = k * (k - 1) // 2
    neighbours = {(i, i + 1): pair for i, pair in enumerate(pairwise(ranked))}
    tested = [(on_common or {}).get(place, pair) for place, pair in neighbours.items()]
    found = [None if pair is None else compare(*pair).resolution for pair in tested]
    shown = [None if r is None else r.smallest(ALPHA / n_tests) for r in found]
    # Those that show no difference at all come last; the median of an even number is the larger one.
    ordered = sorted(shown, key=lambda value: inf if value is None else value)
    return Family(k, n_tests, ordered[len(ordered) // 2])


def families_of(
    ranked: Sequence[Statistic],
    columns: Mapping[str, Mapping[str, tuple[Statistic, Sequence[str]]]],
    on_common: Pairs,
    in_column: Callable[[str, Sequence[str]], Pairs],
) -> dict[str, Family]:
    """Return `score`, or a column's id -> the family of its tests, where there is one.

    Args:
        ranked: The scores of the ranked models, the best first, on the same clusters.
        columns: Column id -> model -> its number in the column, and the names of its clusters.
        on_common: Pairs of `ranked` whose test is of other numbers.
        in_column: The same of a column's models in their order.
    """
    found = {"score": family_of(ranked, on_common)}
    for name, cells in columns.items():
        here = ranked_cells(cells)
        found[name] = family_of(list(here.values()), in_column(name, list(here)))
    return {name: family for name, family in found.items() if family is not None}
