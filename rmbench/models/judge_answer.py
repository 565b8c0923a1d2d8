"""What a judge has said: a verdict, a rating, or nothing that can be used. Nothing is guessed."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

UNPARSABLE, CUT_OFF, REFUSED, FAILED = "unparsable", "cut off", "refused", "failed call"
REASONS = (UNPARSABLE, CUT_OFF, REFUSED, FAILED)
"""Why a question has no answer."""

LEAST_MASS = 0.01
"""Probability that A and B hold together at least, in mode `logprob`: below it, it said something else."""

_P_FIRST = {"A": 1.0, "B": 0.0, "C": 0.5}
_MARK = re.compile(r"\[\[([^\[\]]*)\]\]")
_FENCED = re.compile(r"```(?:json)?\s*(\{.*\})\s*```\s*\Z", re.DOTALL)
_SPACES = " \t\r\n\u0120\u2581"
"""Around a letter in a token; the last two are how byte-level BPE and SentencePiece write a space."""


class NoAnswerError(Exception):
    """A question without an answer.

    Args:
        reason: One of REASONS.
        detail: What was said instead.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Reply:
    """What a server has said to one request."""

    text: str
    refusal: str
    """Empty where there is none."""
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
        NoAnswerError: If there is none.
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
        value = json.loads(fenced[1] if fenced else text)
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
