"""What every engine knows of a policy without its weights: how it reads a prompt, and how its text ends."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from rmbench.errors import RunError, ScoringError
from rmbench.models.hf_checkpoint import Checkpoint, weights_identity
from rmbench.models.hf_text import PlainFormat, decoder_format, read_template
from rmbench.sampling.engine import Decoding, Sample, where_it_stops
from rmbench.types import Turn

_DECLARED = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
_NEUTRAL: Mapping[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}


class Policy:
    """A causal language model's tokenizer, format and end tokens.

    Args:
        checkpoint: Where it is.
        config: Its config.
        tokenizer: Its tokenizer.
        declared: Its generation config.
        chat_template: `auto` (the tokenizer's, else a plain transcript), `plain`, or a Jinja file.
    """

    def __init__(
        self, checkpoint: Checkpoint, config: Any, tokenizer: Any, declared: Any, chat_template: str
    ) -> None:
        self._checkpoint, self._config, self._tokenizer = checkpoint, config, tokenizer
        self._format = decoder_format(tokenizer, chat_template, read_template)
        self._declared = {
            k: v for k in _DECLARED if (v := getattr(declared, k, None)) not in (None, _NEUTRAL.get(k))
        }
        own = declared.eos_token_id
        found = {*(own if isinstance(own, list | tuple) else [own]), tokenizer.eos_token_id} - {None}
        self.ends = tuple(sorted(int(token) for token in found))
        """Tokens that end a response: the checkpoint's (there may be several), and the tokenizer's."""

    def identity(self, engine: str, dtype: str) -> Mapping[str, Any]:
        """Return whatever can change a text; hashes the weights of a folder.

        Args:
            engine: Name and version of what draws.
            dtype: In which it computes.
        """
        return {
            "policy": self._checkpoint.name,
            **weights_identity(self._checkpoint, self._config),
            "engine": engine,
            "format": self._format.identity,
            "dtype": dtype,
            "stop_tokens": list(self.ends),
        }

    def notes(self) -> list[str]:
        """Return remarks on format, end tokens and settings of the checkpoint that are not applied."""
        notes = list(self._format.notes())
        if not self._format.opens_reply():
            notes.append(
                "the chat template ignores add_generation_prompt: the policy has to open its reply itself"
            )
        if not self.ends:
            notes.append("the policy has no end token: every response is cut at --max-tokens")
        if self._declared:
            told = ", ".join(f"{key} {value}" for key, value in self._declared.items())
            notes.append(
                f"its generation_config.json asks for {told}; only what the command line says is applied"
            )
        return notes

    def problem(self, turns: Sequence[Turn], decoding: Decoding) -> str | None:
        """Return why there can be no response to a prompt, or None."""
        try:
            n_tokens = len(self.encode(turns))
        except ScoringError as error:
            return str(error)
        if n_tokens == 0:
            return "the prompt has no tokens at all"
        positions = getattr(self._config.get_text_config(), "max_position_embeddings", None)
        if isinstance(positions, int) and n_tokens + decoding.max_tokens > positions > 0:
            return (
                f"the prompt has {n_tokens:,} tokens; with --max-tokens {decoding.max_tokens:,} that is more"
                f" than the policy's {positions:,} positions"
            )
        return None

    def encode(self, turns: Sequence[Turn]) -> tuple[int, ...]:
        """Return a prompt as ids, up to where the reply begins."""
        return self._format.encode_prompt(turns)

    def drawn(self, row: Sequence[int]) -> int:
        """Return how many tokens of a row were drawn: its end token is one, what follows it is not."""
        end = self._end(row)
        return len(row) if end is None else end + 1

    def read(
        self, row: Sequence[int], logprob: float, untempered_logprob: float, *, stop: Sequence[str] = ()
    ) -> Sample:
        """Return a row of tokens, and whatever follows its end token, as a response.

        Args:
            row: Token ids, no more than it takes to say a stop text.
            logprob: Of those drawn, as they were drawn.
            untempered_logprob: Of them at temperature 1.
            stop: Texts before which a response ends.

        Raises:
            RunError: If one of the two is not finite.
        """
        if not (math.isfinite(logprob) and math.isfinite(untempered_logprob)):
            raise RunError(
                f"{self._checkpoint.name}: a log-probability is not finite; try --dtype float32 or bfloat16"
            )
        end = self._end(row)
        ids = list(row[:end])
        text = self.text(ids)
        stopped = where_it_stops(text, stop)
        finish = "length" if end is None and stopped is None else "stop"
        return Sample(text[:stopped], finish, len(ids), logprob, untempered_logprob)

    def text(self, ids: Sequence[int]) -> str:
        """Return what tokens without an end token say."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # A space that belongs to the transcript.
        return str(text).removeprefix(" ") if isinstance(self._format, PlainFormat) else str(text)

    def _end(self, row: Sequence[int]) -> int | None:
        return next((k for k, token in enumerate(row) if token in self.ends), None)
