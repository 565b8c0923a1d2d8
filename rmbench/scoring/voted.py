"""A judge's votes: each question is asked several times, and the mean counts.

Each vote is stored by itself.
"""

from collections.abc import Sequence
from itertools import combinations
from math import isfinite, nan
from typing import Any, Generic

import numpy as np

from rmbench.scoring.plan import Q, Unit, votes_of
from rmbench.scoring.work import Work
from rmbench.types import Scored


class VotedWork(Generic[Q]):
    """Answers questions like `Work`, each by the mean of its votes.

    A vote without an answer does not count; a question has none if no vote has one.

    Args:
        work: Asks for the votes and stores them.
        n_votes: Votes of a question.
    """

    def __init__(self, work: Work[Q], n_votes: int) -> None:
        self._work: Work[Q] = work
        self._n_votes = n_votes
        self._votes: dict[str, tuple[float, ...]] = {}
        self.n_computed = 0

    @property
    def n_tokens(self) -> int:
        """Tokens of the votes, if the model counts them."""
        return self._work.n_tokens

    def known(self, units: Sequence[Unit[Q]]) -> dict[str, Scored]:
        """Return the means of those `units` whose votes are all stored."""
        votes = votes_of(units, self._n_votes)
        found = self._work.known([vote for row in votes for vote in row])
        return {
            unit.key: _mean([found[vote.key] for vote in row])
            for unit, row in zip(units, votes, strict=True)
            if all(vote.key in found for vote in row)
        }

    def do(self, units: Sequence[Unit[Q]]) -> dict[str, Scored]:
        """Return the means of distinct `units`; votes that are stored are not asked for again.

        Raises:
            ScoringError: If the model raises or breaks its contract; votes so far stay stored.
        """
        self.n_computed += len(units) - len(self.known(units))
        votes = votes_of(units, self._n_votes)
        found = self._work.do([vote for row in votes for vote in row])
        scored = {}
        self._votes = {}
        for unit, row in zip(units, votes, strict=True):
            said = [found[vote.key] for vote in row]
            scored[unit.key] = _mean(said)
            self._votes[unit.key] = tuple(each.reward for each in said)
        return scored

    def votes(self, unit: Unit[Q]) -> tuple[float, ...]:
        """Return the votes on a question of the last `do`; NaN for one without an answer."""
        return self._votes[unit.key]


def _mean(votes: Sequence[Scored]) -> Scored:
    said = [vote.reward for vote in votes if isfinite(vote.reward)]
    if not said:
        return Scored(nan, why=next((vote.why for vote in votes if vote.why), ""))
    return Scored(sum(said) / len(said))


class Contradictions:
    """Counts, per item, how often two votes on the same question contradict each other.

    For a pair: one vote prefers the first reply, the other the second. For ratings: of two responses one vote
    rates the first higher, the other the second. Equal ratings, and a preference of 0.5, contradict nothing.

    Args:
        work: Gave the answers; nothing is counted unless it votes.
    """

    def __init__(self, work: object) -> None:
        self._work: VotedWork[Any] | None = work if isinstance(work, VotedWork) else None
        self._counts: list[tuple[int, int]] = []

    @property
    def counts(self) -> tuple[tuple[int, int], ...] | None:
        """Per item (contradictions, pairs of votes); None without votes."""
        return None if self._work is None else tuple(self._counts)

    def prefer(self, units: Sequence[Unit[Any]]) -> None:
        """Count the votes on an item's pairs."""
        if self._work is not None:
            said = [[vote - 0.5 for vote in self._work.votes(unit)] for unit in units]
            self._add(said)

    def rate(self, units: Sequence[Unit[Any]]) -> None:
        """Count the votes on an item's responses."""
        if self._work is not None:
            votes = [self._work.votes(unit) for unit in units]
            said = [[a - b for a, b in zip(*two, strict=True)] for two in combinations(votes, 2)]
            self._add(said)

    def _add(self, said: Sequence[Sequence[float]]) -> None:
        pairs = [
            one * other
            for votes in said
            for one, other in combinations([np.sign(vote) for vote in votes if isfinite(vote)], 2)
        ]
        self._counts.append((sum(product < 0 for product in pairs), len(pairs)))
