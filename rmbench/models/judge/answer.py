"""A judge's answers, and the chat-completions endpoint that gives them.

An answer is a verdict or a rating. A text that is neither has no answer: nothing is guessed.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.core.files import parse_json
from rmbench.models.http import Dialect, NoReplyError, Patience, Server

UNPARSABLE, CUT_OFF, REFUSED, FAILED = "unparsable", "cut off", "refused", "failed call"
REASONS = (UNPARSABLE, CUT_OFF, REFUSED, FAILED)
"""Why a question has no answer."""

LEAST_MASS = 0.01
"""Least probability of A and B together in mode `logprob`: below it, the judge said something else."""

_P_FIRST = {"A": 1.0, "B": 0.0, "C": 0.5}
_MARK = re.compile(r"\[\[([^\[\]]*)\]\]")
_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```\s*\Z", re.DOTALL)
_SPACES = " \t\r\n\u0120\u2581"
"""Around a letter in a token; the last two are how byte-level BPE and SentencePiece write a space."""


class NoAnswerError(Exception):
    """A question without an answer.

    Args:
        reason: One of REASONS.
        detail: The text in place of an answer.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Reply:
    """A server's reply to one request."""

    text: str
    refusal: str
    """Empty if it did not refuse."""
    finish: str
    """`stop`, `length`, `content_filter`, ..."""
    first_token: Sequence[tuple[str, float]]
    """The likeliest first tokens with their log-probabilities; empty where they were not asked for."""


def verdict(reply: Reply) -> float:
    """Return P(first is better): 1 for A, 0 for B, 0.5 for C, which says that both are equally good.

    Raises:
        NoAnswerError: If there is no verdict.
    """
    said = _said(reply, "verdict")
    if isinstance(said, str) and said.strip() in _P_FIRST:
        return _P_FIRST[said.strip()]
    raise _nothing(reply, "A, B or C")


def rating(reply: Reply) -> float:
    """Return the rating, a whole number from 1 to 10.

    Raises:
        NoAnswerError: If there is no answer.
    """
    said = _said(reply, "rating")
    if isinstance(said, str) and said.strip().isascii() and said.strip().isdigit():
        said = int(said.strip()[:3])
    if isinstance(said, int | float) and not isinstance(said, bool) and said in range(1, 11):
        return float(said)
    raise _nothing(reply, "a whole number from 1 to 10")


def first_letter(reply: Reply) -> float:
    """Return P(first is better) from the first token: what A holds of the probability of A and B.

    Raises:
        NoAnswerError: If A and B hold less than LEAST_MASS together.
    """
    _refused(reply)
    mass = {"A": 0.0, "B": 0.0}
    for token, logprob in reply.first_token:
        letter = token.strip(_SPACES)
        if letter in mass:
            mass[letter] += math.exp(min(0.0, logprob))
    both = mass["A"] + mass["B"]
    if not both >= LEAST_MASS:
        raise _nothing(reply, "A or B as the first token")
    return mass["A"] / both


def _said(reply: Reply, key: str) -> Any:
    """Return what a JSON object has under `key`, else what the last line has in brackets; None: neither."""
    _refused(reply)
    text = reply.text.rpartition("</think>")[2].strip()
    fenced = _FENCED.search(text)
    try:
        value = parse_json(fenced[1] if fenced else text)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return value.get(key)
    # The last line alone: a judge may quote what the replies claim.
    marks = _MARK.findall(text.splitlines()[-1]) if text else []
    return marks[0] if len(marks) == 1 else None


def _refused(reply: Reply) -> None:
    if reply.refusal or reply.finish == "content_filter":
        raise NoAnswerError(REFUSED, reply.refusal or "the server's content filter")


def _nothing(reply: Reply, expected: str) -> NoAnswerError:
    if reply.finish == "length" and not reply.first_token:
        return NoAnswerError(
            CUT_OFF, f"cut off at max_tokens before it said {expected}: {reply.text[-80:]!r}"
        )
    return NoAnswerError(UNPARSABLE, f"expected {expected}, it said {reply.text[-80:]!r}")


COUNTS = ("prompt tokens", "completion tokens", "replies without a count of tokens")
"""Counts of every judge beside its requests; the server counts the tokens."""
_MOST_TOKENS = 10**9
_ROUNDED = 1e-3
_DROPPABLE: Mapping[str, tuple[str, ...]] = {
    "response_format": ("response_format", "json_schema"),
    "seed": ("seed",),
}
_RENAMED = {"max_tokens": "max_completion_tokens"}


class Endpoint(Server):
    """A server that speaks the chat-completions protocol; safe for several threads.

    Args:
        url: Up to and without `/chat/completions`.
        key: API key, sent as a bearer token, never logged; None for a server without one.
        patience: Limits of time and retries.
        droppable: Parameters that may be left out, if the server says that it does not know them.
    """

    def __init__(self, url: str, key: str | None, patience: Patience, droppable: frozenset[str]) -> None:
        known = {name: words for name, words in _DROPPABLE.items() if name in droppable}
        super().__init__(url, "the judge", key, patience, Dialect(droppable=known, renamed=_RENAMED))
        for name in COUNTS:
            self.count(name, 0)

    def chat(self, body_of: Callable[[bool], dict[str, Any]], question: str) -> Reply:
        """Return the reply to a request, with retries.

        Args:
            body_of: Makes the request; told whether `response_format` is known to the server.
            question: Identity of the question; seeds the jitter.

        Raises:
            NoAnswerError: If there is no answer.
            ScoringError: If the server refuses every request, or the run has stopped.
        """
        try:
            return self.post(
                "chat/completions",
                lambda dropped: body_of("response_format" not in dropped),
                self._read_reply,
                question,
            )
        except NoReplyError as error:
            raise NoAnswerError(FAILED, str(error)) from None

    def _read_reply(self, raw: Any) -> Reply:
        choice = raw["choices"][0]
        message = choice["message"]
        usage = raw.get("usage") or {}
        tokens = [_n_tokens(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
        for name, n in zip(COUNTS[:2], tokens, strict=True):
            self.count(name, n or 0)
        self.count(COUNTS[2], int(None in tokens))
        first = ((choice.get("logprobs") or {}).get("content") or [{}])[0].get("top_logprobs") or []
        return Reply(
            text=_text(message.get("content")),
            refusal=self.shown(str(message.get("refusal") or "")),
            finish=str(choice.get("finish_reason") or ""),
            first_token=[(str(t["token"]), _logprob(t["logprob"])) for t in first],
        )


def _text(content: Any) -> str:
    if content is None:
        return ""
    if not isinstance(content, str):
        raise TypeError("the content of a message is text")
    return content


def _logprob(value: Any) -> float:
    """Return a log-probability; minus infinity is one, and a rounding error above 0 becomes 0."""
    if isinstance(value, bool) or not float(value) <= _ROUNDED:
        raise ValueError(f"{value!r} is no log-probability")
    return min(0.0, float(value))


def _n_tokens(value: Any) -> int | None:
    """Return a count of tokens that a server may have charged; None for anything else."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None
