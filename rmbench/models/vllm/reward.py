"""A Hugging Face sequence classifier, run by vLLM, as a reward model.

The texts are tokenised here, by the same formats as `hf`, so that vLLM reads the tokens that `hf` reads.

vLLM's pooler applies a sigmoid (one label) or a softmax (several) to the logits unless a parameter says not
to. The parameter was renamed twice, and a server may ignore a name that it does not know. So `find_switch`
asks two texts at the start, with the parameter on and off, and finds the name that gives logits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from rmbench.errors import ConfigError, ScoringError
from rmbench.models.hf.checkpoint import (
    Checkpoint,
    Readout,
    architectures,
    choose_readout,
    label_names,
)
from rmbench.models.hf.load import NoHeadError, is_decoder, torch
from rmbench.models.hf.recipes.heads import unread_heads
from rmbench.models.hf.recipes.recipe import Asked, choose_recipe, look_at
from rmbench.models.hf.recipes.tensors import told
from rmbench.models.hf.text import decoder_format
from rmbench.models.hf.tokens import TokenModel, Tokens, scored
from rmbench.models.runtime import Runtime
from rmbench.models.vllm.engine import Config
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
        tokenizer: The model's tokenizer.
        readout: Which label is the reward.
        chat_template: As in `load_vllm`.
        output: As in `load_vllm`.

    Raises:
        ConfigError: If what the backend returns cannot be shown to be logits.
    """

    def __init__(
        self,
        name: str,
        backend: Backend,
        tokenizer: Any,
        readout: Readout,
        chat_template: str,
        output: Literal["logit", "any"],
    ) -> None:
        super().__init__(Tokens(decoder_format(tokenizer, chat_template), backend.max_length, name))
        self._backend, self._readout = backend, readout
        self._switch: Switch | None = None
        if output == "logit":
            self._switch = find_switch(backend.classify, [row.ids for row in self.encode(_PROBES)], name)

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change a score."""
        return {
            "kind": "vllm",
            "adapter": ADAPTER_VERSION,
            "label": self._readout.identity,
            "output": "any" if self._switch is None else "logit",
            **super().fingerprint(),
            **self._backend.identity(),
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
        found = self._backend.classify([row.ids for row in rows], self._switch or {})
        rewards = self._readout.rewards(torch.tensor(found, dtype=torch.float64))
        return [scored(row, reward) for reward, row in zip(rewards, rows, strict=True)]

    def notes(self) -> list[str]:
        """Return remarks on the format, the engine and its output."""
        taken = ["vLLM's output is taken as it is: it may be a probability, whose margins are no log-odds"]
        return [*super().notes(), *self._backend.notes(), *(taken if self._switch is None else [])]


def classifier_readout(
    checkpoint: Checkpoint, read: Config, label: int | None, weights: str | None
) -> Readout:
    """Return which label of a classifier is the reward.

    Raises:
        NoHeadError: If the config names no classifier.
        ConfigError: If it is an encoder, or none of its labels is the reward.
    """
    config, where = read.config, checkpoint.location
    names = architectures(config)
    if not any(name.endswith(("ForSequenceClassification", "RewardModel")) for name in names):
        raise NoHeadError(
            f"{where}: its config names {', '.join(names) or 'no architecture'}; expected a classifier"
            " (...ForSequenceClassification)"
        )
    if not is_decoder(config):
        raise ConfigError(f"{where}: {config.model_type} is no decoder; it goes through hf:, not vllm:")
    if checkpoint.is_folder:
        seen = look_at(read.pin, Runtime(), config, read.tokenizer)
        recipe, _ = choose_recipe(Asked(), lambda: seen)
        unread = unread_heads(seen, frozenset({"score.weight"}))
        if recipe is not None or unread:
            has = f"its files have {told(seen.tensors, unread)}"
            why = has if recipe is None else f"the recipe {recipe.name} reads it"
            raise ConfigError(f"{where}: {why}, which vLLM does not do; load it with hf:")
    return choose_readout(where, label_names(config), label, weights)


def find_switch(classify: Callable[[Rows, Switch], list[list[float]]], rows: Rows, where: str) -> Switch:
    """Return the parameter with which logits are returned.

    It is the one whose outputs, switched on, are the sigmoid or the softmax of the outputs switched off. If
    no parameter changes them, the outputs are logits if one lies outside [0, 1].

    Args:
        classify: Returns a number per label and row; raises ScoringError for an unknown parameter.
        rows: Two texts.
        where: The model, for messages.

    Raises:
        ConfigError: If vLLM returns no logits, or they cannot be told from probabilities.
    """
    refused, seen = list[str](), list[list[float]]()
    for name in NAMES:
        try:
            off, on = (classify(rows, {name: value}) for value in (False, True))
        except ScoringError as error:
            refused.append(f"{name}: {error}")
            continue
        if any(_close(on, squashed(off)) and not _close(on, off) for squashed in (_sigmoid, _softmax)):
            return {name: False}
        seen = off
    if not seen:
        raise ConfigError(f"{where}: vLLM refuses every name of the switch for logits: {refused[0]}")
    if any(not 0 <= value <= 1 for row in seen for value in row):
        return {}
    told = "; ".join(", ".join(f"{value:.4g}" for value in row) for row in seen)
    raise ConfigError(
        f"{where}: vLLM returns {told} for two probes, whatever it is told: these may be probabilities, whose"
        " differences are no margins. Give its config problem_type regression, or take them as they are with"
        " -M output=any"
    )


def _close(one: Sequence[Sequence[float]], other: Sequence[Sequence[float]]) -> bool:
    pairs = [(a, b) for x, y in zip(one, other, strict=True) for a, b in zip(x, y, strict=True)]
    return all(abs(a - b) <= _TOLERANCE for a, b in pairs)


def _sigmoid(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    return [[0.5 * (1 + math.tanh(value / 2)) for value in row] for row in rows]


def _softmax(rows: Sequence[Sequence[float]]) -> list[list[float]]:
    shifted = [[math.exp(value - max(row)) for value in row] for row in rows]
    return [[value / sum(row) for value in row] for row in shifted]
