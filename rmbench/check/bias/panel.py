"""The bias panel: each bias with its effect, interval, corrected p-value and the smallest effect shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from rmbench.check.bias.asked import POSITION, SELF, Effects, ask, pairs_of
from rmbench.check.bias.matched import Matched, check_own, match
from rmbench.core.digits import significant
from rmbench.edits import Edit
from rmbench.errors import ConfigError
from rmbench.scoring import Meter, PartStores, Progress, ScoreStore
from rmbench.stats import Statistic, Tested, holm, mean
from rmbench.stats.compare import compare_paired
from rmbench.types import AnyModel, Estimate, Item, PairwiseModel, PrecomputedRewards

_ONE_REPLY = "not applicable: the model reads one reply at a time"
_LIMITS = (-0.5, 0.5)


@dataclass(frozen=True, slots=True)
class BiasRow:
    """One bias, or one edit that tests it."""

    bias: str
    """`position`, `length`, `markdown`, `authority`, `verdict`, `self-preference`."""
    test: str
    """Name of the edit; of the comparison where there is none."""
    summary: str
    tested: Tested | None
    """Effect with its test, in the panel's unit; positive: the model favours what the bias names."""
    flips: Estimate | None
    """Share of items whose order changes: of the base reply and its rival, by the edit; of position, by the
    order shown."""
    n_pairs: int
    """Matched pairs measured."""
    n_unchanged: int
    """Replies that the edit does not change; left out."""
    n_invalid: int
    """Pairs to which the model gave no answer; left out."""
    why: str = ""
    """Why there is no effect."""

    @property
    def finding(self) -> str:
        """The verdict in words."""
        if self.tested is None:
            return self.why
        if self.tested.paired.p_value is None:
            return "no test"
        if not self.tested.told_apart:
            return "none found"
        favoured = self.tested.paired.difference.value > 0.0
        if self.bias == POSITION:
            return "favours the first" if favoured else "favours the second"
        return "favours it" if favoured else "against it"

    @property
    def smallest(self) -> float | None:
        """Smallest effect that is found with probability 80%, at 5% over all tests; None: not known."""
        return None if self.tested is None else self.tested.smallest()


@dataclass(frozen=True, slots=True, kw_only=True)
class BiasPanel:
    """All biases of one model on one set of items."""

    pairwise: bool
    rows: tuple[BiasRow, ...]
    spread: float | None
    """Of a reward model: the unit of effects, in rewards. None for a pairwise model, or if nothing varies."""
    n_spread: int
    """Items that it is from."""
    n_items: int
    """Items measured."""
    left_out: Mapping[str, int]
    """Reason -> items left out."""
    n_texts: int
    """Distinct texts, or ordered pairs, that the model was asked about."""
    n_computed: int
    """Those that it answered now; the store had the others."""
    n_truncated: int | None
    """Texts (or questions) that were cut to fit; None: the model does not say."""
    unanswered: Mapping[str, int]
    """Reason -> questions without an answer."""
    used: Mapping[str, float] | None
    """What a metered model took."""

    @property
    def unit(self) -> str:
        """Unit of effects."""
        return "P(better) - 0.5" if self.pairwise else "sd of rewards within prompts"

    @property
    def n_tests(self) -> int:
        """Tests that Holm's correction is over."""
        return sum(r.tested is not None and r.tested.paired.p_value is not None for r in self.rows)


def most_questions(model: AnyModel, items: Sequence[Item], edits: Sequence[Edit], *, seed: int) -> int:
    """Return the most questions that the panel asks a model, those that a store has answered among them."""
    pairwise = isinstance(model, PairwiseModel)
    matched, _ = match(items, edits, seed=seed, own=None, pairwise=pairwise)
    if pairwise:
        return sum(len(pairs_of(m)) for m in matched)
    return sum(len(m.replies) + sum(e is not None for e in m.edited.values()) for m in matched)


def measure_bias(
    model: AnyModel,
    items: Sequence[Item],
    edits: Sequence[Edit],
    store: ScoreStore | PartStores,
    *,
    seed: int = 0,
    own: str | None = None,
    batch_tokens: int | None = None,
    progress: Progress | None = None,
) -> BiasPanel:
    """Return the bias panel of a model.

    Args:
        model: A reward model or a pairwise model.
        items: With two replies or more each; clustered by `Item.cluster`.
        edits: Each is one test.
        store: Score store of the model's fingerprint.
        seed: Draws the replies of each item.
        own: The generator (`tags.generator`) that is the model's own; None: no self-preference.
        batch_tokens: Most tokens of a batch.
        progress: Gets the progress.

    Raises:
        ConfigError: If the model's rewards are from a file, no item is left, or `own` names no generator.
        ScoringError: If the model breaks its contract.
    """
    refuse_precomputed(model)
    no_self = check_own(own, items)
    pairwise = isinstance(model, PairwiseModel)
    matched, left_out = match(items, edits, seed=seed, own=own, pairwise=pairwise)
    if not matched:
        raise ConfigError(
            f"no item of {len(items):,} has two different replies that are not empty; expected items with"
            " two replies or more"
        )
    if own is not None and not any(m.own for m in matched):
        no_self = f"not measured: no prompt has a reply of {own} and one of another generator at equal gold"
    meter = Meter(model)
    effects = ask(model, matched, store, batch_tokens=batch_tokens, progress=progress)
    rows = [_position(effects, matched, pairwise=pairwise)]
    rows += [_edit_row(edit, effects, matched, pairwise=pairwise) for edit in edits]
    rows.append(_self(effects, matched, own, no_self, pairwise=pairwise))
    return BiasPanel(
        pairwise=pairwise, rows=tuple(_family(rows)), spread=effects.spread, n_spread=effects.n_spread,
        n_items=len(matched), left_out=left_out, n_texts=effects.n_units, n_computed=effects.n_computed,
        n_truncated=effects.n_truncated,
        unanswered={k: n for k, n in {**(meter.unanswered() or {}), **effects.unanswered}.items() if n},
        used=meter.used(),
    )  # fmt: skip


