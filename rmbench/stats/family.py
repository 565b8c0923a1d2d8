"""Families of paired tests: p-values corrected over all of them, and a verdict on every one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from rmbench.errors import ConfigError
from rmbench.stats.combine import difference
from rmbench.stats.compare import Comparison, compare_paired, holm
from rmbench.stats.equivalence import equivalence
from rmbench.stats.power import ALPHA, POWER
from rmbench.stats.statistic import Statistic

Verdict: TypeAlias = Literal["better", "worse", "higher", "lower", "equivalent", "undecided", "no test"]
"""On the first of two models. `higher` and `lower`: of a metric that has no better direction."""


@dataclass(frozen=True, slots=True)
class Tested:
    """One paired test as a member of its family."""

    paired: Comparison
    n_tests: int
    """Tests of the family, those without a p-value left out."""
    p_holm: float | None
    """The p-value after Holm's correction over the family."""
    margin: float | None = None
    """Within which models are called equivalent; None: nobody asked."""
    p_equivalence: float | None = None
    """Of "the models differ by the margin or more"."""
    p_equivalence_holm: float | None = None
    """The same after Holm's correction over the family's equivalence tests."""

    @property
    def told_apart(self) -> bool:
        """Whether the corrected test tells the models apart at 5%."""
        return self.p_holm is not None and self.p_holm < ALPHA

    @property
    def within_margin(self) -> bool:
        """Whether the corrected tests show that the models differ by less than the margin."""
        return self.p_equivalence_holm is not None and self.p_equivalence_holm < ALPHA

    @property
    def verdict(self) -> Verdict:
        """What the tests say of the first model. A difference that is shown comes before equivalence."""
        if self.told_apart:
            higher = self.paired.difference.value > 0.0
            better = self.paired.difference.higher_is_better
            if better is None:
                return "higher" if higher else "lower"
            return "better" if higher == better else "worse"
        if self.within_margin:
            return "equivalent"
        return "no test" if self.paired.p_value is None else "undecided"

    @property
    def words(self) -> str:
        """The verdict in words; of a difference that is shown to be small, both."""
        if self.told_apart and self.within_margin:
            return f"{self.verdict}, by less than {self.margin:g}"
        return f"equivalent within {self.margin:g}" if self.verdict == "equivalent" else self.verdict

    def smallest(self, power: float = POWER) -> float | None:
        """Return the smallest difference that this test finds with probability `power` within its family.

        It is that of a test at 5% over the number of tests: the level that the first one of Holm's procedure
        has to pass. None where no difference would be found, or no error is known.
        """
        if self.paired.resolution is None:
            return None
        return self.paired.resolution.smallest(ALPHA / max(1, self.n_tests), power)


def family(pairs: Sequence[tuple[Statistic, Statistic]], margin: float | None = None) -> list[Tested]:
    """Test every pair, and correct over all of them.

    Args:
        pairs: Two statistics on the same clusters each; all of the family, of whatever metric.
        margin: Within which models are called equivalent, in each metric's own unit.

    Raises:
        ConfigError: If the margin is not above 0.
    """
    if margin is not None and not margin > 0.0:
        raise ConfigError(f"a margin of {margin:g}; expected one above 0")
    differences = [difference(a, b) for a, b in pairs]
    compared = [compare_paired(d) for d in differences]
    adjusted = _adjusted([c.p_value for c in compared])
    within = [None if margin is None else equivalence(d, margin) for d in differences]
    n_tests = sum(c.p_value is not None for c in compared)
    return [
        Tested(c, n_tests, p_holm, margin, p, p_adjusted)
        for c, p_holm, p, p_adjusted in zip(compared, adjusted, within, _adjusted(within), strict=True)
    ]


def _adjusted(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p-values, over those that there are."""
    known = [n for n, p in enumerate(p_values) if p is not None]
    found: list[float | None] = [None] * len(p_values)
    for n, p in zip(known, holm([p for p in p_values if p is not None]), strict=True):
        found[n] = p
    return found
