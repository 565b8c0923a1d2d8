"""Softmax of scaled dot products: torch's own kernel, or plain matrix products where those are faster.

torch's kernel for CPUs computes bfloat16 at the speed of float32. Matrix products do not: where the processor
has instructions for it they take a quarter of the time, and the scores of a few heads at a time stay in its
cache. Scores are rounded to bfloat16 there, as in transformers' `eager` attention.

`compile_backbone` lets torch compile a model's backbone.
"""

from typing import Any

from rmbench.errors import ConfigError, first_line
from rmbench.models.hf.device import is_fast_bfloat16
from rmbench.models.hf.load import torch, transformers

PRODUCTS = "rmbench_products"
"""Name of `attention` among transformers' implementations: for encoders in bfloat16 on a CPU."""
CELLS_AT_ONCE = 600_000
"""Scores that are computed at once: 1.2 MB in bfloat16."""
_DEPENDS_ON_MORE = ("softcap", "s_aux", "position_bias")
"""Arguments that a model may pass to attention and that `attention` does not know."""


def asked_for_more(more: dict[str, Any]) -> str | None:
    """Return an argument of a model's attention that `attention` does not know, or None."""
    return next((name for name in _DEPENDS_ON_MORE if more.get(name) is not None), None)


def attention(query: Any, key: Any, value: Any, mask: Any, *, causal: bool, scale: float | None) -> Any:
    """Return the values weighted by how queries and keys go together, (n, H, Q, D).

    Args:
        query: (n, H, Q, D).
        key: (n, H_kv, K, D); H is a multiple of H_kv.
        value: Like `key`.
        mask: Added to the scores, broadcast to (n, 1, Q, K), in the dtype of `query`; None for none.
        causal: Whether query i sees only keys 0..i; without a mask.
        scale: Of the products; None is 1 / sqrt(D).
    """
    if is_fast_bfloat16(query):
        return _products(query, key, value, mask, causal, scale)
    more: dict[str, Any] = {}
    repeats = query.shape[1] // key.shape[1]
    if repeats > 1 and query.device.type == "cpu":
        more["enable_gqa"] = True
    elif repeats > 1:  # with a mask, only torch's slowest kernel takes fewer keys than queries on a GPU
        key, value = (x.repeat_interleave(repeats, dim=1) for x in (key, value))
    return torch.nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, is_causal=causal, scale=scale, **more
    )


def _products(query: Any, key: Any, value: Any, mask: Any, causal: bool, scale: float | None) -> Any:
    n, n_heads, n_queries, width = query.shape
    n_own, n_keys = key.shape[1:3]
    repeats = n_heads // n_own
    q = query.reshape(n * n_own, repeats * n_queries, width)  # heads that share keys are one matrix
    k = key.reshape(n * n_own, n_keys, width).transpose(1, 2)
    v = value.reshape(n * n_own, n_keys, width)
    if causal:
        hidden = torch.ones(n_queries, n_keys, dtype=torch.bool).triu(1)
        mask = torch.zeros(hidden.shape, dtype=query.dtype).masked_fill_(hidden, float("-inf"))
    if mask is None:
        mask = query.new_zeros(1)
    mask = mask.expand(n, n_own, n_queries, n_keys).reshape(n * n_own, 1, n_queries, n_keys)
    out = torch.empty_like(q)
    at_once = max(1, CELLS_AT_ONCE // (repeats * n_queries * n_keys))
    for start in range(0, n * n_own, at_once):
        part = slice(start, start + at_once)
        added = mask[part].expand(-1, repeats, -1, -1).reshape(-1, repeats * n_queries, n_keys)
        scores = torch.baddbmm(added, q[part], k[part], alpha=width**-0.5 if scale is None else scale)
        torch.bmm(scores.softmax(dim=-1), v[part], out=out[part])
    return out.view(n, n_heads, n_queries, width)


def register_attention(name: str, function: Any, backbone: Any) -> str:
    """Make a function known to transformers as an attention implementation; return the name to ask for.

    A compiled backbone calls it as it is: its shapes change from batch to batch.
    """
    if backbone._compiled_call_impl is not None:
        apart: Any = torch.compiler.disable
        name, function = f"{name}_apart", apart(function)
    transformers.AttentionInterface.register(name, function)
    return name


def use_products(model: Any) -> None:
    """Let an encoder use `attention` instead of torch's kernel, where that is what it uses."""
    if model.config._attn_implementation != "sdpa":
        return
    name = register_attention(PRODUCTS, attend_with_products, model.base_model)
    masks: Any = transformers.AttentionMaskInterface
    masks.register(name, masks()["sdpa"])
    model.set_attn_implementation(name)


def attend_with_products(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,
    scaling: float | None = None,
    **more: Any,
) -> tuple[Any, None]:
    """Attend as transformers' own functions do: the output is (n, Q, H, D), and there are no weights."""
    said = more.get("is_causal")
    causal = getattr(module, "is_causal", False) if said is None else said
    if asked_for_more(more) or causal:
        known: Any = transformers.AttentionInterface
        usual = known()["sdpa"]
        return usual(module, query, key, value, attention_mask, scaling=scaling, **more)  # type: ignore[no-any-return]
    if attention_mask is not None and attention_mask.dtype == torch.bool:
        added = torch.zeros(attention_mask.shape, dtype=query.dtype)
        attention_mask = added.masked_fill_(~attention_mask, float("-inf"))
    out = attention(query, key, value, attention_mask, causal=False, scale=scaling)
    return out.transpose(1, 2).contiguous(), None


def compile_backbone(model: Any, where: str) -> None:
    """Let the backbone be compiled at its first forward pass, for any batch size and length; make that pass.

    Raises:
        ConfigError: If torch cannot compile here (it needs a C++ compiler) or not this model.
    """
    model.base_model.compile(dynamic=True)
    ids = torch.arange(24, device=model.device).view(2, 12) % int(model.config.get_text_config().vocab_size)
    try:
        with torch.inference_mode():
            model.base_model(input_ids=ids, attention_mask=torch.ones_like(ids))
    except (torch._dynamo.exc.TorchDynamoException, RuntimeError) as error:
        raise ConfigError(
            f"{where}: torch cannot compile it here ({first_line(error)}); leave out torch_compile"
        ) from None


def is_compiled(model: Any) -> bool:
    """Say whether `compile_backbone` was asked for."""
    return model.base_model._compiled_call_impl is not None
