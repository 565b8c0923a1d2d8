"""Token ids of conversations: made once, ahead of time in a thread, and forgotten when they are many."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import nan
from threading import Lock
from typing import Any

from rmbench.canon import conversation_key, digest
from rmbench.errors import ScoringError
from rmbench.models.hf_reply import NO_TOKENS
from rmbench.models.hf_text import Encoded, TextFormat
from rmbench.types import Conversation, Scored, Turn

_CACHED_TOKENS = 4_000_000
_PART = 256
"""Conversations tokenised under one lock: who needs one of them now waits no longer than that."""


REFUSED = "the chat template refuses an empty response"
"""Why a conversation has no reward."""
_ANY_REPLY = "x"


def scored(row: Encoded, reward: float) -> Scored:
    """Return the reward of a row that was read; none, with the reason, of one that could not be written."""
    if row.unreadable:
        return Scored(nan, why=row.unreadable)
    return Scored(reward, len(row.ids), row.truncated)


def tokenizer_identity(tokenizer: Any) -> str:
    """Return a hash of what decides which tokens a text becomes, for a fast tokenizer.

    Padding and truncation are left out: they are set as a tokenizer is used, and saved with it.
    """
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = {key: value for key, value in rules.items() if key not in ("padding", "truncation")}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return digest([rules, special], 16)


class Tokenised:
    """What every model that reads tokens can do."""

    _tokens: "Tokens"

    def lengths(self, batch: Sequence[Conversation]) -> list[int]:
        """Return the tokens of each conversation after truncation; they are kept for `score`."""
        return [len(encoded.ids) for encoded in self._tokens.encode(batch)]

    def prepare(self, batch: Sequence[Conversation]) -> None:
        """Begin to tokenise conversations that will be asked for, in a thread."""
        self._tokens.prepare(batch)


class Tokens:
    """Encodes conversations, and keeps what was encoded last.

    Args:
        text_format: How a conversation is written.
        max_length: Most tokens of one.
        name: Of the model, for messages.
    """

    def __init__(self, text_format: TextFormat, max_length: int, name: str) -> None:
        self.text_format, self._max_length, self._name = text_format, max_length, name
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._n_kept = 0
        self._lock = Lock()
        # A tokenizer is not safe to be asked by two threads at once. Apart from the other lock, so that who
        # needs what is known already does not wait for it.
        self._tokenizing = Lock()
        self._thread: ThreadPoolExecutor | None = None

    def prepare(self, batch: Sequence[Conversation]) -> None:
        """Begin to encode `batch` in a thread; what goes wrong is raised when it is asked for."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        for start in range(0, len(batch), _PART):
            self._thread.submit(self.encode, batch[start : start + _PART])

    def encode(self, batch: Sequence[Conversation]) -> list[Encoded]:
        """Return `batch` as token ids.

        A conversation that ends with an empty response, and that cannot be written for that, is a row of one
        token that says so (`Encoded.unreadable`).

        Raises:
            ScoringError: If another has no tokens at all, or the chat template refuses it.
        """
        keys = [conversation_key(turns) for turns in batch]
        asked = dict(zip(keys, batch, strict=True))
        found = self._known(asked)
        if len(found) < len(asked):
            with self._tokenizing:
                found |= self._known(asked)  # the thread may have been at it
                new = {key: turns for key, turns in asked.items() if key not in found}
                fresh = self._encoded(list(new.values()))
                self._keep(dict(zip(new, fresh, strict=True)))
                found |= zip(new, fresh, strict=True)
        return [found[key] for key in keys]

    def _encoded(self, batch: Sequence[Conversation]) -> list[Encoded]:
        try:
            rows = self.text_format.encode(batch, self._max_length) if batch else []
        except ScoringError:
            if not any(_is_empty(turns) for turns in batch):
                raise
            rows = [self._one(turns) for turns in batch]
        bare = [k for k, row in enumerate(rows) if not row.ids]
        if n := sum(not _is_empty(batch[k]) for k in bare):
            raise ScoringError(f"{self._name}: {n} conversations have no tokens at all")
        for k in bare:
            rows[k] = _unreadable(NO_TOKENS)
        return rows

    def _one(self, turns: Conversation) -> Encoded:
        try:
            return self.text_format.encode([turns], self._max_length)[0]
        except ScoringError:
            if not _is_empty(turns):
                raise
        # Is it refused for that? Another reply of the same conversation tells.
        self.text_format.encode(
            [[*turns[:-1], Turn(role=turns[-1]["role"], content=_ANY_REPLY)]], self._max_length
        )
        return _unreadable(REFUSED)

    def _known(self, keys: Iterable[str]) -> dict[str, Encoded]:
        with self._lock:
            known = {key: self._kept[key] for key in keys if key in self._kept}
            for key in known:
                self._kept.move_to_end(key)
            return known

    def _keep(self, fresh: Mapping[str, Encoded]) -> None:
        with self._lock:
            for key, row in fresh.items():
                self._kept[key] = row
                self._n_kept += len(row.ids)
            while self._n_kept > _CACHED_TOKENS:
                _, dropped = self._kept.popitem(last=False)
                self._n_kept -= len(dropped.ids)


def _is_empty(turns: Conversation) -> bool:
    return not turns[-1]["content"].strip()


def _unreadable(why: str) -> Encoded:
    return Encoded((0,), reply=(1, 1), unreadable=why)
