"""Forward passes: from token ids to hidden states of a decoder, or to logits of an encoder.

A decoder reads a batch in the cheaper of two ways.

shared   The distinct tokens of the batch stand in one row, a common prompt once (`SharedBackbone`). For
         decoders that pass its probe, where it means less work.
padded   Every conversation is a row, padded on the right to the longest of its group.

Classifiers on encoders such as BERT read the state of the first token. Their last layer needs keys and values
of the whole text, but queries, output and feed-forward network of that token alone. That saves a seventh of
all products of six layers, a fourteenth of twelve. `FirstToken.probe` finds out whether a model allows it: it
spoils the last layer's output for all other tokens and compares the logits of the two ways.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property
from typing import Any, Literal

import numpy as np

from rmbench.models.hf.attention import PRODUCTS, is_compiled, register_attention
from rmbench.models.hf.device import Memory, allowed_gap
from rmbench.models.hf.forest import Forest, share_beginnings
from rmbench.models.hf.load import torch, transformers
from rmbench.models.hf.sharing import SharedBackbone, made_up_ids
from rmbench.models.hf.text import Encoded
from rmbench.models.hf.trust.lengths import side_of, switches

_LOG = logging.getLogger(__name__)
TOKENS_PER_SEGMENT = 4
"""Cost of one more segment, in tokens: its attention is computed apart from the others'."""
TOKENS_PER_FORWARD = 32
"""Cost of one more forward pass on a CPU, in tokens per thread: its small operations."""


