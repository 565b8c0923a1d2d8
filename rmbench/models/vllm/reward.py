"""A Hugging Face sequence classifier, run by vLLM, as a reward model.

The texts are tokenised here, by the same formats as `hf`, so that vLLM reads the tokens that `hf` reads.

vLLM's pooler applies a sigmoid (one label) or a softmax (several) to the logits unless a parameter says not
to. The parameter was renamed twice, and a server may ignore a name that it does not know. So `find_switch`
asks two texts at the start, with the parameter on and off, and finds the name that gives logits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeAlias

from rmbench.errors import ConfigError, ScoringError
from rmbench.models.hf.load import torch
from rmbench.models.hf.tokens import TokenModel, Tokens, scored
from rmbench.models.vllm.reading import Reading, check_labels
from rmbench.types import Conversation, Scored, Turn

ADAPTER_VERSION = "1"
"""Raised when any score could change."""
_PROBES = (
    (Turn(role="user", content="Is this a probe?"), Turn(role="assistant", content="It is.")),
    (
        Turn(role="user", content="Say something else."),
        Turn(role="assistant", content="Rain falls on the roofs, and nobody is out in the streets today."),
    ),
)
Rows: TypeAlias = Sequence[Sequence[int]]
"""Token ids of texts."""
Switch: TypeAlias = Mapping[str, bool]
"""A parameter of a request, by its name; empty to send no parameter."""

NAMES = ("use_activation", "activation", "softmax")
"""Names of the parameter, the latest first."""
_TOLERANCE = 0.01
"""Two passes over a text differ by less, in any dtype; a sigmoid moves a logit by more, except near 0.66."""


class Backend(Protocol):
    """Reads tokens with vLLM: in this machine, or behind a server."""

    kind: str
    """What runs the model: `vllm`, `sglang`."""
    switches: Sequence[str]
    """Names that the parameter for logits may have; none where there is no such parameter."""
    max_length: int
    """Tokens of a text."""
    batch_tokens: int
    """Tokens to give it at once."""

    def identity(self) -> Mapping[str, str]:
        """Return the known facts that can change a score."""
        ...

    def notes(self) -> list[str]:
        """Return remarks for the user."""
        ...

    def classify(self, rows: Rows, switch: Switch) -> list[list[float]]:
        """Return a number per label for each row of token ids.

        Raises:
            ScoringError: If it fails.
        """
        ...


class VLLMReward(TokenModel):
    """A classifier that decodes from left to right: its one label, a chosen one, or a weighted sum.

    Args:
        name: Name in tables.
        backend: Reads the tokens.
        reading: How texts are written, and how a reward is made.
        output: As in `load_vllm`.

    Raises:
        ConfigError: If what the backend returns cannot be shown to be logits, one per label.
    """

    def __init__(
        self, name: str, backend: Backend, reading: Reading, output: Literal["logit", "any"]
    ) -> None:
        super().__init__(Tokens(reading.text_format, backend.max_length, name))
        self._backend, self._reading = backend, reading
        self._switch: Switch | None = None
        if output == "logit":
            rows = [reading.sent(row) for row in self.encode(_PROBES)]
            self._switch = find_switch(self._classify, rows, name, backend.switches)

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change a score."""
        recipe = self._reading.recipe
        return {
            "kind": self._backend.kind,
            "adapter": ADAPTER_VERSION,
            "label": self._reading.readout.identity,
            "output": "any" if self._switch is None else "logit",
            **super().fingerprint(),
            **self._backend.identity(),
            **({} if recipe is None else {"recipe": recipe.identity}),
        }

    def joint_length(self, batch: Sequence[Conversation]) -> int:
        """Return the tokens of all: nothing is padded, and candidates of a prompt are best asked together."""
        return sum(self.lengths(batch))

    def batch_tokens(self) -> int:
        """Return how many tokens to give it at once; vLLM cuts them into batches of its own."""
        return self._backend.batch_tokens

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return one reward per conversation.

        Raises:
            ScoringError: If vLLM fails.
        """
        if not batch:
            return []
        rows = self.encode(batch)
        found = self._classify([self._reading.sent(row) for row in rows], self._switch or {})
        rewards = self._reading.rewards(torch.tensor(found, dtype=torch.float64))
        return [scored(row, reward) for reward, row in zip(rewards, rows, strict=True)]

    def notes(self) -> list[str]:
        """Return remarks on the format, the recipe, the engine and its output."""
        taken = ["the output is taken as it is: it may be a probability, whose margins are no log-odds"]
        probe = self.encode(_PROBES[:1])[0]
        own = [*self._reading.notes(probe), *self._backend.notes()]
        return [*super().notes(), *own, *(taken if self._switch is None else [])]

    def _classify(self, rows: Rows, switch: Switch) -> list[list[float]]:
        found = self._backend.classify(rows, switch)
        check_labels(self.display_name, found, self._reading.n_labels)
        return found


def find_switch(
    classify: Callable[[Rows, Switch], list[list[float]]],
    rows: Rows,
    where: str,
    names: Sequence[str] = NAMES,
) -> Switch:
    """Return the parameter with which logits are returned.

    It is the one whose outputs, switched on, are the sigmoid or the softmax of the outputs switched off. If
    no parameter changes them, the outputs are logits if one lies outside [0, 1].

    Args:
        classify: Returns a number per label and row; raises ScoringError for an unknown parameter.
        rows: Some texts.
        where: The model, for messages.
        names: Names that the parameter may have; empty where there is none.

    Raises:
        ConfigError: If no logits are returned, or they cannot be told from probabilities.
    """
    refused, seen = list[str](), list[list[float]]()
    for name in names:
        try:
            off, on = (classify(rows, {name: value}) for value in (False, True))
        except ScoringError as error:
            refused.append(f"{name}: {error}")
            continue
        if any(_close(on, squashed(off)) and not _close(on, off) for squashed in (_sigmoid, _softmax)):
            return {name: False}
        seen = off
    if not names:
        seen = classify(rows, {})
    if not seen:
        raise ConfigError(f"{where}: it refuses every name of the switch for logits: {refused[0]}")
    if any(not 0 <= value <= 1 for row in seen for value in row):
        return {}
    told = "; ".join(", ".join(f"{value:.4g}" for value in row) for row in seen)
    advice = "Give its config problem_type regression, or take" if names else "Take"
    raise ConfigError(
        f"{where}: it returns {told} for {len(seen)} probes, whatever it is told: these may be probabilities,"
        f" whose differences are no margins. {advice} them as they are with -M output=any"
    )


def _close(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    pairs = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    return all(abs(a - b) <= _TOLERANCE for a, b in pairs)


def _sigmoid(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[0.5 * (1 + math.tanh(value / 2)) for value in row] for row in rows]


def _softmax(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    shifted = [[math.exp(value - max(row)) for value in row] for row in rows]
    return [[value / sum(row) for value in row] for row in shifted]
