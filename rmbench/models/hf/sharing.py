"""One row without padding: a decoder reads the distinct tokens of a batch, and attends within its forest.

Everything in a decoder but attention looks at one token at a time, so the tokens of all conversations can
stand in one row, a prompt once for all its candidates, with the positions they have in their conversations.
Attention goes through transformers' attention interface and is computed per block of the forest
(`rmbench.models.hf.forest`).

Whether that equals reading each conversation alone depends on the architecture. `SharedBackbone.probe` tries
it: it compares the two on made-up tokens, and says what is in the way.
"""

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from threading import Condition
from typing import Any

import numpy as np

from rmbench.models.hf.attention import asked_for_more, attention, register_attention
from rmbench.models.hf.device import allowed_gap
from rmbench.models.hf.forest import Block, Forest, attention_blocks, share_beginnings
from rmbench.models.hf.load import torch
from rmbench.models.hf.text import Encoded
from rmbench.models.hf.trust.lengths import named_window

_NAME = "rmbench_forest"
_WASTE = 0.25
"""Query-key pairs that padding may add to a block of attention: few, since a CPU computes them."""
STRIP = 128
"""Tokens of a strip of a long segment, about, on a CPU; an accelerator computes whole segments."""
_WASTE_ON_ACCELERATOR = 2.0
"""There, starting a kernel costs more than the pairs."""
_MOST_CELLS = 4_000_000
"""Query-key pairs of a block: the size of its mask."""


class Gate:
    """Lets threads in that need one state of a thing; threads that need the other state wait outside.

    Args:
        enter: Called before the first of a side goes in.
        leave: Called after the last of a side came out.
    """

    def __init__(self, enter: Callable[[str], None], leave: Callable[[str], None]) -> None:
        self._enter, self._leave = enter, leave
        self._changed = Condition()
        self._side, self._n = "", 0

    @contextmanager
    def side(self, name: str) -> Iterator[None]:
        """Be on a side, with any number of others."""
        with self._changed:
            self._changed.wait_for(lambda: self._side in ("", name))
            if not self._n:
                self._enter(name)
            self._side, self._n = name, self._n + 1
        try:
            yield
        finally:
            with self._changed:
                self._n -= 1
                if not self._n:
                    self._leave(name)
                    self._side = ""
                    self._changed.notify_all()


class NotShareableError(Exception):
    """A model's attention needs something that the forest does not give; the text says what."""


@dataclass(frozen=True, slots=True)
class _Places:
    """A block on the model's device."""

    queries: Any
    """(n * Q,)"""
    keys: Any
    """(n * K,)"""
    shape: tuple[int, int, int]
    """(n, Q, K)"""
    mask: Any
    """Added to the attention scores, (n, 1, Q, K); None for plain causal attention."""


@dataclass(slots=True)
class _Plan:
    """The attention of one forward pass, the same in every layer."""

    blocks: list[_Places]
    order: Any
    """Where each token's output is among the blocks' outputs, (N,)."""
    window: int | None = None
    """The shortest sliding window that a layer asked for."""
    n_calls: int = 0


_PLAN: ContextVar[_Plan] = ContextVar("plan")
"""Set during a forward pass: not every model passes further arguments on to its attention."""


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    _mask: Any,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Any, None]:
    """Attention within the forest of the plan: query (1, H, N, D), key and value (1, H_kv, N, D).

    Returns:
        What transformers' own functions do: the output, (1, N, H, D), and no weights.

    Raises:
        NotShareableError: If the model's attention is more than scaled dot products, or not causal.
    """
    plan = _PLAN.get()
    if asked := asked_for_more(more):
        raise NotShareableError(f"its attention uses {asked}")
    said = more.get("is_causal")
    if not (getattr(module, "is_causal", True) if said is None else said):
        raise NotShareableError("its attention looks both ways")
    if (window := more.get("sliding_window")) is not None:
        plan.window = min(window, plan.window or window)
    plan.n_calls += 1
    # A token's heads side by side, (N, H, D): taking tokens copies them whole.
    query, key, value = (x[0].transpose(0, 1).contiguous() for x in (query, key, value))
    outputs = []
    for block in plan.blocks:
        n, n_queries, n_keys = block.shape
        q = _taken(query, block.queries, n, n_queries)
        k, v = (_taken(x, block.keys, n, n_keys) for x in (key, value))
        out = attention(q, k, v, block.mask, causal=block.mask is None, scale=scaling)  # (n, H, Q, D)
        outputs.append(out.transpose(1, 2).reshape(n * n_queries, *out.shape[1::2]))
    return torch.cat(outputs).index_select(0, plan.order).unsqueeze(0), None


def _taken(x: Any, places: Any, n: int, width: int) -> Any:
    """Return (n, H, width, D) of x (N, H, D) at `places` (n * width,)."""
    return x.index_select(0, places).unflatten(0, (n, width)).transpose(1, 2)


