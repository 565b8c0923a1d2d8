"""Checks of rewards through the engine, in another dtype, and token by token.

The last need hooks of the adapter, such as those of `rmbench.models.hf.classifier`.
"""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from rmbench.check.contract import (
    ANSWERS,
    ContractError,
    Outcome,
    Subject,
    long_text,
    padding_invariance,
    probes,
)
from rmbench.core.digits import significant
from rmbench.scoring import open_store, score_items
from rmbench.types import Conversation, Item, PairwiseModel, Response, RewardModel, SharingModel, Turn

PROMPTS = ("What is the capital of France?", "Tell me about Paris. " + long_text(400), "Hello.")


@runtime_checkable
class RecastableModel(Protocol):
    """Optional: a model that can be copied into another dtype."""

    def recast(self, dtype: str) -> RewardModel:
        """Return a copy of the model in `dtype`, `float32` or `bfloat16`."""
        ...


def exactness(subject: Subject) -> Outcome:
    """Compare rewards through the engine with rewards of one conversation at a time."""
    if isinstance(subject.model, PairwiseModel):
        return None, "not applicable: a pairwise model is asked about pairs"
    items = _items()
    try:
        with tempfile.TemporaryDirectory() as folder, open_store(Path(folder), {"kind": "check"}) as store:
            scoring = score_items(subject.model, items, store)
    except Exception as error:
        raise ContractError(f"raised {type(error).__name__}: {error}") from error
    together = [list(row) for row in scoring.rewards]
    n = len(ANSWERS)
    flat = subject.ask_alone([item.conversation(k) for item in items for k in range(n)])
    apart = [flat[start : start + n] for start in range(0, len(flat), n)]
    passed, detail = subject.same(flat, [x for row in together for x in row], "alone and through the engine")
    return passed, f"{detail}; {_flips(apart, together)}; {_shared(subject, items)}"


def other_dtype(subject: Subject) -> Outcome:
    """Report how far bfloat16 changes rewards (float32, if the model is in half precision)."""
    model = subject.model
    if not isinstance(model, RecastableModel):
        return None, "not applicable: the model has no other dtype"
    own = str(model.fingerprint().get("dtype"))
    other = "bfloat16" if own == "float32" else "float32"
    items = _items()
    asked = [item.conversation(k) for item in items for k in range(len(ANSWERS))]
    try:
        recast = Subject(model.recast(other), subject.tolerance, subject.long_chars)
    except Exception as error:
        raise ContractError(f"recast({other!r}) raised {type(error).__name__}: {error}") from error
    here, there, n = subject.ask(asked), recast.ask(asked), len(ANSWERS)
    rows = [[values[k : k + n] for k in range(0, len(values), n)] for values in (here, there)]
    gap = max(abs(a - b) for a, b in zip(here, there, strict=True))
    spread = max(max(row) - min(row) for row in rows[0])
    return None, (
        f"for information: {other} in place of {own} changes rewards by up to {gap:.2g}, where responses to"
        f" one prompt are up to {spread:.2g} apart; {_flips(*rows)}"
    )


def _items() -> list[Item]:
    return [
        Item(
            id=f"check-{k}",
            prompt=(Turn(role="user", content=prompt),),
            responses=tuple(Response(text) for text in ANSWERS),
            cluster=f"check-{k}",
        )
        for k, prompt in enumerate(PROMPTS)
    ]


def _flips(left: Sequence[Sequence[float]], right: Sequence[Sequence[float]]) -> str:
    """Return how many pairs of responses to one prompt change their order."""
    n_flips = n_pairs = 0
    for a, b in zip(left, right, strict=True):
        for i, j in combinations(range(len(a)), 2):
            n_pairs += 1
            n_flips += (a[i] > a[j]) != (b[i] > b[j]) or (a[i] < a[j]) != (b[i] < b[j])
    return f"{n_flips} of {n_pairs} pairs change their order"


