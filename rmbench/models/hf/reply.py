"""The places of a reply's tokens in a text, and of the tokens that end its steps.

Models with a value per token need the places of a reply's tokens. They begin where the text first depends on
the reply: after everything that the chat template writes before it, except a space, which tokens join to a
word. They end with the token that ends the turn: a policy has to generate that too. White space that a
template writes after it does not count. A token that reaches over the beginning belongs to the reply. When
the reply alone is too long, its lost tokens do not count; the conversation is reported as truncated.
"""

from collections.abc import Sequence
from typing import Any

from rmbench.core.files import conversation_key, digest
from rmbench.errors import ConfigError, ScoringError, UnwritableError
from rmbench.models.hf.text import (
    NO_TOKENS,
    TEMPLATE_REFUSES,
    ChatFormat,
    Encoded,
    PlainFormat,
    cut,
)
from rmbench.types import Conversation, Turn

_MARK = "QReplyQ"
"""Stands for a reply, to see what a template writes around it."""


class ReplyFormat:
    """A text format that also gives the places of the reply's tokens, and of the tokens that end a step.

    Args:
        tokenizer: A fast Hugging Face tokenizer: only those give a token's place in the text.
        inner: How a conversation is written.
        step: The text that ends a step of a reply; None for no steps.

    Raises:
        ConfigError: If the tokenizer is a slow one.
    """

    def __init__(self, tokenizer: Any, inner: ChatFormat | PlainFormat, step: str | None = None) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigError("rewards per token need a fast tokenizer (a tokenizer.json beside the weights)")
        self._tokenizer, self._inner, self._step = tokenizer, inner, step
        self._is_chat = isinstance(inner, ChatFormat)
        # The text around a reply, per prompt: candidates of a prompt come together.
        self._around: dict[str, tuple[str, str]] = {}
        steps = "" if step is None else f":steps-2:{digest(step, 16)}"
        self.identity = f"{inner.identity}:reply-1{steps}"

    def encode(self, batch: Sequence[Conversation], max_length: int) -> list[Encoded]:
        """Return the conversations as ids, with the places of the reply's tokens.

        Raises:
            ScoringError: If the chat template refuses one.
        """
        texts = [self._inner.text(turns) for turns in batch]
        both = self._tokenizer(
            texts, add_special_tokens=not self._is_chat, return_offsets_mapping=True, verbose=False
        )
        found = zip(batch, texts, both["input_ids"], both["offset_mapping"], strict=True)
        return [self._one(turns, text, ids, places, max_length) for turns, text, ids, places in found]

    def templated(self, turns: Conversation) -> str | None:
        """Return the text that the chat template inside writes; None without one."""
        return self._inner.text(turns) if isinstance(self._inner, ChatFormat) else None

    def notes(self) -> list[str]:
        """Return the remarks of the inner format, and one if the end of a reply does not count."""
        probe = [Turn(role="user", content="Q"), Turn(role="assistant", content=_MARK)]
        notes = list(self._inner.notes())
        if self._is_chat and not self._written_around(probe)[1].strip():
            notes.append("the chat template writes nothing after a reply: that it ends does not count")
        return notes

    def _written_around(self, turns: Conversation) -> tuple[str, str]:
        """Return the text before and after the last turn's content."""
        key = conversation_key(turns[:-1])
        if key not in self._around:
            text = self._inner.text([*turns[:-1], Turn(role=turns[-1]["role"], content=_MARK)])
            before, mark, after = text.rpartition(_MARK)
            if not mark:
                raise UnwritableError(
                    "the chat template leaves out the reply to a conversation of this kind",
                    turns,
                    reason=TEMPLATE_REFUSES,
                )
            if len(self._around) > 1_000:
                self._around.clear()
            self._around[key] = before, after
        return self._around[key]

    def _one(
        self, turns: Conversation, text: str, ids: list[int], places: list[tuple[int, int]], max_length: int
    ) -> Encoded:
        before, after = self._written_around(turns)
        start = _n_common(before.rstrip(" "), text)
        end = len(text) - (len(after) - len(after.rstrip()) if text.endswith(after) else 0)
        begins = token_begins(places)
        first = next((i for i, place in enumerate(places) if place[1] > start), len(ids))
        last = 1 + max((i for i, begin in enumerate(begins) if begin < end), default=first - 1)
        if not self._is_chat:  # a transcript ends with EOS, which has no place in the text
            eos = self._tokenizer.eos_token_id
            ids = ids if eos is None or ids[-1:] == [eos] else [*ids, eos]
            last = len(ids)
        row = cut(self._tokenizer, ids, max_length)
        gone = len(ids) - len(row.ids)
        kept = max(first - gone, 1)  # nothing comes before the first token, so nothing predicts it
        end_of_reply = max(last - gone, kept)
        content_end = len(text) - len(after) if after and text.endswith(after) else len(text)
        ends = self._ends_of_steps(text, start, content_end, begins, last - 1)
        steps = {i - gone for i in ends if i - gone >= kept}
        return Encoded(
            row.ids,
            truncated=row.truncated,
            reply=(kept, end_of_reply),
            steps=tuple(sorted(steps)),
            unreadable="" if end_of_reply > kept else NO_TOKENS,
        )

    def _ends_of_steps(self, text: str, start: int, end: int, begins: Sequence[int], last: int) -> list[int]:
        """Return the token that holds the last character of each separator, and the last of the reply.

        The last step needs no separator after it: without one it ends with the reply.
        """
        if not self._step:
            return []
        found, done = list[int](), start
        while (at := text.find(self._step, done, end)) >= 0:
            done = at + len(self._step)
            found.append(max(i for i, begin in enumerate(begins) if begin < done))
        return found if found and not text[done:end].strip() else [*found, last]


def reply_of(row: Encoded) -> tuple[int, int]:
    """Return the places of the reply's tokens, [first, end)."""
    if row.reply is None:
        raise ScoringError("the text format does not tell where the reply is")
    return row.reply


def _n_common(left: str, right: str) -> int:
    """Return how many characters two texts begin with in common."""
    if right.startswith(left):
        return len(left)
    return next((i for i, (a, b) in enumerate(zip(left, right, strict=False)) if a != b), len(right))


def token_begins(places: Sequence[tuple[int, int]]) -> list[int]:
    """Return where each token begins; a token of white space may have an empty place at its end."""
    before = [0, *(place[1] for place in places)]
    return [place[0] if place[1] > place[0] else before[i] for i, place in enumerate(places)]
