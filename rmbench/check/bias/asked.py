"""Effects of a model, item by item, from matched texts: rewards, or preferences in both orders."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import isfinite, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.check.bias.matched import Matched
from rmbench.scoring import PartStores, Progress, ScoreStore, score_items
from rmbench.scoring.pairs import prefer_pairs
from rmbench.types import AnyModel, Item, PairwiseModel, Response, Scored

Floats = NDArray[np.float64]
POSITION, SELF = "position", "self-preference"


@dataclass(slots=True)
class Effects:
    """Effects of each bias, one per item, in the order of the items.

    NaN: the model gave no answer. An item that the edit does not change is not there.
    """

    effect: dict[str, list[float]] = field(default_factory=dict)
    """Bias or edit -> effects, before they are divided by the unit."""
    item: dict[str, list[int]] = field(default_factory=dict)
    """The item of each effect."""
    flipped: dict[str, list[float]] = field(default_factory=dict)
    """1 where the order of the base reply and its rival changes, 0 where not, NaN unknown; like `effect`."""
    spread: float | None = None
    """Rewards: standard deviation within items, pooled. None for preferences, or where it is 0."""
    n_spread: int = 0
    """Items that it is from."""
    n_units: int = 0
    n_computed: int = 0
    n_truncated: int | None = None
    unanswered: Counter[str] = field(default_factory=Counter)

    def add(self, name: str, item: int, effect: float, flipped: float) -> None:
        """Add one item's effect."""
        self.effect.setdefault(name, []).append(effect)
        self.item.setdefault(name, []).append(item)
        self.flipped.setdefault(name, []).append(flipped)


def ask(
    model: AnyModel,
    matched: Sequence[Matched],
    store: ScoreStore | PartStores,
    *,
    batch_tokens: int | None,
    progress: Progress | None,
) -> Effects:
    """Return the effects of a model on matched texts."""
    if isinstance(model, PairwiseModel):
        return _preferences(model, matched, store, batch_tokens, progress)
    return _rewards(model, matched, store, batch_tokens, progress)


def _rewards(
    model: Any, matched: Sequence[Matched], store: Any, batch_tokens: int | None, progress: Progress | None
) -> Effects:
    items = [_item(m) for m in matched]
    scoring = score_items(model, items, store, batch_tokens=batch_tokens, progress=progress)
    effects = Effects(
        n_units=scoring.n_units, n_computed=scoring.n_computed, n_truncated=scoring.n_truncated,
        unanswered=Counter(scoring.unanswered),
    )  # fmt: skip
    squares, freedom = 0.0, 0
    for number, (m, row) in enumerate(zip(matched, scoring.rewards, strict=True)):
        sampled = np.array(row[: len(m.replies)])
        rest = iter(row[len(m.replies) :])
        valid = sampled[np.isfinite(sampled)]
        if len(valid) > 1:
            squares += float(np.square(valid - valid.mean()).sum())
            freedom += len(valid) - 1
            effects.n_spread += 1
        if m.own is not None:
            effects.add(SELF, number, next(rest) - next(rest), nan)
        base, rival = row[m.base], row[m.rival]
        for name, edited in m.edited.items():
            if edited is not None:
                reward = next(rest)
                effects.add(name, number, reward - base, _changed(base - rival, reward - rival))
    spread = (squares / freedom) ** 0.5 if freedom else 0.0
    effects.spread = spread if spread > 0.0 else None
    return effects


def _item(m: Matched) -> Item:
    """Return an item of all texts that a reward model reads: replies, own and other, edited ones."""
    edited = [each[0] for each in m.edited.values() if each is not None]
    return replace(m.item, responses=(*m.replies, *(m.own or ()), *edited))


def _changed(before: float, after: float) -> float:
    """Return 1 if two margins differ in sign, 0 if not, NaN if one is not known."""
    if not (isfinite(before) and isfinite(after)):
        return nan
    return float(np.sign(before) != np.sign(after))


def _preferences(
    model: PairwiseModel,
    matched: Sequence[Matched],
    store: Any,
    batch_tokens: int | None,
    progress: Progress | None,
) -> Effects:
    pairs = [pairs_of(m) for m in matched]
    asked = prefer_pairs(
        model, [m.item for m in matched], pairs, store, batch_tokens=batch_tokens, progress=progress
    )
    effects = Effects(n_units=asked.n_units, n_computed=asked.n_computed)
    told = [scored.truncated for row in asked.answers for scored in row]
    effects.n_truncated = None if None in told else sum(map(bool, told))
    for number, (m, row) in enumerate(zip(matched, asked.answers, strict=True)):
        effects.unanswered.update(s.why for s in row if not isfinite(s.reward) and s.why)
        answers = iter(row)
        first, second = (scored.reward for scored in (next(answers), next(answers)))
        # The two orders disagree where both name the first, or both the second.
        split = nan
        if isfinite(first) and isfinite(second):
            split = float((first - 0.5) * (second - 0.5) > 0.0)
        effects.add(POSITION, number, (first + second) / 2.0 - 0.5, split)
        before = _preferred(first, second)
        if m.own is not None:
            effects.add(SELF, number, _next_preferred(answers), nan)
        for name, edited in m.edited.items():
            if edited is not None:
                effect = _next_preferred(answers)
                after = _next_preferred(answers)
                effects.add(name, number, effect, _changed(before, after))
    return effects


def pairs_of(m: Matched) -> list[tuple[str, str]]:
    """Return the pairs that a pairwise model is asked: two, two for self-preference, four per edit."""
    base, rival = m.replies[m.base].text, m.replies[m.rival].text
    found = [(base, rival), (rival, base)]
    if m.own is not None:
        found += _both(m.own[0], m.own[0], m.own[1].text)
    for edited in m.edited.values():
        if edited is not None:
            found += [*_both(*edited, base), *_both(*edited, rival)]
    return found


def _both(first: Response, second: Response, other: str) -> list[tuple[str, str]]:
    return [(first.text, other), (other, second.text)]


def _next_preferred(answers: Any) -> float:
    first: Scored = next(answers)
    second: Scored = next(answers)
    return _preferred(first.reward, second.reward)


def _preferred(first: float, second: float) -> float:
    """Return P(a is better) - 0.5, averaged over both orders: a shown first, and a shown second."""
    return (first + 1.0 - second) / 2.0 - 0.5