class SharedBackbone:
    """Reads a batch's distinct tokens once.

    Args:
        model: A model of transformers whose backbone is a decoder.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._backbone = getattr(model, model.base_model_prefix)
        self._window: int | None = None
        self._named_window = named_window(model.config)
        self._probed: tuple[str | None] | None = None
        self._name = register_attention(_NAME, _attend, self._backbone)
        self._usual = str(model.config._attn_implementation)
        self._gate = Gate(self._switch, lambda _: self._switch("rows"))

    def why_not(self, forest: Forest) -> str | None:
        """Return what is in the way of reading this batch so, or None. The model itself passed the probe."""
        windows = [w for w in (self._window, self._named_window) if w is not None]
        if windows and forest.depth > min(windows):
            return f"texts of {forest.depth} tokens, and its attention sees {min(windows)} at a time"
        return None

    def identity(self, max_length: int, at_last: Callable[[list[Encoded]], Any]) -> dict[str, str]:
        """Return the window that the model holds in its mask alone: it was overlooked before."""
        window = self._named_window
        if window is None or window >= max_length or self.problem(at_last) is not None:
            return {}
        return {} if self._window is not None else {"window": str(window)}

    def problem(self, at_last: Callable[[list[Encoded]], Any]) -> str | None:
        """Return what `probe` finds, once; `at_last` gives the states of the last tokens of padded rows."""
        if self._probed is None:
            self._probed = (self.probe(lambda ids: at_last([Encoded(tuple(ids))])[0]),)
        return self._probed[0]

    def last_hidden(self, forest: Forest) -> Any:
        """Return the hidden state at the end of each sequence, (R, D)."""
        return self.hidden(forest)[torch.tensor(forest.last, device=self._model.device)]

    def hidden(self, forest: Forest) -> Any:
        """Return the hidden state of each token, (N, D)."""
        device = self._model.device
        plan = self._plan(forest)
        with self._attending(plan):
            hidden = self._backbone(
                input_ids=torch.tensor([forest.tokens], device=device),
                position_ids=torch.tensor([forest.positions], device=device),
                use_cache=False,
            ).last_hidden_state  # (1, N, D)
        if not plan.n_calls:
            raise NotShareableError("its attention does not go through transformers' attention interface")
        self._window = plan.window
        return hidden[0]

    def probe(self, alone: Any) -> str | None:
        """Return why this model cannot read so, or None: made-up sequences, shared against one at a time.

        Args:
            alone: Function of one sequence of ids: the hidden state of its last token, (D,).
        """
        if "position_ids" not in inspect.signature(self._backbone.forward).parameters:
            return "it takes no positions"
        rows = _probe_rows(self._model.config.get_text_config())
        try:
            with torch.inference_mode():
                together = self.last_hidden(share_beginnings(rows)).double()
        except NotShareableError as error:
            return str(error)
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            # Foreign architectures fail in their own ways; each means the same.
            return f"{type(error).__name__}: {error}"
        if self._window is not None and self._window < max(map(len, rows)):
            return f"its attention sees {self._window} tokens at a time"
        apart = torch.stack([alone(row) for row in rows]).double()
        gap = float((together - apart).norm(dim=1).div(apart.norm(dim=1).clamp_min(1e-9)).max())
        if not gap <= allowed_gap(self._model, 1e-4, 0.1):  # NaN fails too
            return f"its hidden states would differ by {gap:.1g} of their length"
        return None

    def _plan(self, forest: Forest) -> _Plan:
        device, dtype = self._model.device, self._model.dtype
        waste = _WASTE if device.type == "cpu" else _WASTE_ON_ACCELERATOR
        strip = STRIP if device.type == "cpu" else None
        blocks = attention_blocks(forest, waste, _MOST_CELLS, strip)
        order, n_before = np.zeros(forest.n_tokens, dtype=np.int64), 0
        for block in blocks:
            n, width = block.queries.shape
            place = n_before + np.arange(n * width).reshape(n, width)
            real = np.arange(width)[None, :] < block.n_own[:, None]
            order[block.queries[real]] = place[real]
            n_before += n * width
        return _Plan([_on_device(b, device, dtype) for b in blocks], torch.from_numpy(order).to(device))

    def reading_rows(self) -> AbstractContextManager[None]:
        """Keep other threads from reading forests while rows are read with the model's own attention."""
        return self._gate.side("rows")

    @contextmanager
    def _attending(self, plan: _Plan) -> Iterator[None]:
        """Let the model's attention be this module's, for one forward pass."""
        token = _PLAN.set(plan)
        try:
            with self._gate.side("forest"):
                yield
        finally:
            _PLAN.reset(token)

    def _switch(self, side: str) -> None:
        wanted = self._name if side == "forest" else self._usual
        if self._model.config._attn_implementation != wanted:
            self._model.set_attn_implementation(wanted)


def _on_device(block: Block, device: Any, dtype: Any) -> _Places:
    mask = None
    if not block.is_causal:
        visible = torch.from_numpy(block.visible()).to(device)
        mask = torch.zeros(visible.shape, dtype=dtype, device=device)
        mask = mask.masked_fill_(~visible, float("-inf")).unsqueeze(1)
    return _Places(
        torch.from_numpy(block.queries.reshape(-1)).to(device),
        torch.from_numpy(block.keys.reshape(-1)).to(device),
        (*block.queries.shape, block.keys.shape[1]),
        mask,
    )


def made_up_ids(config: Any, n: int, seed: int) -> tuple[int, ...]:
    """Return `n` token ids that a model knows, without a padding id."""
    ids = [i for i in range(min(int(config.vocab_size), 500)) if i != config.pad_token_id]
    return tuple(ids[(seed + 31 * k * k + 7 * k) % len(ids)] for k in range(n))


def _probe_rows(config: Any) -> Sequence[tuple[int, ...]]:
    """Return sequences that share beginnings at two depths and share nothing."""
    made_up = partial(made_up_ids, config)
    prompt, first = made_up(21, 3), made_up(9, 50)
    return [
        (*prompt, *first, *made_up(5, 200)),
        (*prompt, *first, *made_up(11, 300)),
        (*prompt, *made_up(10, 90)),
        (*made_up(12, 140), *made_up(6, 400)),
        made_up(3, 77),
    ]
