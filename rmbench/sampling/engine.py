"""What is drawn, how, and what an engine that draws it has to be. Nothing here imports a heavy library."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rmbench.canon import digest
from rmbench.types import Turn


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding:
    """How responses are drawn."""

    n: int
    """Responses per prompt."""
    temperature: float = 1.0
    """0 takes the likeliest token."""
    top_k: int = 0
    """Only the K likeliest tokens; 0 for all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together have this probability (nucleus)."""
    max_tokens: int = 512
    """Most tokens of a response, its end token included."""
    seed: int = 0
    stop: tuple[str, ...] = ()
    """A response ends before the first of these texts."""

    def settings(self) -> dict[str, Any]:
        """Return what a pool says of how it was drawn: no `stop` where there is none, as before it."""
        found = asdict(self)
        stop = found.pop("stop")
        return found | ({"stop": sorted(set(stop))} if stop else {})


@dataclass(frozen=True, slots=True)
class Prompt:
    """One prompt, and where it stands."""

    id: str
    given: Any
    """As in the data: text, or messages."""
    turns: tuple[Turn, ...]
    """As the policy reads it: a system message may have been added."""
    key: str
    """Identity of `turns`: what its random numbers are made of."""
    carried: Mapping[str, Any]
    """Keys of its row that the pool keeps: `cluster`, `strata`, and what verifiers make gold of."""
    place: str
    """File and line, for messages."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One response."""

    text: str
    """May be empty."""
    finish: str
    """`stop`: the policy ended it, or said a stop text. `length`: cut at `max_tokens`."""
    n_tokens: int
    """Tokens of the text: without the end token, with those that hold a stop text (one may hold both)."""
    logprob: float
    """ln P(its tokens, the end token or those that hold a stop text included) under what was drawn from:
    temperature, top-k, top-p. 0 for temperature 0, which has no choice."""
    untempered_logprob: float
    """The same at temperature 1, of all tokens."""


class Engine(Protocol):
    """Draws responses of one policy."""

    def identity(self) -> Mapping[str, Any]:
        """Return whatever can change a text: weights, format, dtype, stop tokens; never batch or device."""
        ...

    def notes(self) -> list[str]:
        """Return what a user should know, one line each."""
        ...

    def problem(self, turns: Sequence[Turn], decoding: Decoding) -> str | None:
        """Return why there can be no response to a prompt (too long, a refused role), or None."""
        ...

    def sample(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[list[Sample]]:
        """Yield `decoding.n` responses per prompt, in order.

        Raises:
            RunError: If the policy fails.
        """
        ...


def uniforms(seed: int, key: str, sample: int, n: int) -> NDArray[np.float64]:
    """Return the numbers in [0, 1), (n,), that decide tokens 0 .. n-1 of one response.

    A counter-based generator (Philox) keyed by what the response is, so that a text depends neither on what
    is drawn beside it nor on when. A longer row begins with the shorter one.

    Args:
        seed: Of the run.
        key: The prompt's.
        sample: Which of its responses, from 0.
        n: Tokens.
    """
    return np.random.Generator(np.random.Philox(key=int(digest([seed, key, sample], 32), 16))).random(n)


def where_it_stops(text: str, stops: Sequence[str]) -> int | None:
    """Return where the first of `stops` begins in a text, or None."""
    return min((at for stop in stops if (at := text.find(stop)) >= 0), default=None)
