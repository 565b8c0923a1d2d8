"""Forward passes of an encoder, whose last layer computes one token where that is all its head reads.

Classifiers such as BERT's read the state of the first token. Their last layer needs keys and values of the
whole text, but queries, output and feed-forward network of that token alone: of six layers a seventh of all
products is saved, of twelve a fourteenth.

No list says which models these are: `FirstToken.probe` tries it on made-up tokens. It spoils what the last
layer gives of all other tokens, compares the logits of the two ways, and says what is in the way.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from contextvars import ContextVar
from functools import cached_property
from typing import Any

from rmbench.models.hf.attention import PRODUCTS, is_compiled, register_attention
from rmbench.models.hf.device import Memory, allowed_gap
from rmbench.models.hf.forward import groups_of_rows, padded
from rmbench.models.hf.load import torch, transformers
from rmbench.models.hf.sharing import made_up_ids
from rmbench.models.hf.text import Encoded

_LOG = logging.getLogger(__name__)
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

    def joint_length(self, rows: Sequence[Encoded]) -> int | None:
        """Return None: each conversation is a padded row."""
        return None

    def passes(self, rows: Sequence[Encoded]) -> list[tuple[list[int], Any]]:
        """Return for each forward pass the numbers of its rows, and their logits, (rows, labels).

        Raises:
            torch.OutOfMemoryError: If the batch is too large; the next one begins with what that leaves free.
        """
        with self._memory.in_use(self._model.device), torch.inference_mode():
            groups = groups_of_rows(self._model.device, rows)
            return [(group, self._narrowed_logits([rows[k] for k in group])) for group in groups]

    def _narrowed_logits(self, rows: Sequence[Encoded]) -> Any:
        with nullcontext() if self.narrowing_problem else self.first_token.narrowed():
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
