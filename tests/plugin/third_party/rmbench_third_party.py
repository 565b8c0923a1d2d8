"""One of each that another package can add to rmbench: no base class, no change to rmbench."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from rmbench import (
    Measured,
    Metric,
    Option,
    Params,
    Verdict,
    register_kind,
    register_reader,
    register_scheme,
    register_verifier,
)
from rmbench.metrics import Panel
from rmbench.stats import mean
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of
from rmbench.types import Conversation, Item, Pair, Response, Turn


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


class Counts:
    def __init__(self, text: str, weight: float) -> None:
        self.text, self.weight = text, weight

    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "counts", "version": "1", "text": self.text, "weight": str(self.weight)}

    def score(self, batch: Sequence[Conversation]) -> list[float]:
        return [self.weight * turns[-1]["content"].count(self.text) for turns in batch]


@register_scheme(
    "counts",
    rule="counts:TEXT (how often a text occurs)",
    patterns={"counts:TEXT": "how often a text occurs in the reply"},
)
def load_counts(text: str, *, weight: float = 1.0) -> Counts:
    """Counts a text.

    Args:
        weight: Reward of each.
    """
    return Counts(text, weight)


@dataclass(frozen=True, kw_only=True)
class TopGap(Params):
    scale: Annotated[float, Option("what gaps are divided by", low=0.001)] = 1.0


@register_kind(
    "top-gap",
    title="Gap",
    params=TopGap,
    metrics=[Metric("top_gap", "reward of the best response less that of the second", in_strata=True)],
)
def measure_top_gap(panel: Panel, params: TopGap) -> Measured:
    """Measure how far the two highest rewards of an item lie apart."""
    gaps = [float(np.diff(np.sort(panel.rewards[a:b])[-2:])[0]) for a, b in pairwise(panel.offsets)]
    return Measured({"top_gap": mean(np.array(gaps) / params.scale, panel.cluster, panel.n_clusters)})


@dataclass(frozen=True)
class Choices:
    flavour: Annotated[str, Option("which answers are gold")] = "sweet"


@register_reader("flavours", options=Choices)
def read_flavours(files: list[Path], options: Choices, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"id", "prompt", "answers": {TEXT: FLAVOUR}}`; gold is 1 where the flavour is the one asked for."""
    return items_of(files, bad, lambda row: _item(row, options.flavour))


def _item(row: Row, flavour: str) -> Item:
    value: Any = row.value
    return Item(
        id=value["id"],
        prompt=(Turn(role="user", content=value["prompt"]),),
        responses=tuple(Response(text, float(of == flavour)) for text, of in value["answers"].items()),
        cluster=value["prompt"],
    )


@register_verifier("shouts")
class Shouts:
    """The response is in capitals."""

    version = "1"
    gold_kind = "label"

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 where it is."""
        return Verdict(float(response.isupper()))
