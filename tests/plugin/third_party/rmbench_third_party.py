"""Two reward models as a package of its own would ship them: two methods each, no base class."""

from collections.abc import Mapping, Sequence

from rmbench.types import Conversation, Pair


class Exclamations:
    """Likes exclamation marks.

    Args:
        weight: Reward of each.
    """

    def __init__(self, weight: float = 1.0) -> None:
        self.weight = weight

    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "exclamations", "version": "1", "weight": str(self.weight)}

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        return [self.weight * turns[-1]["content"].count("!") for turns in batch]


class PrefersShort:
    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "prefers-short", "version": "1"}

    def prefer(self, batch: Sequence[Pair]) -> list[float]:
        return [1 / (1 + 2.0 ** (len(pair.first) - len(pair.second))) for pair in batch]


def make_prefers_short() -> PrefersShort:
    """A pairwise model, made by a function."""
    return PrefersShort()
