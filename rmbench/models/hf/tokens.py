"""Token ids of conversations: made once, ahead of time in a thread, and forgotten when they are many.

Padded rows in groups of similar length: on a CPU, padding costs what tokens cost.
"""

import json
import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import nan
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from rmbench.core.identity import conversation_key, digest
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.hf.attention import is_fast_bfloat16
from rmbench.models.hf.device import torch
from rmbench.models.hf.reply import NO_TOKENS
from rmbench.models.hf.text import Encoded, TextFormat
from rmbench.models.runtime import Runtime
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


def similar_length(lengths: Sequence[int], tokens_per_forward: int) -> list[list[int]]:
    """Return rows in groups of similar length, longest first: the cut that costs a model least.

    A group costs its padded tokens and `tokens_per_forward`. Found exactly, in O(n^2).

    Args:
        lengths: Tokens of each row.
        tokens_per_forward: What one more forward and backward pass costs, in tokens.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    widths = np.asarray(lengths)[order]
    least, first = np.zeros(len(order) + 1), np.zeros(len(order) + 1, dtype=int)
    for end in range(1, len(order) + 1):
        costs = least[:end] + widths[:end] * (end - np.arange(end)) + tokens_per_forward
        first[end] = costs.argmin()
        least[end] = costs[first[end]]
    groups: list[list[int]] = []
    end = len(order)
    while end:
        groups.append(order[first[end] : end].tolist())
        end = int(first[end])
    return groups[::-1]


MAX_LENGTH = 16_384
"""Upper bound of the default token limit: no reply of a public benchmark is longer, and one that is must
not take the memory of a whole batch. `max_length` asks for more."""


# Families whose first usable position is not 0 but the padding index + 1.
_OFFSET_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm",
     "xlm-roberta", "xlm-roberta-xl", "xmod"}
)  # fmt: skip


def checked_length(where: str, config: Any, tokenizer: Any, runtime: Runtime) -> int:
    """Return min(the model's positions, the tokenizer's limit, MAX_LENGTH), or what was asked for."""
    limits = [MAX_LENGTH]
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        if config.model_type in _OFFSET_POSITIONS:
            positions -= int(config.pad_token_id) + 1
        limits.append(positions)
    if runtime.max_length is not None:
        if positions is not None and runtime.max_length > positions:
            raise ConfigError(
                f"{where}: max_length is {runtime.max_length}; the model has {positions} positions"
            )
        return runtime.max_length
    declared = tokenizer.model_max_length
    if isinstance(declared, int) and 0 < declared < 10**9:  # "no limit" is written as 1e30
        limits.append(declared)
    return min(limits)


_MOST_AT_ONCE = {"cpu": 3_072, "cuda": 65_536, "mps": 16_384}
"""Tokens of a batch beyond which nothing gets faster: on a CPU, a layer's work on more leaves the caches."""


_LEAST_AT_ONCE = 256


_SHARE_OF_FREE = 0.5


_MOST_SIDE_BY_SIDE = 8
"""Batches; more threads than that share them."""


def tokens_at_once(model: Any) -> int:
    """Return the tokens of a batch that fit into half of the free memory of the model's device.

    The most that is of use, halved until it fits: so the same machine finds the same number again, and a run
    that is taken up plans the same batches.
    """
    found, needed = _MOST_AT_ONCE[model.device.type], _bytes_per_token(model)
    while found > _LEAST_AT_ONCE and found * needed > _SHARE_OF_FREE * free_bytes(model.device):
        found //= 2
    return found


def batches_at_once(model: Any) -> tuple[int, int]:
    """Return how many batches a CPU computes fastest side by side, and in how many threads each.

    In bfloat16 half of the time goes into small operations that two threads do no faster than one, and after
    each of which they wait for each other; in float32 products take it all, and threads that share a batch
    are as fast.
    """
    n_threads = torch.get_num_threads()
    if not is_fast_bfloat16(model):
        return 1, n_threads
    needed = tokens_at_once(model) * _bytes_per_token(model)
    fit = [n for n in range(1, min(n_threads, _MOST_SIDE_BY_SIDE) + 1)
           if n == 1 or n * needed <= _SHARE_OF_FREE * free_bytes(model.device)]  # fmt: skip
    # As few threads idle as may be, without many fewer batches.
    found = max(fit[len(fit) // 2 :], key=lambda n: (n * (n_threads // n), n))
    return found, n_threads // found


def _bytes_per_token(model: Any) -> int:
    """Return what one layer holds of a token at a time.

    Its input, norms, queries, keys and values gathered for the blocks of attention, their output, and the
    inner layer of its feed-forward part.
    """
    config = model.config.get_text_config()
    hidden = int(getattr(config, "hidden_size", 1_024))
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    return int(model.dtype.itemsize) * (16 * hidden + 4 * inner)


def free_bytes(device: Any) -> int:
    """Return the memory that is free on a device; on a CPU, what the system could hand out."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    if told.is_file():
        lines = dict(line.split(":", 1) for line in told.read_text(encoding="ascii").splitlines())
        if "MemAvailable" in lines:
            return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
