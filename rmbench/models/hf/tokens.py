"""Models that read tokens: the cache of token ids, and what all adapters of Hugging Face models share."""

import json
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import nan
from threading import Lock
from typing import Any, Protocol, Self

from rmbench.core.files import conversation_key, digest
from rmbench.errors import ConfigError, ScoringError, UnwritableError
from rmbench.models.hf.checkpoint import Checkpoint
from rmbench.models.hf.device import dtype_name, tokens_at_once
from rmbench.models.hf.forward import Together
from rmbench.models.hf.text import NO_TOKENS, Encoded, TemplatedFormat, TextFormat
from rmbench.models.hf.trust.known import KnownTokens
from rmbench.models.hf.trust.probe import PROBES, LengthWatch, Probe
from rmbench.models.messages import is_blank
from rmbench.models.runtime import Dtype, Runtime
from rmbench.types import Conversation, Scored, Turn

_CACHED_TOKENS = 4_000_000
_CHUNK = 256
"""Conversations tokenised under one lock: the longest wait for one of them."""

REFUSED = "the chat template refuses an empty response"
"""Why a conversation has no reward."""
_ANY_REPLY = "x"


class TokenModel:
    """Base of every model that reads tokens.

    Args:
        tokens: Encodes conversations.
    """

    def __init__(self, tokens: "Tokens") -> None:
        self._tokens = tokens
        self.display_name, self.max_length = tokens.name, tokens.max_length
        self.text_format = tokens.text_format

    def encode(self, batch: Sequence[Conversation]) -> list[Encoded]:
        """Return the token ids that the model reads for each conversation; see `Tokens.encode`."""
        return self._tokens.encode(batch)

    def lengths(self, batch: Sequence[Conversation]) -> list[int]:
        """Return the tokens of each conversation after truncation; they are kept for `score`."""
        return [len(row.ids) for row in self.encode(batch)]

    def prepare(self, batch: Sequence[Conversation]) -> None:
        """Begin to tokenise conversations that will be asked for, in a thread."""
        self._tokens.prepare(batch)

    def refusal(self, batch: Sequence[Conversation]) -> str:
        """Return the kind of reason why one of them cannot be written; empty if all can."""
        try:
            self.encode(batch)
        except UnwritableError as error:
            return error.reason
        return ""

    def written(self, conversation: Conversation) -> list[str]:
        """Return the text that a chat template makes of a conversation; empty for none, or if it refuses."""
        form = self.text_format
        try:
            text = form.templated(conversation) if isinstance(form, TemplatedFormat) else None
        except UnwritableError:  # such an empty reply is counted as one without a reward
            return []
        return [] if text is None else [text]

    def notes(self) -> list[str]:
        """Return remarks for the user; those on the text format come first."""
        return list(self.text_format.notes())

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change a score; here: how texts become tokens."""
        return {
            "format": self.text_format.identity,
            "max_length": str(self.max_length),
            "truncation": "left-keep-bos",
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """How checkpoints are loaded and read: the options that all Hugging Face adapters take."""

    runtime: Runtime
    chat_template: str
    """`auto`, `plain`, or the path of a Jinja file."""
    attn: str
    """Attention implementation, or `auto`."""
    share_prompts: bool
    """Whether the common beginning of a batch's conversations may be read once."""


class States(Protocol):
    """Reads token ids with one model."""

    together: Together
    """Which texts are read together."""

    def identity(self, max_length: int) -> Mapping[str, str]:
        """Return what tells rewards from those of versions of rmbench that read such a model wrongly."""
        ...

    @property
    def sharing_problem(self) -> str | None:
        """Why a prompt is read again for each of its candidates; None where it is read once."""
        ...

    def joint_length(self, rows: Sequence[Encoded]) -> int | None:
        """Return the tokens read for these rows in one batch; None where each is a padded row."""
        ...


class Reader:
    """One checkpoint, loaded.

    Args:
        checkpoint: Where it is.
        model: The model of transformers.
        states: Reads token ids with it.
        weights: Identity of the files that it was loaded from.
    """

    def __init__(self, checkpoint: Checkpoint, model: Any, states: States, weights: str) -> None:
        self.checkpoint, self.model, self.states, self.weights = checkpoint, model, states, weights

    def fingerprint(self) -> dict[str, str]:
        """Return what can change a hidden state: attention, dtype, weights."""
        return {
            "attention": str(getattr(self.model.config, "_attn_implementation", None)),
            "dtype": dtype_name(self.model),
            "weights": self.weights,
        }


