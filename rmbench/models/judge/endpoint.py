"""The chat-completions endpoint that a judge answers at."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from rmbench.models.http import Dialect, NoReplyError, Patience, Server
from rmbench.models.judge.reply import FAILED, NoAnswerError, Reply, reply_of

COUNTS = ("prompt tokens", "completion tokens", "replies without a count of tokens")
"""Counts of every judge beside its requests; the server counts the tokens."""
_MOST_TOKENS = 10**9
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
        reply = reply_of(raw)
        usage = raw.get("usage") or {}
        tokens = [_n_tokens(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")]
        for name, n in zip(COUNTS[:2], tokens, strict=True):
            self.count(name, n or 0)
        self.count(COUNTS[2], int(None in tokens))
        return replace(reply, refusal=self.shown(reply.refusal))


def _n_tokens(value: Any) -> int | None:
    """Return a count of tokens that a server may have charged; None for anything else."""
    return value if type(value) is int and 0 <= value <= _MOST_TOKENS else None
