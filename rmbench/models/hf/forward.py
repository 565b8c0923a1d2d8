"""One forward pass: from token ids to rewards, the cheaper of two ways.

padded   Every conversation is a row, padded on the right to the longest. For encoders, and for decoders that
         cannot do better.
shared   The distinct tokens of the batch stand in one row, a common prompt once (`hf_shared`). For decoders
         that pass its probe, where it means less work.

Hidden states at chosen tokens, for models that say something of each token: the cheaper of two ways.

As in `hf_forward`, where only the last token counts: the distinct tokens of a batch in one row, a common
prompt once, for decoders that pass the probe of `hf_shared` and where it means less work; else padded rows.

The last layer of an encoder computes one token, where that is all its head reads.

Classifiers such as BERT's read the state of the first token. Their last layer needs keys and values of the
whole text, but queries, output and feed-forward network of that token alone: of six layers a seventh of all
products is saved, of twelve a fourteenth.

Whether a model is of that kind is not looked up but tried on made-up tokens: `FirstToken.probe` spoils what
the last layer gives of all other tokens, compares the logits of the two ways, and says what is in the way.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property
from typing import Any

import numpy as np

from rmbench.models.hf.attention import PRODUCTS, is_compiled, register_attention
from rmbench.models.hf.checkpoint import Readout
from rmbench.models.hf.device import Memory
from rmbench.models.hf.forest import Forest, share_beginnings
from rmbench.models.hf.load import Loaded, torch, transformers
from rmbench.models.hf.sharing import SharedBackbone
from rmbench.models.hf.text import Encoded
from rmbench.models.hf.tokens import similar_length

_NAME = "rmbench_first_token"
_USUAL = ("sdpa", PRODUCTS)
"""Implementations that take fewer queries than keys."""
PROBE_TOLERANCE = {"float32": 1e-5, "float64": 1e-5}
_PROBE_TOLERANCE_OF_HALF = 0.05
_PROBE_LENGTHS = (7, 23, 12)


class NotNarrowableError(Exception):
    """A model's last layer cannot compute the first token alone; the text says why."""


