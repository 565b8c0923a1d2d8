"""log pi(reply | prompt) of one language model, as a part of rewards.

It is what implicit rewards are made of, and all that costs a forward pass: stored by itself, a reference is
read once for all policies that were trained from it, and another beta costs nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rmbench.models.hf_checkpoint import Checkpoint, weights_identity
from rmbench.models.hf_limits import tokens_at_once
from rmbench.models.hf_logprobs import LogProbs
from rmbench.models.hf_reply import reply_of
from rmbench.models.hf_tokens import Tokenised, Tokens, scored
from rmbench.types import Conversation, Scored

VERSION = "2"
"""Raised when any log-probability could change."""


class ReplyLogProb(Tokenised):
    """A model of rewards whose number for a conversation is the log-probability of its last turn, in nats.

    Args:
        checkpoint: Where the language model is.
        logprobs: The language model.
        tokens: What it reads; shared with the other parts of a reward.
        reading: What of that can change a number: format, tokenizer, length.
    """

    def __init__(
        self, checkpoint: Checkpoint, logprobs: LogProbs, tokens: Tokens, reading: Mapping[str, str]
    ) -> None:
        self.checkpoint, self._logprobs, self._tokens = checkpoint, logprobs, tokens
        self._reading = reading
        self._weights: str | None = None

    @property
    def model(self) -> Any:
        """The language model of transformers."""
        return self._logprobs.model

    @property
    def weights(self) -> str:
        """What pins the weights; those of a folder are hashed once."""
        if self._weights is None:
            self._weights = weights_identity(self.checkpoint, self.model.config)["weights"]
        return self._weights

    def fingerprint(self) -> Mapping[str, str]:
        """Return whatever can change the log-probability of a reply; nothing of what is made of it."""
        return {
            "kind": "logprob",
            "version": VERSION,
            "attention": str(getattr(self.model.config, "_attn_implementation", None)),
            "dtype": str(self.model.dtype).removeprefix("torch."),
            "weights": self.weights,
            **self._reading,
        }

    def joint_length(self, batch: Sequence[Conversation]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        return self._logprobs.states.joint_length(self._tokens.encode(batch))

    @property
    def sharing_problem(self) -> str | None:
        """Why a prompt is read again for each of its replies; None where it is not."""
        return self._logprobs.states.sharing_problem

    def batch_tokens(self) -> int:
        """Return how many tokens to give it at once: what fits, and no more than makes it faster."""
        return tokens_at_once(self.model)

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return one log-probability per conversation; none for a reply of no tokens."""
        rows = self._tokens.encode(batch) if batch else []
        sums = self._logprobs.sums(rows) if rows else []
        return [scored(row, value) for value, row in zip(sums, rows, strict=True)]

    def own_sum(self, conversation: Conversation) -> float:
        """Return the same of one conversation from the model's own forward pass, with all its logits."""
        return self._logprobs.own_sum(self._tokens.encode([conversation])[0])

    def n_reply_tokens(self, batch: Sequence[Conversation]) -> list[int]:
        """Return the tokens that each number is a sum over."""
        places = [reply_of(row) for row in self._tokens.encode(batch)]
        return [end - first for first, end in places]
