"""A judge's reply as it came, and the reasons why a question has no answer. Nothing is sent here."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

UNPARSABLE, CUT_OFF, REFUSED, FAILED = "unparsable", "cut off", "refused", "failed call"
REASONS = (UNPARSABLE, CUT_OFF, REFUSED, FAILED)
"""Why a question has no answer."""
_ROUNDED = 1e-3


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


def reply_of(raw: Any) -> Reply:
    """Return the reply in a chat completion.

    Args:
        raw: The JSON of the completion, of a server or of a line of a batch file.

    Raises:
        KeyError, IndexError, TypeError, AttributeError, ValueError: If it is no chat completion.
    """
    choice = raw["choices"][0]
    message = choice["message"]
    first = ((choice.get("logprobs") or {}).get("content") or [{}])[0].get("top_logprobs") or []
    return Reply(
        text=_text(message.get("content")),
        refusal=str(message.get("refusal") or ""),
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
