"""Decoding settings, prompts, samples, the engine protocol, and how a policy reads a prompt and ends a text.

Importing this module imports no heavy library.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rmbench.core.files import digest
from rmbench.core.options import Option
from rmbench.errors import ConfigError, RunError, ScoringError
from rmbench.models.hf.checkpoint import Checkpoint
from rmbench.models.hf.text import PlainFormat, decoder_format
from rmbench.types import Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How responses are drawn."""

    n: Annotated[int, Option("Responses per prompt.", flags="-n", low=1)] = 16
    temperature: Annotated[float, Option("0 takes the likeliest token.", low=0)] = 1.0
    top_k: Annotated[int, Option("Only the K likeliest tokens; 0 for all.", low=0)] = 0
    top_p: Annotated[
        float,
        Option("Only the likeliest tokens that together have this probability.", above=0, high=1),
    ] = 1.0
    max_tokens: Annotated[int, Option("Most tokens of a response, its end token included.", low=1)] = 512
    seed: Annotated[int, Option("Seed of the responses and of --limit.", env="RMBENCH_SEED", low=0)] = 0
    stop: Annotated[
        tuple[str, ...],
        Option(r"End a response before TEXT (repeat); \n is a line break.", metavar="TEXT", single=True),
    ] = ()

    def settings(self) -> dict[str, Any]:
        """Return the settings that a pool records; `stop` only if there are stop texts, as in older pools."""
        found = asdict(self)
        stop = found.pop("stop")
        return found | ({"stop": sorted(set(stop))} if stop else {})


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, with its place in the file."""

    id: str
    given: Any
    """The data's own form: text, or messages."""
    turns: tuple[Turn, ...]
    """The turns that the policy reads; a system message may have been added."""
    key: str
    """Identity of `turns`, the seed of its random numbers."""
    carried: Mapping[str, Any]
    """Keys of its row that the pool keeps: `cluster`, `strata`, and the verifiers' keys."""
    place: str
    """File and line, for messages."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One response."""

    text: str
    """May be empty."""
    finish: str
    """`stop`: the policy ended it, or wrote a stop text. `length`: cut at `max_tokens`."""
    n_tokens: int
    """Tokens of the text, without the end token, with those of a stop text (one token may hold both)."""
    logprob: float
    """ln P(its tokens, with the end token or those of a stop text) under the sampled distribution:
    temperature, top-k, top-p. 0 at temperature 0, which is deterministic."""
    untempered_logprob: float
    """The same at temperature 1, without filters."""


class Engine(Protocol):
    """Draws responses of one policy."""

    def identity(self) -> Mapping[str, Any]:
        """Return all that can change a text: weights, format, dtype, stop tokens; never batch or device."""
        ...

    def notes(self) -> list[str]:
        """Return remarks for the user, one line each."""
        ...

    def problem(self, turns: Sequence[Turn], decoding: Decoding) -> str | None:
        """Return why a prompt can have no response (too long, a refused role); None if it can."""
        ...

    def sample(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[list[Sample]]:
        """Yield `decoding.n` responses per prompt, in order.

        Raises:
            RunError: If the policy fails.
        """
        ...


def uniforms(seed: int, key: str, sample: int, n: int) -> NDArray[np.float64]:
    """Return the numbers in [0, 1), (n,), that decide tokens 0 .. n-1 of one response.

    The generator is counter-based (Philox) and keyed by the response, so a text does not depend on its
    neighbours or on time. A longer row begins with the shorter one.

    Args:
        seed: Seed of the run.
        key: Key of the prompt.
        sample: Number of the response, from 0.
        n: Number of tokens.
    """
    return np.random.Generator(np.random.Philox(key=int(digest([seed, key, sample], 32), 16))).random(n)


def where_it_stops(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first of `stops` begins in a text, or None."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)


_DECLARED = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
_NEUTRAL: Mapping[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}


class Policy:
    """A causal language model's tokenizer, format and end tokens.

    Args:
        checkpoint: The checkpoint's place.
        weights: Identity of the files that it was loaded from.
        config: Its config.
        tokenizer: Its tokenizer.
        declared: Its generation config.
        chat_template: `auto` (the tokenizer's, else a plain transcript), `plain`, or a Jinja file.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        weights: str,
        config: Any,
        tokenizer: Any,
        declared: Any,
        chat_template: str,
    ) -> None:
        self._checkpoint, self._weights = checkpoint, weights
        self._config, self._tokenizer = config, tokenizer
        self._format = decoder_format(tokenizer, chat_template)
        self._declared = {
            k: v for k in _DECLARED if (v := getattr(declared, k, None)) not in (None, _NEUTRAL.get(k))
        }
        own = declared.eos_token_id
        found = {*(own if isinstance(own, list | tuple) else [own]), tokenizer.eos_token_id} - {None}
        if wrong := [token for token in found if isinstance(token, bool) or not isinstance(token, int)]:
            raise ConfigError(f"{checkpoint.location}: eos_token_id has {wrong[0]!r}; expected ids of tokens")
        self.ends = tuple(sorted(found))
        """Tokens that end a response: those of the checkpoint (one or several) and of the tokenizer."""

    def identity(self, engine: str, dtype: str) -> Mapping[str, Any]:
        """Return everything that can change a text.

        Args:
            engine: Name and version of the engine.
            dtype: Its dtype.
        """
        return {
            "policy": self._checkpoint.name,
            "weights": self._weights,
            "engine": engine,
            "format": self._format.identity,
            "dtype": dtype,
            "stop_tokens": list(self.ends),
        }

    def notes(self) -> list[str]:
        """Return remarks on format, end tokens and ignored settings of the checkpoint."""
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
        """Return why a prompt can have no response; None if it can."""
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
        """Return how many tokens of a row were drawn, its end token included."""
        end = self._end(row)
        return len(row) if end is None else end + 1

    def read(
        self, row: Sequence[int], logprob: float, untempered_logprob: float, *, stop: Sequence[str] = ()
    ) -> Sample:
        """Return a row of tokens as a response; tokens after its end token are ignored.

        Args:
            row: Token ids, at most up to the end of a stop text.
            logprob: Log-probability of the drawn tokens under the sampled distribution.
            untempered_logprob: Their log-probability at temperature 1.
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
        """Return the text of tokens, without an end token."""
        text = self._tokenizer.decode(list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False)
        # This space belongs to the transcript.
        return str(text).removeprefix(" ") if isinstance(self._format, PlainFormat) else str(text)

    def _end(self, row: Sequence[int]) -> int | None:
        return next((k for k, token in enumerate(row) if token in self.ends), None)
