"""The model under test, and the conversations that the checks ask."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rmbench.types import (
    AnyModel,
    Conversation,
    Pair,
    PairwiseModel,
    Scored,
    Turn,
)

TOLERANCE = {"float32": 1e-4, "bfloat16": 2e-1, "float16": 5e-2}
"""dtype of the fingerprint (float32 if it names no dtype) -> allowed difference between two ways to ask the
same, as a fraction of the largest reward."""

REFERENCE = "I do not know."
"""The response that a pairwise model compares every other with."""

ANSWERS = (
    "Paris is the capital of France.",
    "The capital is Lyon, I think, although I have never been there and somebody told me otherwise once.",
    "No.",
    "- Paris\n- since 987\n- on the Seine",
)
ODD_TEXTS = {
    "emoji": "\U0001f469\U0001f3fd\u200d\U0001f680 done \U0001f44d\U0001f3fe",
    "right-to-left": "\u202e\u0645\u0631\u062d\u0628\u0627 \u05e9\u05dc\u05d5\u05dd\u202c",
    "line separators": "one\u2028two\u2029three\x85four\r\nfive\x0bsix",
    "control characters": "bell\x07 escape\x1b[31m backspace\x08 delete\x7f",
    "combining marks": "Z" + "\u0335\u0321\u0357" * 20,
    "replacement and private use": "\ufffd \ue000 \ufeff",
}


class ContractError(Exception):
    """The model raised, or its answer breaks the contract."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model under test. A scoring and a comparing model are asked by the same method."""

    model: AnyModel
    tolerance: float
    long_chars: int
    _alone: dict[tuple[tuple[str, str], ...], float] = field(default_factory=dict)

    def ask(self, batch: Sequence[Conversation], *, copy: bool = True) -> list[float]:
        """Return one number per conversation; raise ContractError if the model breaks its contract."""
        if copy:  # a model that changes its input must not change the input of the next check
            batch = [[Turn(role=turn["role"], content=turn["content"]) for turn in turns] for turns in batch]
        try:
            if isinstance(self.model, PairwiseModel):
                pairs = [Pair(tuple(c[:-1]), c[-1]["content"], REFERENCE) for c in batch]
                raw: Sequence[Any] = self.model.prefer(pairs)
            else:
                raw = self.model.score(batch)  # type: ignore[union-attr]  # precomputed rewards are not asked
        except Exception as error:
            raise ContractError(f"raised {type(error).__name__}: {error}") from error
        try:
            rewards = [float(x.reward if isinstance(x, Scored) else x) for x in raw]
            reasons = [x.why for x in raw if isinstance(x, Scored) and x.why]
        except (TypeError, ValueError) as error:
            raise ContractError(f"returned no sequence of numbers: {error}") from error
        if len(rewards) != len(batch):
            raise ContractError(f"returned {len(rewards)} rewards for {len(batch)} conversations")
        if bad := [x for x in rewards if not math.isfinite(x)]:
            why = f" ({reasons[0]})" if reasons else ""
            raise ContractError(f"returned {bad[0]} for {len(bad)} of {len(batch)} conversations{why}")
        return rewards

    def ask_alone(self, batch: Sequence[Conversation]) -> list[float]:
        """Return one number per conversation, each asked once, in a batch of its own."""
        for turns in batch:
            key = tuple((turn["role"], turn["content"]) for turn in turns)
            if key not in self._alone:
                self._alone[key] = self.ask([turns])[0]
        return [self._alone[tuple((turn["role"], turn["content"]) for turn in turns)] for turns in batch]

    def gap(self, left: Sequence[float], right: Sequence[float]) -> float:
        """Return the largest difference, as a fraction of the largest reward (at least 0.1)."""
        scale = max(0.1, *(abs(x) for x in (*left, *right)))
        return max(abs(a - b) for a, b in zip(left, right, strict=True)) / scale

    def same(self, left: Sequence[float], right: Sequence[float], what: str) -> tuple[bool, str]:
        """Return whether the gap is allowed, and the gap in words."""
        gap = self.gap(left, right)
        return gap <= self.tolerance, f"{what}: largest difference {gap:.1e} (allowed {self.tolerance:.0e})"


Outcome: TypeAlias = tuple[bool | None, str]
"""(passed, or None if the check does not apply; the measurement in words)."""


def chat(prompt: str, response: str) -> tuple[Turn, ...]:
    """Return a conversation of one question and one answer."""
    return Turn(role="user", content=prompt), Turn(role="assistant", content=response)


def probes() -> list[tuple[Turn, ...]]:
    """Return four answers of different lengths to one question."""
    return [chat("What is the capital of France?", answer) for answer in ANSWERS]


def long_text(n_chars: int) -> str:
    """Return a text of `n_chars` characters that does not repeat within a few hundred words."""
    words = "the quick brown fox counts and walks over a long bridge to town".split()  # noqa: SIM905
    n_words = n_chars // 3
    return " ".join(words[(k * k + k // 3) % len(words)] for k in range(n_words))[:n_chars].ljust(
        n_chars, "."
    )
