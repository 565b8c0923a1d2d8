"""log pi(reply | prompt) of a causal language model, without its logits ever being held.

The backbone gives hidden states, only those that a reply's tokens are predicted from (`hf_states`). The head
is applied to a few of them at a time: the logit of the token that comes minus logsumexp over the vocabulary,
in float32. What a whole batch's logits would take, B * T * V * 4 bytes, is gigabytes where V is 150,000.

Some architectures cap or scale their logits. `LogProbs` knows three ways, and compares itself with the
model's own forward pass on made-up tokens: what differs is refused.

log pi(reply | prompt) of one language model, as a part of rewards.

It is what implicit rewards are made of, and all that costs a forward pass: stored by itself, a reference is
read once for all policies that were trained from it, and another beta costs nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import Checkpoint, weights_identity
from rmbench.models.hf.forward import TokenStates
from rmbench.models.hf.load import torch
from rmbench.models.hf.reply import reply_of
from rmbench.models.hf.text import Encoded
from rmbench.models.hf.tokens import Tokenised, Tokens, scored, tokens_at_once
from rmbench.types import Conversation, Scored

_CELLS = {"cpu": 4_000_000, "cuda": 64_000_000, "mps": 16_000_000}
"""Logits that are held at once, in float32: 16 MB on a CPU."""
PROBE_TOLERANCE = {"float32": 1e-4, "float64": 1e-4}
"""Of a log-probability, as a fraction of it."""
_PROBE_TOLERANCE_OF_HALF = 0.05


class LogProbs:
    """Sums the log-probabilities of replies' tokens.

    Args:
        model: A causal language model.
        where: Its place, for messages.
        pad_id: Fills masked places.
        share: Whether what a batch's rows begin with may be read once.

    Raises:
        ConfigError: If its logits are not those of its own forward pass.
    """

    def __init__(self, model: Any, where: str, pad_id: int, *, share: bool = True) -> None:
        self.model = model
        self.states = TokenStates(model, pad_id, share=share)
        self._head = model.get_output_embeddings()
        if self._head is None:
            raise ConfigError(f"{where}: {type(model).__name__} does not tell its output layer")
        config = model.config.get_text_config()
        self._cap = getattr(config, "final_logit_softcapping", None)
        divided = getattr(config, "logits_scaling", None) or 1.0
        self._scale = (getattr(config, "logit_scale", None) or 1.0) / divided
        self._check(where, int(config.vocab_size))

    def sums(self, rows: Sequence[Encoded]) -> list[float]:
        """Return log pi(reply | what comes before it) of each row, in nats; 0 for a reply of no tokens."""
        replies = [reply_of(row) for row in rows]
        hidden = self.states.at(rows, [range(first - 1, end - 1) for first, end in replies])
        said = [token for row, place in zip(rows, replies, strict=True) for token in row.ids[slice(*place)]]
        with torch.inference_mode():
            logps = self._logps(hidden, torch.tensor(said, dtype=torch.long, device=hidden.device))
        return [float(part.sum()) for part in logps.double().cpu().split([b - a for a, b in replies])]

    def own_sum(self, row: Encoded) -> float:
        """Return the same of one row from the model's own forward pass, with all its logits."""
        first, end = reply_of(row)
        ids = torch.tensor([row.ids], device=self.model.device)
        with torch.inference_mode():
            logits = self.model(input_ids=ids, use_cache=False).logits[0, first - 1 : end - 1]
            logps = logits.float().log_softmax(dim=-1)
            return float(logps.gather(1, ids[0, first:end, None]).double().sum())

    def _logps(self, hidden: Any, targets: Any) -> Any:
        """Return log pi of each target (M,), float32, from the states before them (M, D)."""
        n_words = int(self._head.weight.shape[0])
        at_once = max(1, _CELLS[self.model.device.type] // n_words)
        found = [torch.zeros(0, device=hidden.device)]
        for start in range(0, len(targets), at_once):
            part = slice(start, start + at_once)
            logits = self._head(hidden[part]).float() * self._scale
            if self._cap is not None:
                logits = torch.tanh(logits / self._cap) * self._cap
            chosen = logits.gather(1, targets[part, None])[:, 0]
            found.append(chosen - logits.logsumexp(dim=-1))
        return torch.cat(found)

    def _check(self, where: str, n_words: int) -> None:
        ids = tuple((3 + 31 * k * k + 7 * k) % min(n_words, 500) for k in range(12))
        row = Encoded(ids, reply=(1, len(ids)))
        own, found = self.own_sum(row), self.sums([row])[0]
        dtype = str(self.model.dtype).removeprefix("torch.")
        allowed = PROBE_TOLERANCE.get(dtype, _PROBE_TOLERANCE_OF_HALF) * max(1.0, abs(own))
        if not abs(own - found) <= allowed:  # NaN fails too
            raise ConfigError(
                f"{where}: {type(self.model).__name__} does more to its logits than rmbench knows:"
                f" log-probabilities of a probe are {found:.6g}, its own forward pass says {own:.6g}"
            )


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
