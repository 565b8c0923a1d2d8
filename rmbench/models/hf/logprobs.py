"""log pi(reply | prompt) of a causal language model: the part that implicit rewards are made of.

The backbone gives hidden states, only those that a reply's tokens are predicted from. The head is applied to
a few of them at a time: the logit of the token that comes minus logsumexp over the vocabulary, in float32.
The logits of a whole batch, B * T * V * 4 bytes, would be gigabytes where V is 150,000.

Some architectures cap or scale their logits. `LogProbs` knows three ways, compares itself with the model's
own forward pass on made-up tokens, and refuses a model that differs.

Log-probabilities are stored. Changing beta needs no forward pass, and policies share one pass of their
reference.
"""

from collections.abc import Sequence
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import Checkpoint
from rmbench.models.hf.device import allowed_gap
from rmbench.models.hf.forward import TokenStates
from rmbench.models.hf.load import torch
from rmbench.models.hf.reply import reply_of
from rmbench.models.hf.sharing import made_up_ids
from rmbench.models.hf.text import Encoded
from rmbench.models.hf.tokens import HFModel, Reader, Tokens, tokenizer_identity
from rmbench.types import Conversation

VERSION = "2"
"""Raised when any log-probability could change."""
CELLS_AT_ONCE = {"cpu": 4_000_000, "cuda": 64_000_000, "mps": 16_000_000}
"""Logits that are held at once, in float32: 16 MB on a CPU."""


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
        self._check(where)

    def sums(self, rows: Sequence[Encoded]) -> list[float]:
        """Return log pi(reply | prompt) of each row, in nats; 0 for a reply of no tokens."""
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
        at_once = max(1, CELLS_AT_ONCE[self.model.device.type] // n_words)
        found = [torch.zeros(0, device=hidden.device)]
        for start in range(0, len(targets), at_once):
            part = slice(start, start + at_once)
            logits = self._head(hidden[part]).float() * self._scale
            if self._cap is not None:
                logits = torch.tanh(logits / self._cap) * self._cap
            chosen = logits.gather(1, targets[part, None])[:, 0]
            found.append(chosen - logits.logsumexp(dim=-1))
        return torch.cat(found)

    def _check(self, where: str) -> None:
        ids = made_up_ids(self.model.config.get_text_config(), 12, 3)
        row = Encoded(ids, reply=(1, len(ids)))
        own, found = self.own_sum(row), self.sums([row])[0]
        allowed = allowed_gap(self.model, 1e-4, 0.05) * max(1.0, abs(own))
        if not abs(own - found) <= allowed:  # NaN fails too
            raise ConfigError(
                f"{where}: {type(self.model).__name__} does more to its logits than rmbench knows:"
                f" log-probabilities of a probe are {found:.6g}, its own forward pass says {own:.6g}"
            )


class ReplyLogProb(HFModel):
    """A model whose number for a conversation is the log-probability of its last turn, in nats.

    Args:
        checkpoint: Where the language model is.
        logprobs: The language model.
        tokenizer: Decides which tokens a text becomes.
        tokens: Encodes conversations; shared with the other parts of a reward.
    """

    def __init__(self, checkpoint: Checkpoint, logprobs: LogProbs, tokenizer: Any, tokens: Tokens) -> None:
        super().__init__(tokens, tokenizer, [Reader(checkpoint, logprobs.model, logprobs.states)])
        self._logprobs = logprobs

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change the log-probability of a reply; beta and the like do not."""
        tokens = tokenizer_identity(self.tokenizer)
        return {"kind": "logprob", "version": VERSION, "tokenizer": tokens, **super().fingerprint()}

    def n_reply_tokens(self, batch: Sequence[Conversation]) -> list[int]:
        """Return the tokens that each number is a sum over."""
        places = [reply_of(row) for row in self.encode(batch)]
        return [end - first for first, end in places]

    def own_sum(self, row: Encoded) -> float:
        """Return the number of one row from the model's own forward pass, with all its logits."""
        return self._logprobs.own_sum(row)

    def numbers(self, rows: Sequence[Encoded]) -> list[float]:
        """Return one log-probability per row."""
        return self._logprobs.sums(rows)
