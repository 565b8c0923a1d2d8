"""Token ids of conversations: made once, ahead of time in a thread, and forgotten when they are many."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Lock
from typing import Any

from rmbench.canon import conversation_key, digest
from rmbench.errors import ScoringError
from rmbench.models.hf_text import Encoded, TextFormat
from rmbench.types import Conversation

_CACHED_TOKENS = 4_000_000
_PART = 256
"""Conversations tokenised under one lock: who needs one of them now waits no longer than that."""


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

        Raises:
            ScoringError: If one has none at all, or the chat template refuses it.
        """
        keys = [conversation_key(turns) for turns in batch]
        asked = dict(zip(keys, batch, strict=True))
        found = self._known(asked)
        if len(found) < len(asked):
            with self._tokenizing:
                found |= self._known(asked)  # the thread may have been at it
                new = {key: turns for key, turns in asked.items() if key not in found}
                fresh = self.text_format.encode(list(new.values()), self._max_length) if new else []
                self._keep(dict(zip(new, fresh, strict=True)))
                found |= zip(new, fresh, strict=True)
        if empty := [key for key in found if not found[key].ids]:
            raise ScoringError(f"{self._name}: {len(empty)} conversations have no tokens at all")
        return [found[key] for key in keys]

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
