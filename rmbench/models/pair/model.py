"""Models that compare two replies, run by transformers: P(first is better) of each pair.

`LetterReader` reads the next token of a language model (of an encoder-decoder the decoder's first one) and
compares two letters. `MarkReader` reads an encoder at the marks of prompt and replies. The engine asks both
orders of a pair and averages them.
"""

import math
from collections.abc import Sequence
from typing import Any, Protocol

from rmbench.core.files import pair_key
from rmbench.errors import ConfigError
from rmbench.models.hf.device import Memory, dtype_name, tokens_at_once
from rmbench.models.hf.dpo import LogProbs
from rmbench.models.hf.forward import groups_of_rows, padded
from rmbench.models.hf.load import torch
from rmbench.models.hf.text import Encoded
from rmbench.models.hf.tokens import tokenizer_identity
from rmbench.models.pair.recipe import PairRecipe
from rmbench.models.pair.text import MarkedText, PairRow, QuestionText
from rmbench.types import Pair, Scored

ADAPTER_VERSION = "1"
"""Raised when any preference could change."""


class PairReader(Protocol):
    """Reads rows with a model."""

    model: Any
    """The model of transformers."""

    def log_odds(self, rows: Sequence[PairRow]) -> list[float]:
        """Return the log-odds that the first reply is better, in nats."""
        ...


class LetterReader:
    """A language model that decodes from left to right.

    Args:
        logprobs: The model.
        letters: Ids of the tokens that say "the first" and "the second".
    """

    def __init__(self, logprobs: LogProbs, letters: tuple[int, int]) -> None:
        self.model, self._logprobs, self._letters = logprobs.model, logprobs, letters

    def log_odds(self, rows: Sequence[PairRow]) -> list[float]:
        """Return log P(first) - log P(second) of the next token."""
        found = self._logprobs.after([row.text for row in rows], self._letters)
        return [float(x) for x in (found[:, 0] - found[:, 1]).double().cpu()]

    def mass(self, row: PairRow) -> float:
        """Return what both letters hold of the probability of the next token."""
        return float(self._logprobs.after([row.text], self._letters).double().exp().sum())


class FirstTokenReader:
    """An encoder-decoder: the text is the encoder's, the answer is the decoder's first token.

    Args:
        model: The model, on its device.
        pad_id: Fills masked places.
        letters: As in `LetterReader`.
        where: The model, for messages.

    Raises:
        ConfigError: If the config does not say what the decoder starts with.
    """

    def __init__(self, model: Any, pad_id: int, letters: tuple[int, int], where: str) -> None:
        self.model, self._pad_id, self._letters, self._memory = model, pad_id, letters, Memory()
        starts = [
            getattr(each, "decoder_start_token_id", None) for each in (model.generation_config, model.config)
        ]
        self._start = next((int(start) for start in starts if start is not None), -1)
        if self._start < 0:
            raise ConfigError(f"{where}: its config has no decoder_start_token_id")

    def log_odds(self, rows: Sequence[PairRow]) -> list[float]:
        """Return log P(first) - log P(second) of the decoder's first token."""
        found = [0.0] * len(rows)
        with self._memory.in_use(self.model.device), torch.inference_mode():
            for group in groups_of_rows(self.model.device, [row.text for row in rows]):
                logps = self._logps([rows[k].text for k in group])
                for k, (first, second) in zip(group, logps.double().cpu().tolist(), strict=True):
                    found[k] = first - second
        return found

    def mass(self, row: PairRow) -> float:
        """Return what both letters hold of the probability of the decoder's first token."""
        with torch.inference_mode():
            return float(self._logps([row.text]).double().exp().sum())

    def _logps(self, rows: Sequence[Encoded]) -> Any:
        inputs = padded(rows, self._pad_id, self.model.device)
        start = torch.full((len(rows), 1), self._start, dtype=torch.long, device=self.model.device)
        logits = self.model(**inputs, decoder_input_ids=start, use_cache=False).logits[:, 0]  # (B, V)
        return logits.float().log_softmax(dim=-1)[:, list(self._letters)]