def _shared(subject: Subject, items: Sequence[Item]) -> str:
    model = subject.model
    if not isinstance(model, SharingModel):
        return "prompts are not shared"
    candidates = [items[1].conversation(k) for k in range(len(ANSWERS))]
    joint = model.joint_length(candidates)
    if joint is None:
        return "prompts are not shared"
    alone = sum(model.joint_length([turns]) or 0 for turns in candidates)
    return f"{len(candidates)} candidates of a prompt are {joint} tokens together, {alone} apart"


@runtime_checkable
class DiagnosableModel(Protocol):
    """Optional: an adapter that reports how it reads one conversation, token by token."""

    def diagnose(self, conversation: Conversation) -> Mapping[str, Any]:
        """Return any of `double_bos`, `eos_seen`, `pad_is_eos`, `read_at`, `own_forward_gap`; None: n/a."""
        ...


def _double_bos(value: Any, _seen: Mapping[str, Any], _subject: Subject) -> Outcome:
    return not value, "the text begins with two BOS tokens" if value else "one BOS at most"


def _eos_seen(value: Any, seen: Mapping[str, Any], _subject: Subject) -> Outcome:
    where = f"the reward is read at {seen.get('read_at')!r}"
    return bool(value), f"EOS after the response; {where}" if value else f"no EOS; {where}"


def _pad_is_eos(value: Any, seen: Mapping[str, Any], subject: Subject) -> Outcome:
    passed, detail = padding_invariance(subject)
    if not value:
        return passed, "padding is a token of its own"
    own = seen.get("own_read_at")
    differs = own is not None and own != seen.get("read_at")
    aside = f"; transformers' own forward pass would read at {own!r}" if differs else ""
    return passed, f"padding is EOS; read by mask at {seen.get('read_at')!r}{aside}; {detail}"


def _own_forward(value: Any, _seen: Mapping[str, Any], subject: Subject) -> Outcome:
    return value <= subject.tolerance, f"difference {value:.1e} (allowed {subject.tolerance:.0e})"


_TOKEN_CHECKS: dict[str, Callable[[Any, Mapping[str, Any], Subject], Outcome]] = {
    "double_bos": _double_bos,
    "eos_seen": _eos_seen,
    "pad_is_eos": _pad_is_eos,
    "own_forward_gap": _own_forward,
}


def diagnosed(key: str) -> Callable[[Subject], Outcome]:
    """Return the check of one key of `diagnose`."""

    def check(subject: Subject) -> Outcome:
        if not isinstance(subject.model, DiagnosableModel):
            return None, "not applicable: the model does not show its tokens"
        try:
            seen = subject.model.diagnose(probes()[0])
        except Exception as error:
            raise ContractError(f"diagnose() raised {type(error).__name__}: {error}") from error
        value = seen.get(key)
        if value is None:
            return None, "not applicable here"
        return _TOKEN_CHECKS[key](value, seen, subject)

    return check


class CardExample(Protocol):
    """What a model's card states of some replies to one prompt."""

    rewards: tuple[float, ...]
    """Of the replies, in order."""
    source: str
    """Where they are stated."""


@runtime_checkable
class CardModel(Protocol):
    """Optional: an adapter that knows an example of the card of models that are read like this one."""

    def card_example(self) -> tuple[CardExample, Sequence[float]] | None:
        """Return the example and the model's own rewards of it; None if there is none."""
        ...


def card_example(subject: Subject) -> Outcome:
    """Show the rewards that a card states beside the model's own: another model of the family has others."""
    if not isinstance(subject.model, CardModel):
        return None, "not applicable: no card states rewards"
    try:
        found = subject.model.card_example()
    except Exception as error:
        raise ContractError(f"card_example() raised {type(error).__name__}: {error}") from error
    if found is None:
        return None, "not applicable: no card states rewards"
    example, own = found
    stated, here = (", ".join(significant(x) for x in each) for each in (example.rewards, own))
    return None, (
        f"for information: this model gives {here}, where the {example.source} states {stated}; expected of"
        " that very model only"
    )