class HFModel(TokenModel):
    """Base of the Hugging Face adapters, which say only what differs.

    Args:
        tokens: Encodes conversations.
        tokenizer: Of the first reader.
        readers: The checkpoints that read each conversation; a reference comes second.
        made_of: The arguments of the subclass, a `Setup` first: `recast` makes it again.
    """

    def __init__(
        self, tokens: "Tokens", tokenizer: Any, readers: Sequence[Reader], made_of: tuple[Any, ...] = ()
    ) -> None:
        super().__init__(tokens)
        self.tokenizer, self.readers, self._made_of = tokenizer, list(readers), made_of
        tokens.known = KnownTokens(tokenizer, [reader.model for reader in self.readers])
        self._found_out: list[str] = []
        self._watch: LengthWatch | None = None

    @property
    def model(self) -> Any:
        """The model of transformers."""
        return self.readers[0].model

    @property
    def sharing_problem(self) -> str | None:
        """Why a prompt is read again for each of its candidates; None where it is read once."""
        return self.readers[0].states.sharing_problem

    def fingerprint(self) -> dict[str, str]:
        """Return whatever can change a score."""
        found = {**super().fingerprint(), **self.readers[0].fingerprint()}
        for k, reader in enumerate(self.readers):
            other = "" if k == 0 else f"_{k + 1}"
            found |= {f"{key}{other}": told for key, told in reader.states.identity(self.max_length).items()}
        return found

    def compare_with_own(self, advice: str) -> None:
        """Compare with the model's own forward pass, alone and in a batch, before any reward is given.

        Args:
            advice: What to do where they differ.

        Raises:
            ConfigError: If the model's own forward pass gives other rewards.
        """
        reader = self.readers[0]
        where = reader.checkpoint.location
        try:
            rows = self.encode(PROBES)
            if any(row.unreadable for row in rows):
                return
            probe = Probe(
                where=where, model=reader.model, together=reader.states.together,
                numbers=self.numbers, own=self._own_reward, advice=advice,
            )  # fmt: skip
            self._found_out = probe.run(rows)
        except UnwritableError as error:
            raise ConfigError(f"{where}: a question and its reply cannot be read: {error}") from None
        except ScoringError:
            return  # cut to so few tokens, the probe lacks the one that is read; so does every text
        self._watch = LengthWatch(reader.model, max(len(row.ids) for row in rows))

    def score(self, batch: Sequence[Conversation]) -> list[Scored]:
        """Return one reward per conversation."""
        rows = self.encode(batch) if batch else []
        numbers = self.numbers(rows) if rows else []
        if rows and self._watch is not None:
            self._watch.look(rows, numbers, self._in_one_pass)
        return [scored(row, number) for number, row in zip(numbers, rows, strict=True)]

    def numbers(self, rows: Sequence[Encoded]) -> list[float]:
        """Return one number per row, whether it can be read or not."""
        raise NotImplementedError

    def _in_one_pass(self, rows: Sequence[Encoded]) -> list[float]:
        with self.readers[0].states.together.in_one_pass():
            return self.numbers(rows)

    def joint_length(self, batch: Sequence[Conversation]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        rows = self.encode(batch)
        found = [reader.states.joint_length(rows) for reader in self.readers]
        return None if None in found else found[0]

    def batch_tokens(self) -> int:
        """Return how many tokens to give it at once: what fits, and no more than makes it faster."""
        return min(tokens_at_once(reader.model) for reader in self.readers)

    def n_parameters(self) -> int:
        """Return the number of weights, tied ones once; those of a reference are not counted."""
        return sum(weight.numel() for weight in self.model.parameters())

    def special_tokens(self) -> list[str]:
        """Return the texts that the tokenizer reads as control tokens, in a reply too."""
        added = getattr(self.tokenizer, "added_tokens_decoder", {}).values()
        named = {str(token) for token in added if token.special} | set(self.tokenizer.all_special_tokens)
        return sorted(token for token in named if token.strip())

    def notes(self) -> list[str]:
        """Return remarks on the format, the model, and prompts that are read again."""
        return [*super().notes(), *self._remarks(), *self._reading_remarks(), *self._sharing_remarks()]

    def recast(self, dtype: Dtype) -> Self:
        """Return the same model in another dtype, loaded again: a cast would round its buffers too."""
        setup, *rest = self._made_of
        return type(self)(replace(setup, runtime=replace(setup.runtime, dtype=dtype)), *rest)

    def diagnose(self, conversation: Conversation) -> dict[str, Any]:
        """Return what `rmbench check` asks about one conversation.

        Keys: `double_bos`, None where the tokenizer has no BOS; `own_forward_gap`, the distance to the reward
        that transformers' own forward pass gives, None where that pass cannot be compared.
        """
        row = self.encode([conversation])[0]
        bos, own = self.tokenizer.bos_token_id, self._own_reward(row)
        return {
            "double_bos": None if bos is None else list(row.ids[:2]) == [bos, bos],
            "own_forward_gap": None if own is None else abs(own - self.score([conversation])[0].reward),
        }

    def _own_reward(self, row: Encoded) -> float | None:
        """Return the reward from transformers' own forward pass; None where it cannot be compared."""
        raise NotImplementedError

    def _remarks(self) -> list[str]:
        """Return remarks on the model."""
        return []

    def _reading_remarks(self) -> list[str]:
        """Return what the probe found, lengths at which the model reads otherwise, and unknown tokens."""
        switches = [n for n in self.readers[0].states.together.switches if n < self.max_length]
        return [
            *self._found_out,
            *(f"texts above {n:,} tokens have other positions, and are read apart" for n in switches),
            *([] if self._tokens.known is None else self._tokens.known.notes()),
        ]

    def _sharing_remarks(self) -> list[str]:
        """Return why prompts are read again for each candidate."""
        found = []
        for reader in self.readers:
            if problem := reader.states.sharing_problem:
                by = f" by {reader.checkpoint.name}" if len(self.readers) > 1 else ""
                found.append(f"each candidate's prompt is read again{by}: {problem}")
        return found


def scored(row: Encoded, reward: float) -> Scored:
    """Return the reward of a row; NaN with the reason for a row that could not be written."""
    if row.unreadable:
        return Scored(nan, why=row.unreadable)
    return Scored(reward, len(row.ids), row.truncated)


def pad_id_of(model: Any, tokenizer: Any) -> int:
    """Return the id that fills masked places."""
    # RoBERTa numbers positions by the config's padding id; for the others any id does.
    ids = [getattr(owner, "pad_token_id", None) for owner in (model.config, tokenizer)]
    return next(int(i) for i in (*ids, tokenizer.eos_token_id, 0) if i is not None and i >= 0)


def tokenizer_identity(tokenizer: Any) -> str:
    """Return a hash of the rules of a fast tokenizer.

    Padding and truncation are left out: they are set as a tokenizer is used, and saved with it.
    """
    rules = json.loads(tokenizer.backend_tokenizer.to_str())
    rules = {key: value for key, value in rules.items() if key not in ("padding", "truncation")}
    special = {name: str(token) for name, token in tokenizer.special_tokens_map.items()}
    return digest([rules, special], 16)


class Tokens:
    """Encodes conversations, and keeps what was encoded last.

    Args:
        text_format: How a conversation is written.
        max_length: Most tokens of one.
        name: Of the model, for messages.
    """

    def __init__(self, text_format: TextFormat, max_length: int, name: str) -> None:
        self.text_format, self.max_length, self.name = text_format, max_length, name
        self.known: KnownTokens | None = None
        """Refuses texts with tokens that the model does not have; None: not known."""
        self._kept: OrderedDict[str, Encoded] = OrderedDict()
        self._n_kept = 0
        self._lock = Lock()
        # A tokenizer is not safe for two threads at once. It has a lock of its own, so that nobody waits for
        # it who needs cached rows only.
        self._tokenizing = Lock()
        self._thread: ThreadPoolExecutor | None = None

    def prepare(self, batch: Sequence[Conversation]) -> None:
        """Begin to encode `batch` in a thread; `encode` raises the errors."""
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="tokens")
        for start in range(0, len(batch), _CHUNK):
            self._thread.submit(self.encode, batch[start : start + _CHUNK])

    def encode(self, batch: Sequence[Conversation]) -> list[Encoded]:
        """Return `batch` as token ids.

        A conversation whose empty response the format cannot write is a row of one token that says so
        (`Encoded.unreadable`).

        Raises:
            UnwritableError: If the chat template refuses another, or it has tokens that the model lacks.
            ScoringError: If another has no tokens at all.
        """
        keys = [conversation_key(turns) for turns in batch]
        asked = dict(zip(keys, batch, strict=True))
        found = self._known(asked)
        if len(found) < len(asked):
            with self._tokenizing:
                found |= self._known(asked)  # the thread may have been at it
                new = {key: turns for key, turns in asked.items() if key not in found}
                fresh = self._encoded(list(new.values()))
                if self.known is not None:
                    self.known.check(list(new.values()), fresh)
                self._keep(dict(zip(new, fresh, strict=True)))
                found |= zip(new, fresh, strict=True)
        return [found[key] for key in keys]

    def _encoded(self, batch: Sequence[Conversation]) -> list[Encoded]:
        try:
            rows = self.text_format.encode(batch, self.max_length) if batch else []
        except ScoringError:
            if not any(_is_empty(turns) for turns in batch):
                raise
            rows = [self._one(turns) for turns in batch]
        bare = [k for k, row in enumerate(rows) if not row.ids]
        if n := sum(not _is_empty(batch[k]) for k in bare):
            raise ScoringError(f"{self.name}: {n} conversations have no tokens at all")
        for k in bare:
            rows[k] = _unreadable(NO_TOKENS)
        return rows

    def _one(self, turns: Conversation) -> Encoded:
        try:
            return self.text_format.encode([turns], self.max_length)[0]
        except ScoringError:
            if not _is_empty(turns):
                raise
        # Is it refused for that? Another reply of the same conversation tells.
        self.text_format.encode(
            [[*turns[:-1], Turn(role=turns[-1]["role"], content=_ANY_REPLY)]], self.max_length
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
    return is_blank(turns[-1])


def _unreadable(why: str) -> Encoded:
    return Encoded((0,), reply=(1, 1), unreadable=why)
