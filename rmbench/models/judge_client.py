"""A chat-completions endpoint that judges."""

from collections.abc import Callable, Mapping
from typing import Any

from rmbench.models.http_server import Dialect, NoReplyError, Patience, Server
from rmbench.models.judge_answer import FAILED, NoAnswerError, Reply

COUNTS = ("prompt tokens", "completion tokens", "replies without a count of tokens")
"""What is counted of every judge beside requests; tokens as the server tells them."""
_DROPPABLE: Mapping[str, tuple[str, ...]] = {
    "response_format": ("response_format", "json_schema"),
    "seed": ("seed",),
}
_RENAMED = {"max_tokens": "max_completion_tokens"}


class Endpoint(Server):
    """A server that speaks the chat-completions protocol; safe for several threads.

    Args:
        url: Up to and without `/chat/completions`.
        key: Of the server, sent as a bearer token and to nobody told; None for none.
        patience: How long to go on trying.
        droppable: Parameters that may be left out, if the server says that it does not know them.
    """

    def __init__(self, url: str, key: str | None, patience: Patience, droppable: frozenset[str]) -> None:
        known = {name: words for name, words in _DROPPABLE.items() if name in droppable}
        super().__init__(url, "the judge", key, patience, Dialect(droppable=known, renamed=_RENAMED))
        for name in COUNTS:
            self.count(name, 0)

    def chat(self, body_of: Callable[[bool], dict[str, Any]], question: str) -> Reply:
        """Return the reply to a request, tried again where that may help.

        Args:
            body_of: Makes the request; told whether `response_format` is known to the server.
            question: Its identity, for the jitter.

        Raises:
            NoAnswerError: If there is none.
            ScoringError: If the server will not answer any request, or was given up before.
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
        tokens = [usage.get(name) for name in ("prompt_tokens", "completion_tokens")]
        for name, n in zip(COUNTS[:2], tokens, strict=True):
            self.count(name, n if isinstance(n, int) else 0)
        self.count(COUNTS[2], int(not all(isinstance(n, int) for n in tokens)))
        first = ((choice.get("logprobs") or {}).get("content") or [{}])[0].get("top_logprobs") or []
        return Reply(
            text=str(message.get("content") or ""),
            refusal=self.shown(str(message.get("refusal") or "")),
            finish=str(choice.get("finish_reason") or ""),
            first_token=[(str(t["token"]), float(t["logprob"])) for t in first],
        )