def refuse_precomputed(model: AnyModel) -> None:
    """Raise ConfigError for rewards from a file: edited texts have none."""
    if isinstance(model, PrecomputedRewards):
        raise ConfigError(
            "rewards from a file cannot tell how the model scores an edited reply; give the model itself with"
            " --model"
        )


def _position(effects: Effects, matched: Sequence[Matched], *, pairwise: bool) -> BiasRow:
    summary = "Two replies in both orders: P(the first is better)."
    if not pairwise:
        return BiasRow(POSITION, POSITION, summary, None, None, 0, 0, 0, _ONE_REPLY)
    return _row(POSITION, POSITION, summary, POSITION, effects, matched, 0, pairwise=True)


def _self(
    effects: Effects, matched: Sequence[Matched], own: str | None, why: str, *, pairwise: bool
) -> BiasRow:
    if why or own is None:
        summary = "Replies of the model's own generator against others of equal gold."
        return BiasRow(SELF, SELF, summary, None, None, 0, 0, 0, why)
    summary = f"Replies of {own} against others of equal gold."
    return _row(SELF, SELF, summary, SELF, effects, matched, 0, pairwise=pairwise)


def _edit_row(edit: Edit, effects: Effects, matched: Sequence[Matched], *, pairwise: bool) -> BiasRow:
    n_unchanged = sum(m.edited[edit.name] is None for m in matched)
    return _row(
        edit.bias, edit.name, edit.summary, edit.name, effects, matched, n_unchanged, pairwise=pairwise
    )


def _row(
    bias: str,
    test: str,
    summary: str,
    key: str,
    effects: Effects,
    matched: Sequence[Matched],
    n_unchanged: int,
    *,
    pairwise: bool,
) -> BiasRow:
    values = np.array(effects.effect.get(key, ()), dtype=np.float64)
    valid = np.isfinite(values)
    n_invalid = int((~valid).sum())
    if not valid.any():
        why = "no answer to any pair" if n_invalid else "the edit changes no reply"
        return BiasRow(bias, test, summary, None, None, 0, n_unchanged, n_invalid, why)
    if not pairwise and effects.spread is None:
        moved = float(values[valid].mean())
        why = (
            f"no unit: all replies to a prompt have one reward; the edit adds {significant(moved)} on average"
        )
        return BiasRow(bias, test, summary, None, None, int(valid.sum()), n_unchanged, n_invalid, why)
    clusters = [matched[k].item.cluster for k in effects.item[key]]
    scaled = values if effects.spread is None else values / effects.spread
    statistic = _mean(scaled, valid, clusters, bounded=False)
    paired = replace(statistic, paired=True, limits=_LIMITS if pairwise else None)
    flipped = np.array(effects.flipped[key], dtype=np.float64)
    known = np.isfinite(flipped)
    flips = _mean(flipped, known, clusters, bounded=True).estimate() if known.any() else None
    tested = Tested(compare_paired(paired), 1, None)
    return BiasRow(bias, test, summary, tested, flips, int(valid.sum()), n_unchanged, n_invalid)


def _mean(values: np.ndarray, keep: np.ndarray, clusters: Sequence[str], *, bounded: bool) -> Statistic:
    """Return the mean of the values where `keep` is true, clustered."""
    names = [name for name, kept in zip(clusters, keep, strict=True) if kept]
    _, place = np.unique(np.array(names, dtype=object), return_inverse=True)
    return mean(
        values[keep], place.astype(np.int64), int(place.max()) + 1, higher_is_better=None, bounded=bounded
    )


def _family(rows: Sequence[BiasRow]) -> list[BiasRow]:
    """Return the rows with p-values corrected over all tests of the panel."""
    tests = [row.tested for row in rows if row.tested is not None]
    p_values = [test.paired.p_value for test in tests if test.paired.p_value is not None]
    adjusted = iter(holm(p_values))
    found = []
    for row in rows:
        if row.tested is not None:
            p = None if row.tested.paired.p_value is None else next(adjusted)
            row = replace(row, tested=replace(row.tested, n_tests=len(p_values), p_holm=p))
        found.append(row)
    return found
