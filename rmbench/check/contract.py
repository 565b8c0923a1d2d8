"""Checks of the contract: fingerprint, score (or prefer), lengths.

The model under test and the conversations that the checks ask are here too.
"""

import math
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from rmbench.core.digits import significant
from rmbench.types import (
    AnyModel,
    Conversation,
    Pair,
    PairwiseModel,
    RewardModel,
    Scored,
    SizedModel,
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


def fingerprint(subject: Subject) -> Outcome:
    """Ask for the fingerprint twice."""
    try:
        first, second = dict(subject.model.fingerprint()), dict(subject.model.fingerprint())
    except Exception as error:
        raise ContractError(f"fingerprint() raised {type(error).__name__}: {error}") from error
    if not first or not all(isinstance(x, str) for pair in first.items() for x in pair):
        return False, f"fingerprint() is {first!r:.80}; expected text to text, not empty"
    if first != second:
        changed = sorted(k for k in first | second if first.get(k) != second.get(k))
        return False, f"fingerprint() changed between two calls: {', '.join(changed)}"
    return True, f"{len(first)} keys: {', '.join(sorted(first))}"


def count_and_range(subject: Subject) -> Outcome:
    """Ask a batch and an empty batch."""
    rewards = subject.ask(probes())
    if isinstance(subject.model, PairwiseModel) and not all(0 <= x <= 1 for x in rewards):
        return False, f"preferences from {min(rewards):.3g} to {max(rewards):.3g}; expected [0, 1]"
    if subject.ask([]):
        return False, "an empty batch got rewards"
    return True, f"{len(rewards)} finite numbers, from {min(rewards):.4g} to {max(rewards):.4g}"


def order(subject: Subject) -> Outcome:
    """Ask a batch in reverse."""
    asked = probes()
    return subject.same(subject.ask(asked), subject.ask(asked[::-1])[::-1], "asked in reverse order")


def deterministic(subject: Subject) -> Outcome:
    """Ask a batch twice."""
    return subject.same(subject.ask(probes()), subject.ask(probes()), "asked twice")


def batch_invariance(subject: Subject) -> Outcome:
    """Ask each conversation alone, and all together."""
    asked = probes()
    return subject.same(subject.ask_alone(asked), subject.ask(asked), f"alone and in a batch of {len(asked)}")


def padding_invariance(subject: Subject) -> Outcome:
    """Ask short conversations alone, and in a batch with a long one."""
    asked = probes()
    long = chat("Tell me all.", long_text(1_000))
    beside = subject.ask([long, *asked])[1:]
    return subject.same(subject.ask_alone(asked), beside, "alone and beside a long one")


def input_untouched(subject: Subject) -> Outcome:
    """Compare the conversations before and after the model reads them."""
    asked = [[Turn(role=t["role"], content=t["content"]) for t in c] for c in probes()]
    copies = deepcopy(asked)
    subject.ask(asked, copy=False)
    same = asked == copies
    return same, "the conversations are as they were" if same else "the model changed the conversations"


def short_responses(subject: Subject) -> Outcome:
    """Ask for empty responses and responses of one character."""
    rewards = subject.ask([chat("Say nothing.", text) for text in ("", "a", " ", "\n")])
    return True, f"empty {significant(rewards[0])}, one letter {significant(rewards[1])}"


def long_response(subject: Subject) -> Outcome:
    """Ask for a response longer than most limits."""
    reward = subject.ask([chat("Tell me all.", long_text(subject.long_chars))])[0]
    return True, f"{subject.long_chars:,} characters: {reward:.4g}"


def long_prompt(subject: Subject) -> Outcome:
    """Compare two responses to a prompt longer than most limits."""
    prompt = long_text(subject.long_chars) + " What is the capital of France?"
    rewards = subject.ask_alone([chat(prompt, answer) for answer in ANSWERS[:2]])
    short = subject.ask_alone(probes()[:2])
    if short[0] == short[1]:
        return None, "not applicable: these responses tie after a short prompt too"
    seen = rewards[0] != rewards[1]
    return seen, f"two responses to {len(prompt):,} characters: {rewards[0]:.6g} and {rewards[1]:.6g}"


def unicode(subject: Subject) -> Outcome:
    """Ask for texts of unusual characters."""
    try:
        subject.ask([chat(text, text) for text in ODD_TEXTS.values()])
    except ContractError:
        for name, text in ODD_TEXTS.items():  # find the one that fails
            try:
                subject.ask([chat(text, text)])
            except ContractError as failure:
                return False, f"{name}: {failure}"
        raise
    return True, ", ".join(ODD_TEXTS)


def roles(subject: Subject) -> Outcome:
    """Ask for a conversation with a system message and one of several turns."""
    turns = list(probes()[0])
    system = Turn(role="system", content="Answer like a pirate.")
    more = [Turn(role="user", content="Hello."), Turn(role="assistant", content="Hello, how can I help?")]
    for name, conversation in (("system message", [system, *turns]), ("several turns", [*more, *turns])):
        try:
            subject.ask([conversation])
        except ContractError as failure:
            return False, f"{name}: {failure}"
    return True, "system message, several turns"


def tells_apart(subject: Subject) -> Outcome:
    """Look for a model that gives every response the same reward."""
    rewards = subject.ask(probes())
    n = len(set(rewards))
    return n > 1, f"{n} different rewards for {len(rewards)} different responses"


def prompt_sensitivity(subject: Subject) -> Outcome:
    """Report how far the prompt changes the reward of one response."""
    answer = ANSWERS[0]
    prompts = ("What is the capital of France?", "Write a poem about a cat.", "2 + 2 = ?")
    rewards = subject.ask([chat(prompt, answer) for prompt in prompts])
    spread = max(rewards) - min(rewards)
    verb = "changes" if spread > 0 else "does not change"
    return None, f"for information: the prompt {verb} the reward of the same response (by {spread:.4g})"


def token_counts(subject: Subject) -> Outcome:
    """Compare `lengths` with the token counts of `score`."""
    model = subject.model
    if not isinstance(model, SizedModel) or not isinstance(model, RewardModel):
        return None, "not applicable: the model does not count tokens"
    asked = probes()
    try:
        lengths, scored = list(model.lengths(asked)), model.score(asked)
    except Exception as error:
        raise ContractError(f"raised {type(error).__name__}: {error}") from error
    if len(lengths) != len(asked) or not all(isinstance(n, int) and n > 0 for n in lengths):
        return False, f"lengths() returned {lengths}; expected {len(asked)} positive whole numbers"
    counted = [x.n_tokens if isinstance(x, Scored) else None for x in scored]
    if any(n is not None and n != length for n, length in zip(counted, lengths, strict=True)):
        return False, f"lengths() says {lengths}, score() says {counted}"
    return True, f"{min(lengths)} to {max(lengths)} tokens, as scored"


def order_bias(subject: Subject) -> Outcome:
    """Report how many preferences of a pairwise model follow the order."""
    model = subject.model
    if not isinstance(model, PairwiseModel):
        return None, "not applicable: no pairwise model"
    prompt = tuple(probes()[0][:-1])
    pairs = [(a, b) for a in ANSWERS for b in ANSWERS if a < b]
    forward, backward = (
        [float(x.reward if isinstance(x, Scored) else x) for x in model.prefer(asked)]
        for asked in ([Pair(prompt, a, b) for a, b in pairs], [Pair(prompt, b, a) for a, b in pairs])
    )
    flips = sum((f - 0.5) * (0.5 - b) < 0 for f, b in zip(forward, backward, strict=True))
    return None, f"for information: {flips} of {len(pairs)} preferences flip with the order"