class MarkReader:
    """An encoder with a head on the states of two marks, prompt and reply, side by side.

    Args:
        model: Has `pretrained_model` and `head_layer`, on its device.
        pad_id: Fills masked places.
    """

    def __init__(self, model: Any, pad_id: int) -> None:
        self.model, self._pad_id, self._memory = model.pretrained_model, pad_id, Memory()
        self._head = model.head_layer

    def log_odds(self, rows: Sequence[PairRow]) -> list[float]:
        """Return the head's score of the first reply minus that of the second, the mean over its tasks."""
        found = [0.0] * len(rows)
        with self._memory.in_use(self.model.device), torch.inference_mode():
            for group in groups_of_rows(self.model.device, [row.text for row in rows]):
                inputs = padded([rows[k].text for k in group], self._pad_id, self.model.device)
                states = self.model(**inputs).last_hidden_state  # (B, T, D)
                at = torch.tensor([rows[k].places for k in group], device=states.device)  # (B, 3)
                marks = states[torch.arange(len(group), device=states.device)[:, None], at].float()
                prompt, first, second = marks.unbind(dim=1)  # (B, D) each
                scores = [self._head(torch.cat([prompt, reply], dim=-1)) for reply in (first, second)]
                for k, odds in zip(group, (scores[0] - scores[1]).mean(dim=-1).tolist(), strict=True):
                    found[k] = odds
        return found


class PairModel:
    """A local model that says which of two replies is better.

    Args:
        name: Name in tables.
        recipe: How it is read.
        text: Writes the pairs.
        reader: Reads them.
        identity: Further facts that can change a preference: weights, tokenizer.
        remarks: Remarks for the user.
    """

    def __init__(
        self,
        name: str,
        recipe: PairRecipe,
        text: QuestionText | MarkedText,
        reader: PairReader,
        identity: dict[str, str],
        remarks: Sequence[str],
    ) -> None:
        self.display_name, self._recipe, self._text, self._reader = name, recipe, text, reader
        self._identity, self._remarks = identity, tuple(remarks)

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change a preference."""
        model = self._reader.model
        return {
            "kind": "pair",
            "adapter": ADAPTER_VERSION,
            "recipe": self._recipe.identity,
            "format": self._text.identity,
            "max_length": str(self._text.max_length),
            "attention": str(getattr(model.config, "_attn_implementation", None)),
            "dtype": dtype_name(model),
            **self._identity,
        }

    def prefer(self, batch: Sequence[Pair]) -> list[Scored]:
        """Return P(first is better) of each pair, in [0, 1], with tokens and whether the text was cut."""
        if not batch:
            return []
        keys = [pair_key(pair.prompt, pair.first, pair.second) for pair in batch]
        asked = dict(zip(keys, batch, strict=True))
        rows = dict(zip(asked, self._text.encode(list(asked.values())), strict=True))
        odds = dict(zip(rows, self._reader.log_odds(list(rows.values())), strict=True))
        found = []
        for key in keys:
            text = rows[key].text
            found.append(Scored(0.5 + 0.5 * math.tanh(odds[key] / 2), len(text.ids), text.truncated))
        return found

    def batch_tokens(self) -> int:
        """Return how many tokens to give it at once."""
        return tokens_at_once(self._reader.model)

    def n_parameters(self) -> int:
        """Return the number of weights of the backbone, tied ones once."""
        return sum(weight.numel() for weight in self._reader.model.parameters())

    def notes(self) -> list[str]:
        """Return remarks on the recipe, the text and the model."""
        return [*self._remarks, *self._text.notes()]


def tokenizer_hash(tokenizer: Any) -> str:
    """Return a hash of the rules of a tokenizer; a slow one is known by the files of the model alone."""
    return tokenizer_identity(tokenizer) if getattr(tokenizer, "is_fast", False) else "slow"
