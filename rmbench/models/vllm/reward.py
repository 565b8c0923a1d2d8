"""A Hugging Face sequence classifier, run by vLLM, as a reward model.

The texts are tokenised here, by the same formats as `hf`, so that vLLM reads the tokens that `hf` reads. What
it returns may be the logit, or a sigmoid or softmax of it: the switch has had three names, and servers ignore
names that they do not know. So two texts are asked at the start, with the switch on and off (`vllm_probe`).

Whether vLLM returns logits: two texts, asked with the switch for raw logits on and off.

Reward models come out of a pooler that applies a sigmoid (one label) or a softmax (several) unless told not
to. The parameter that tells it was renamed twice, and what does not know a name may ignore it in silence.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Protocol, TypeAlias

from rmbench.errors import ConfigError, ScoringError
from rmbench.models.hf.checkpoint import Checkpoint, Readout, choose_readout
from rmbench.models.hf.load import NoHeadError, is_decoder, torch
from rmbench.models.hf.text import choose_format, read_template
from rmbench.models.hf.tokens import Tokenised, Tokens, scored
from rmbench.models.vllm.engine import Config
from rmbench.types import Conversation, Scored, Turn

Rows: TypeAlias = Sequence[Sequence[int]]
"""Token ids of texts."""
Switch: TypeAlias = Mapping[str, bool]
"""A parameter of a request, by its name; empty for none."""

NAMES = ("use_activation", "activation", "softmax")
"""What the parameter has been called, the latest first."""
_TOLERANCE = 0.01
"""Two passes over one text differ by less, in any dtype; a sigmoid moves a logit by more, but near 0.66."""


def find_switch(classify: Callable[[Rows, Switch], list[list[float]]], rows: Rows, where: str) -> Switch:
    """Return the parameter with which logits are returned.

    It is found where the outputs with it on are the sigmoid or the softmax of those with it off. Where
    nothing changes them, outputs are logits still if one is outside [0, 1]: no probability is.

    Args:
        classify: Returns a number per label and row; raises ScoringError for a parameter it does not know.
        rows: Two texts.
        where: The model, for messages.

    Raises:
        ConfigError: If logits cannot be had, or not be told from probabilities.
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


ADAPTER_VERSION = "1"
"""Raised when any score could change."""
_PROBES = (
    (Turn(role="user", content="Is this a probe?"), Turn(role="assistant", content="It is.")),
    (
        Turn(role="user", content="Say something else."),
        Turn(role="assistant", content="Rain falls on the roofs, and nobody is out in the streets today."),
    ),
)


class Backend(Protocol):
    """Who reads the tokens."""

    max_length: int
    """Tokens of a text."""
    batch_tokens: int
    """Tokens to give it at once."""

    def identity(self) -> Mapping[str, str]:
        """Return whatever can change a score and is known of the model."""
        ...

    def notes(self) -> list[str]:
        """Return what a user should know."""
        ...

    def classify(self, rows: Rows, switch: Switch) -> list[list[float]]:
        """Return a number per label for each row of token ids.

        Raises:
            ScoringError: If it fails.
        """
        ...


class VLLMReward(Tokenised):
    """A classifier that decodes from left to right: its one label, a chosen one, or a weighted sum.

    Args:
        name: In tables.
        backend: Who reads the tokens.
        tokenizer: Of the model.
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
        self.display_name = name
        self._backend, self._readout = backend, readout
        self._format = choose_format(tokenizer, False, chat_template, read_template)
        self.max_length = backend.max_length
        self._tokens = Tokens(self._format, self.max_length, name)
        self._switch: Switch | None = None
        if output == "logit":
            rows = [row.ids for row in self._tokens.encode(_PROBES)]
            self._switch = find_switch(backend.classify, rows, name)

    def fingerprint(self) -> Mapping[str, str]:
        """Return whatever can change a score."""
        return {
            "kind": "vllm",
            "adapter": ADAPTER_VERSION,
            "format": self._format.identity,
            "label": self._readout.identity,
            "max_length": str(self.max_length),
            "output": "any" if self._switch is None else "logit",
            "truncation": "left-keep-bos",
            **self._backend.identity(),
        }

    def joint_length(self, batch: Sequence[Conversation]) -> int:
        """Return the tokens of all: nothing is padded, and candidates of a prompt are best asked together."""
        return sum(self.lengths(batch))

    def batch_tokens(self) -> int:
        """Return how many tokens to give it at once; it makes batches of its own of them."""
        return self._backend.batch_tokens

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return one reward per conversation.

        Raises:
            ScoringError: If vLLM fails.
        """
        if not batch:
            return []
        encoded = self._tokens.encode(batch)
        found = self._backend.classify([row.ids for row in encoded], self._switch or {})
        rewards = self._readout.rewards(torch.tensor(found, dtype=torch.float64))
        return [scored(row, reward) for reward, row in zip(rewards, encoded, strict=True)]

    def notes(self) -> list[str]:
        """Return remarks on the format, the engine and its output."""
        taken = ["vLLM's output is taken as it is: it may be a probability, whose margins are no log-odds"]
        return [*self._format.notes(), *self._backend.notes(), *(taken if self._switch is None else [])]


def classifier_readout(
    checkpoint: Checkpoint, read: Config, label: int | None, weights: str | None
) -> Readout:
    """Return which label of a classifier is the reward.

    Raises:
        NoHeadError: If the config names no classifier.
        ConfigError: If it is an encoder, or none of its labels is the reward.
    """
    config, where = read.config, checkpoint.location
    names = [str(name) for name in getattr(config, "architectures", None) or ()]
    if not any(name.endswith(("ForSequenceClassification", "RewardModel")) for name in names):
        raise NoHeadError(
            f"{where}: its config names {', '.join(names) or 'no architecture'}; expected a classifier"
            " (...ForSequenceClassification)"
        )
    if not is_decoder(config):
        raise ConfigError(f"{where}: {config.model_type} is no decoder; it goes through hf:, not vllm:")
    labels = [str(config.id2label.get(k, k)) for k in range(int(config.num_labels))]
    return choose_readout(where, labels, label, weights)