class Together:
    """Which rows of a batch one forward pass may read.

    Args:
        model: A model of transformers.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self.switches = switches(model.config)
        """Lengths at which the model changes its positions: texts on two sides are never read together."""
        self.by: Literal["similar length", "equal length", "one"] = "similar length"

    @property
    def is_free(self) -> bool:
        """Whether no reward depends on the other texts of a batch, as far as the probe found."""
        return self.by == "similar length"

    def identity(self, max_length: int) -> dict[str, str]:
        """Return what tells rewards from those of versions of rmbench that read such a model wrongly."""
        found: list[str] = [] if self.is_free else [self.by]
        found += [f"switch:{switch}" for switch in self.switches if switch < max_length]
        return {"together": ",".join(found)} if found else {}

    def sides(self, rows: Sequence[Encoded]) -> list[list[int]]:
        """Return which rows are on the same side of every switch."""
        found: dict[int, list[int]] = {}
        for k, row in enumerate(rows):
            found.setdefault(side_of(len(row.ids), self.switches), []).append(k)
        return list(found.values())

    def groups(self, rows: Sequence[Encoded]) -> list[list[int]]:
        """Return which rows are read in the same forward pass, as padded rows."""
        if _ONE_PASS.get():
            return self.sides(rows)
        if self.by == "one":
            return [[k] for k in range(len(rows))]
        if self.by == "equal length":
            found: dict[int, list[int]] = {}
            for k, row in enumerate(rows):
                found.setdefault(len(row.ids), []).append(k)
            return list(found.values())
        return [
            [side[k] for k in group]
            for side in self.sides(rows)
            for group in groups_of_rows(self._model.device, [rows[k] for k in side])
        ]

    @staticmethod
    @contextmanager
    def in_one_pass() -> Iterator[None]:
        """Let each batch of this thread be one forward pass of padded rows, or one per side of a switch."""
        token = _ONE_PASS.set(True)
        try:
            yield
        finally:
            _ONE_PASS.reset(token)


_ONE_PASS: ContextVar[bool] = ContextVar("one_pass", default=False)


class TokenStates:
    """Reads batches with the backbone of a decoder.

    Args:
        model: A model of transformers, on its device.
        pad_id: Fills masked places.
        share: False reads every conversation in a row of its own.
    """

    def __init__(self, model: Any, pad_id: int, *, share: bool = True) -> None:
        self._model, self._pad_id, self._share = model, pad_id, share
        self._memory = Memory()
        self.together = Together(model)

    @cached_property
    def sharing_problem(self) -> str | None:
        """Why conversations are not read together without padding; None where they are."""
        if not self._share:
            return "it was asked not to"
        if not self.together.is_free:
            return "its rewards depend on the other texts of a batch"
        problem = self._shared.problem(self.at_last)
        if problem is not None:
            _LOG.info("prompts are not shared: %s", problem)
        return problem

    def joint_length(self, rows: Sequence[Encoded]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        if self.sharing_problem:
            return None
        forests = [share_beginnings([rows[k].ids for k in side]) for side in self.together.sides(rows)]
        if any(self._shared.why_not(forest) for forest in forests):
            return None
        return sum(forest.n_tokens for forest in forests)

    def identity(self, max_length: int) -> dict[str, str]:
        """Return what tells rewards from those of versions of rmbench that read such a model wrongly."""
        return self.together.identity(max_length) | self._shared.identity(max_length, self.at_last)

    def at(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> Any:
        """Return the hidden states at some places of each row, (sum of places, D), row after row.

        Raises:
            torch.OutOfMemoryError: If the batch is too large; the next one begins with what that leaves free.
        """
        parts: list[Any] = [None] * len(rows)
        for group, found in self.passes(rows, places):
            for k, part in zip(group, found.split([len(places[k]) for k in group]), strict=True):
                parts[k] = part
        return torch.cat(parts)

    def passes(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> list[tuple[list[int], Any]]:
        """Return for each forward pass the numbers of its rows, and their hidden states as in `at`."""
        with self._memory.in_use(self._model.device), torch.inference_mode():
            if _ONE_PASS.get() or self.sharing_problem:
                return self._in_groups(rows, places)
            found = []
            for side in self.together.sides(rows):
                own, at = [rows[k] for k in side], [places[k] for k in side]
                forest = share_beginnings([row.ids for row in own])
                if self._pays(forest, own):
                    found.append((side, self._in_forest(forest, at)))
                else:
                    found += [([side[k] for k in group], read) for group, read in self._in_groups(own, at)]
            return found

    def _in_groups(
        self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]
    ) -> list[tuple[list[int], Any]]:
        return [
            (group, self._in_padded_rows([rows[k] for k in group], [places[k] for k in group]))
            for group in self.together.groups(rows)
        ]

    def at_last(self, rows: Sequence[Encoded]) -> Any:
        """Return the hidden state of the last token of each row, (B, D), read as padded rows."""
        with torch.inference_mode():
            return self._in_padded_rows(rows, last_places(rows))

    @cached_property
    def _shared(self) -> SharedBackbone:
        return SharedBackbone(self._model)

    def _pays(self, forest: Forest, rows: Sequence[Encoded]) -> bool:
        """Return whether reading rows as a forest is possible, and less work than padding them."""
        groups = [[len(rows[k].ids) for k in group] for group in self.together.groups(rows)]
        n_padded = sum(len(lengths) * max(lengths) for lengths in groups)
        n_shared = forest.n_tokens + TOKENS_PER_SEGMENT * (len(forest.starts) - 1)
        return n_shared <= n_padded and self._shared.why_not(forest) is None

    def _in_forest(self, forest: Forest, places: Sequence[Sequence[int]]) -> Any:
        at = np.concatenate([forest.path(k)[np.asarray(p, dtype=np.int64)] for k, p in enumerate(places)])
        return self._shared.hidden(forest)[torch.from_numpy(at).to(self._model.device)]

    def _in_padded_rows(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> Any:
        inputs = padded(rows, self._pad_id, self._model.device)
        with self._shared.reading_rows() if self._share else nullcontext():
            hidden = self._model.base_model(**inputs, use_cache=False).last_hidden_state  # (B, T, D)
        of_row = torch.tensor([k for k, found in enumerate(places) for _ in found], dtype=torch.long)
        at = torch.tensor([place for found in places for place in found], dtype=torch.long)
        return hidden[of_row, at]


def last_places(rows: Sequence[Encoded]) -> list[list[int]]:
    """Return the place of the last token of each row."""
    return [[len(row.ids) - 1] for row in rows]


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


def groups_of_rows(device: Any, rows: Sequence[Encoded]) -> list[list[int]]:
    """Return which rows are read together: all, or on a CPU those of similar length."""
    if device.type != "cpu":
        return [list(range(len(rows)))]
    return similar_length([len(row.ids) for row in rows], TOKENS_PER_FORWARD * torch.get_num_threads())


_NAME = "rmbench_first_token"


_USUAL = ("sdpa", PRODUCTS)
"""Implementations that take fewer queries than keys."""


_PROBE_LENGTHS = (7, 23, 12)


class EncoderLogits:
    """Reads batches with a sequence classifier whose backbone is an encoder.

    Args:
        model: The classifier, on its device.
        pad_id: Fills masked places.
    """

    sharing_problem = "an encoder: every token sees the whole text"

    def __init__(self, model: Any, pad_id: int) -> None:
        self._model, self._pad_id = model, pad_id
        self._memory = Memory()
        self.together = Together(model)

    def joint_length(self, rows: Sequence[Encoded]) -> int | None:
        """Return None: each conversation is a padded row."""
        return None

    def identity(self, max_length: int) -> dict[str, str]:
        """Return what tells rewards from those of versions of rmbench that read such a model wrongly."""
        return self.together.identity(max_length)

    def passes(self, rows: Sequence[Encoded]) -> list[tuple[list[int], Any]]:
        """Return for each forward pass the numbers of its rows, and their logits, (rows, labels).

        Raises:
            torch.OutOfMemoryError: If the batch is too large; the next one begins with what that leaves free.
        """
        with self._memory.in_use(self._model.device), torch.inference_mode():
            groups = self.together.groups(rows)
            return [(group, self._narrowed_logits([rows[k] for k in group])) for group in groups]

    def _narrowed_logits(self, rows: Sequence[Encoded]) -> Any:
        with nullcontext() if _ONE_PASS.get() or self.narrowing_problem else self.first_token.narrowed():
            return self.logits(rows)

    def logits(self, rows: Sequence[Encoded]) -> Any:
        """Return the logits of rows that are read together, (B, labels), with every token computed."""
        return self._model(**padded(rows, self._pad_id, self._model.device)).logits

    @cached_property
    def narrowing_problem(self) -> str | None:
        """Why the last layer computes every token; None where the first is enough."""
        with torch.inference_mode():
            problem = self.first_token.probe(lambda rows: self.logits([Encoded(row) for row in rows]))
        if problem is not None:
            _LOG.info("the last layer computes every token: %s", problem)
        return problem

    @cached_property
    def first_token(self) -> "FirstToken":
        """Lets the last layer compute the first token alone."""
        return FirstToken(self._model)


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
        self.layer = max(stacks, key=len)[-1] if stacks else None
        self._usual = str(model.config._attn_implementation)
        self._whole: Any = None
        """The input of the last layer, (B, T, D)."""
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
        if self.layer is None or is_compiled(self._model):
            return "it is compiled" if self.layer else "it has no list of layers"
        rows = [made_up_ids(self._model.config, n, 3 + n) for n in _PROBE_LENGTHS]
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
        if not gap <= allowed_gap(self._model, 1e-5, 0.05):  # NaN fails too
            return f"its logits would differ by {gap:.1g}"
        return None

    @contextmanager
    def narrowed(self) -> Iterator[None]:
        """Let the last layer do so, for one forward pass."""
        layer: Any = self.layer
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

        layer: Any = self.layer
        hook = layer.register_forward_hook(spoil)
        try:
            yield
        finally:
            hook.remove()

    def _forget(self) -> None:
        self._whole = self._first = None
        self._made.clear()

    def _narrow(self, _layer: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
        """Before the last layer: pass on the first token, and masks for it alone."""
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
        """After a linear layer of the last layer: remember its output for the first token."""
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