class FirstToken:
    """Lets the last layer of an encoder compute the first token of each row alone.

    Args:
        model: A sequence classifier whose backbone is an encoder.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        stacks = [m for m in model.base_model.modules() if isinstance(m, torch.nn.ModuleList)]
        self._layer = max(stacks, key=len)[-1] if stacks else None
        self._usual = str(model.config._attn_implementation)
        self._whole: Any = None
        """What the last layer was given, (B, T, D)."""
        self._first: Any = None
        """Its first token, (B, 1, D)."""
        self._made: dict[int, tuple[Any, Any]] = {}
        """Where a projection of that lies -> the linear layer that made it, and the projection: while it is
        held, nothing else can lie there."""

    def probe(self, run: Callable[[list[tuple[int, ...]]], Any]) -> str | None:
        """Return why this model's last layer has to compute every token, or None.

        Args:
            run: Function of made-up texts, a tuple of token ids each: their logits, (B, labels).
        """
        if self._usual not in _USUAL:
            return f"its attention is {self._usual!r}"
        if self._layer is None or is_compiled(self._model):
            return "it is compiled" if self._layer else "it has no list of layers"
        rows = _probe_rows(self._model.config)
        try:
            with self.narrowed():
                narrow = run(rows).double()
        except NotNarrowableError as error:
            return str(error)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            # Foreign architectures fail in their own ways; each means the same.
            return f"{type(error).__name__}: {error}"
        full = run(rows).double()
        with self._others_spoilt():
            if not torch.equal(run(rows).double(), full):  # of small logits the gap alone tells too little
                return "its head reads more than the first token"
        gap = float(((narrow - full).abs() / full.abs().clamp_min(1.0)).max())
        dtype = str(self._model.dtype).removeprefix("torch.")
        if not gap <= PROBE_TOLERANCE.get(dtype, _PROBE_TOLERANCE_OF_HALF):  # NaN fails too
            return f"its logits would differ by {gap:.1g}"
        return None

    @contextmanager
    def narrowed(self) -> Iterator[None]:
        """Let the last layer do so, for the forward passes within."""
        layer: Any = self._layer
        linears = [m for m in layer.modules() if isinstance(m, torch.nn.Linear)]
        hooks = [
            layer.register_forward_pre_hook(self._narrow, with_kwargs=True),
            *[m.register_forward_hook(self._note) for m in linears],
        ]
        token = _NARROWED.set(self)
        try:
            self._model.set_attn_implementation(_registered(self._model))
            yield
        finally:
            self._model.set_attn_implementation(self._usual)
            _NARROWED.reset(token)
            for hook in hooks:
                hook.remove()
            self._forget()

    @contextmanager
    def _others_spoilt(self) -> Iterator[None]:
        """Let the last layer give NaN for every token but the first, in forward passes with all of them."""

        def spoil(_layer: Any, _arguments: Any, output: Any) -> Any:
            states, *more = output if isinstance(output, tuple) else (output,)
            spoilt = torch.full_like(states, float("nan"))
            spoilt[:, :1] = states[:, :1]
            return (spoilt, *more) if isinstance(output, tuple) else spoilt

        layer: Any = self._layer
        hook = layer.register_forward_hook(spoil)
        try:
            yield
        finally:
            hook.remove()

    def _forget(self) -> None:
        self._whole = self._first = None
        self._made.clear()

    def _narrow(self, _layer: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Before the last layer: hand on the first token, and masks for it alone."""
        self._forget()
        self._whole = arguments[0] if arguments else named["hidden_states"]
        self._first = self._whole[:, :1]

        def of_first(value: Any) -> Any:
            if value is self._whole:
                return self._first
            is_mask = isinstance(value, torch.Tensor) and value.dim() == 4  # (B, 1, T, T)
            return value[:, :, :1] if is_mask else value

        return tuple(map(of_first, arguments)), {name: of_first(value) for name, value in named.items()}

    def _note(self, module: Any, arguments: tuple[Any, ...], output: Any) -> None:
        """After a linear layer of the last layer: remember which one made what from the first token."""
        if arguments[0] is self._first:
            self._made[output.data_ptr()] = (module, output)

    def attend(self, module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
        """Attend as usual; in the last layer, to the whole text."""
        if self._made:
            key, value = self._projected(key), self._projected(value)
        known: Any = transformers.AttentionInterface
        return known()[self._usual](module, query, key, value, mask, **more)

    def _projected(self, narrow: Any) -> Any:
        """Return (B, H, T, D) of the whole text, by the projection that made (B, H, 1, D)."""
        if narrow.data_ptr() not in self._made:
            raise NotNarrowableError("its keys and values are more than a projection of the layer's input")
        made_by, _ = self._made[narrow.data_ptr()]
        _, n_heads, _, width = narrow.shape
        return made_by(self._whole).unflatten(-1, (n_heads, width)).transpose(1, 2)


_NARROWED: ContextVar[FirstToken] = ContextVar("narrowed")


def _attend(module: Any, query: Any, key: Any, value: Any, mask: Any, **more: Any) -> Any:
    return _NARROWED.get().attend(module, query, key, value, mask, **more)


def _registered(model: Any) -> str:
    name = register_attention(_NAME, _attend, model.base_model)
    masks: Any = transformers.AttentionMaskInterface
    masks.register(name, masks()["sdpa"])
    return name


def _probe_rows(config: Any) -> list[tuple[int, ...]]:
    """Return texts of several lengths, without a padding id."""
    ids = [i for i in range(min(int(config.vocab_size), 500)) if i != config.pad_token_id]
    return [tuple(ids[(3 + 31 * k * k + 7 * k + n) % len(ids)] for k in range(n)) for n in _PROBE_LENGTHS]


_LOG = logging.getLogger(__name__)
TOKENS_PER_SEGMENT = 4
"""What one more segment costs, in tokens: its attention is computed apart from the others'."""

_TOKENS_PER_FORWARD = 32
"""What one more forward pass costs on a CPU, in tokens per thread: its small operations."""


class Forward:
    """Runs a classifier on encoded conversations.

    Args:
        loaded: The classifier.
        readout: Which logits are the reward.
        pad_id: Fills masked places.
        share: False reads every conversation in a row of its own.
    """

    def __init__(self, loaded: Loaded, readout: Readout, pad_id: int, *, share: bool = True) -> None:
        self._model, self._is_encoder = loaded.model, loaded.is_encoder
        self._readout, self._pad_id, self._share = readout, pad_id, share
        self._memory = Memory()

    @cached_property
    def sharing_problem(self) -> str | None:
        """Why conversations are not read together without padding; None where they are."""
        if self._is_encoder:
            return "an encoder: every token sees the whole text"
        if not self._share:
            return "it was asked not to"
        problem = self._shared.probe(lambda ids: self._last_hidden([Encoded(tuple(ids))])[0])
        if problem is not None:
            _LOG.info("prompts are not shared: %s", problem)
        return problem

    def rewards(self, rows: Sequence[Encoded]) -> list[float]:
        """Return the raw logit of each conversation.

        Raises:
            torch.OutOfMemoryError: If the batch is too large; the next one begins with what that leaves free.
        """
        with self._memory.in_use(self._model.device):
            return self._rewards(rows)

    def _rewards(self, rows: Sequence[Encoded]) -> list[float]:
        forest = None if self.sharing_problem else share_beginnings([row.ids for row in rows])
        with torch.inference_mode():
            if forest is not None and pays(self._shared, forest, rows, self._model.device):
                logits = self._model.score(self._shared.last_hidden(forest).float())
                return self._readout.rewards(logits)
            rewards = [0.0] * len(rows)
            for group in self._groups(rows):
                found = self._readout.rewards(self._padded_logits([rows[k] for k in group]))
                for k, reward in zip(group, found, strict=True):
                    rewards[k] = reward
        return rewards

    def _padded_logits(self, rows: Sequence[Encoded]) -> Any:
        """Return the logits of rows that are read together, (B, labels)."""
        if self._is_encoder:
            with nullcontext() if self.narrowing_problem else self._first_token.narrowed():
                return self._model(**self._padded(rows)).logits
        return self._model.score(self._last_hidden(rows).float())

    def _groups(self, rows: Sequence[Encoded]) -> list[list[int]]:
        return groups_of_rows(self._model.device, rows)

    def joint_length(self, rows: Sequence[Encoded]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        if self.sharing_problem:
            return None
        forest = share_beginnings([row.ids for row in rows])
        return None if self._shared.why_not(forest) else forest.n_tokens

    @cached_property
    def narrowing_problem(self) -> str | None:
        """Why an encoder's last layer computes every token; None where the first is enough."""

        def logits(rows: Sequence[tuple[int, ...]]) -> Any:
            return self._model(**self._padded([Encoded(row) for row in rows])).logits

        with torch.inference_mode():
            problem = self._first_token.probe(logits)
        if problem is not None:
            _LOG.info("the last layer computes every token: %s", problem)
        return problem

    @cached_property
    def _first_token(self) -> FirstToken:
        return FirstToken(self._model)

    @cached_property
    def _shared(self) -> SharedBackbone:
        return SharedBackbone(self._model)

    def _last_hidden(self, rows: Sequence[Encoded]) -> Any:
        """Return the hidden state of the last attended token of each row, (B, D)."""
        backbone = getattr(self._model, self._model.base_model_prefix)
        inputs = self._padded(rows)
        alone = self._shared.reading_rows() if self._share else nullcontext()
        with alone, torch.inference_mode():
            hidden = backbone(**inputs, use_cache=False).last_hidden_state  # (B, T, D)
        places = torch.arange(hidden.shape[1], device=hidden.device)
        last = (places * inputs["attention_mask"]).argmax(dim=1)  # by mask, never by padding id
        return hidden[torch.arange(len(rows), device=hidden.device), last]

    def _padded(self, rows: Sequence[Encoded]) -> dict[str, Any]:
        return padded(rows, self._pad_id, self._model.device)


def pays(shared: SharedBackbone, forest: Forest, rows: Sequence[Encoded], device: Any) -> bool:
    """Return whether reading rows as a forest is possible, and less work than padding them."""
    groups = [[len(rows[k].ids) for k in group] for group in groups_of_rows(device, rows)]
    n_padded = sum(len(lengths) * max(lengths) for lengths in groups)
    n_shared = forest.n_tokens + TOKENS_PER_SEGMENT * (len(forest.starts) - 1)
    return n_shared <= n_padded and shared.why_not(forest) is None


def padded(rows: Sequence[Encoded], pad_id: int, device: Any) -> dict[str, Any]:
    """Return a model's inputs, (B, T) each, padded on the right; type ids only where all rows have them."""
    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask, types = (torch.zeros((len(rows), width), dtype=torch.long) for _ in range(2))
    for k, row in enumerate(rows):
        ids[k, : len(row.ids)] = torch.tensor(row.ids)
        mask[k, : len(row.ids)] = 1
        if row.type_ids is not None:
            types[k, : len(row.ids)] = torch.tensor(row.type_ids)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if all(row.type_ids is not None for row in rows):
        inputs["token_type_ids"] = types
    return {name: value.to(device) for name, value in inputs.items()}


def groups_of_rows(device: Any, rows: Sequence[Encoded]) -> list[list[int]]:
    """Return which rows are read together: all, or on a CPU those of similar length."""
    if device.type != "cpu":
        return [list(range(len(rows)))]
    return similar_length([len(row.ids) for row in rows], _TOKENS_PER_FORWARD * torch.get_num_threads())


class TokenStates:
    """Runs the backbone of a decoder.

    Args:
        model: A model of transformers, on its device.
        pad_id: Fills masked places.
        share: False reads every conversation in a row of its own.
    """

    def __init__(self, model: Any, pad_id: int, *, share: bool = True) -> None:
        self._model, self._pad_id, self._share = model, pad_id, share
        self._memory = Memory()

    @cached_property
    def sharing_problem(self) -> str | None:
        """Why conversations are not read together without padding; None where they are."""
        if not self._share:
            return "it was asked not to"
        problem = self._shared.probe(self._last_of)
        if problem is not None:
            _LOG.info("prompts are not shared: %s", problem)
        return problem

    def joint_length(self, rows: Sequence[Encoded]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        if self.sharing_problem:
            return None
        forest = share_beginnings([row.ids for row in rows])
        return None if self._shared.why_not(forest) else forest.n_tokens

    def at(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> Any:
        """Return the hidden states at some places of each row, (sum of places, D), row after row.

        Raises:
            torch.OutOfMemoryError: If the batch is too large; the next one begins with what that leaves free.
        """
        with self._memory.in_use(self._model.device), torch.inference_mode():
            forest = None if self.sharing_problem else share_beginnings([row.ids for row in rows])
            if forest is not None and pays(self._shared, forest, rows, self._model.device):
                return self._in_forest(forest, places)
            parts: list[Any] = [None] * len(rows)
            for group in groups_of_rows(self._model.device, rows):
                found = self._in_padded_rows([rows[k] for k in group], [places[k] for k in group])
                for k, part in zip(group, found.split([len(places[k]) for k in group]), strict=True):
                    parts[k] = part
            return torch.cat(parts)

    @cached_property
    def _shared(self) -> SharedBackbone:
        return SharedBackbone(self._model)

    def _in_forest(self, forest: Forest, places: Sequence[Sequence[int]]) -> Any:
        at = np.concatenate([forest.path(k)[np.asarray(p, dtype=np.int64)] for k, p in enumerate(places)])
        return self._shared.hidden(forest)[torch.from_numpy(at).to(self._model.device)]

    def _in_padded_rows(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> Any:
        inputs = padded(rows, self._pad_id, self._model.device)
        hidden = self._model.base_model(**inputs, use_cache=False).last_hidden_state  # (B, T, D)
        of_row = torch.tensor([k for k, found in enumerate(places) for _ in found], dtype=torch.long)
        at = torch.tensor([place for found in places for place in found], dtype=torch.long)
        return hidden[of_row, at]

    def _last_of(self, ids: Sequence[int]) -> Any:
        with torch.inference_mode():
            return self._in_padded_rows([Encoded(tuple(ids))], [[len(ids) - 1]])[0]
