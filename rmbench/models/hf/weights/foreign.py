"""Weights in a checkpoint's files that its model does not take: refused, but for a short list.

transformers leaves them out and says so in a log. A model without an unmerged adapter, or without the layers
that its config forgets, gives rewards that look like any others.
"""

import re
from collections.abc import Sequence
from typing import Any

from rmbench.errors import ConfigError

_TEXT = "a head for text"
_UNUSED = {
    _TEXT: (
        r"(.*\.)?lm_head\..+",
        r"(cls|predictions|lm_predictions|mask_predictions|sop_classifier)\..+",
        r"(vocab_transform|vocab_layer_norm|vocab_projector|generator_lm_head|generator_predictions)\..+",
        r"(discriminator_predictions|embed_out)\..+",
        r"(decoder|head\.dense|head\.norm)\.(weight|bias)",
    ),
    "a pooler": (r"(.*\.)?pooler\..+",),
    "rotary buffers": (r"(.*\.)?inv_freq", r"(.*\.)?(rotary_emb|rotary_pos_emb)\.(cos|sin)_cached"),
    "position ids": (r"(.*\.)?position_ids",),
    "attention masks": (r"(.*\.)?(masked_bias|attn\.bias|attention\.bias)",),
    "what reads images and sound": (
        r"(model\.)?(vision_tower|vision_model|visual|multi_modal_projector|audio_tower)\..+",
    ),
}
"""Weights that no reward of a text depends on -> patterns of whole names."""

_HEAD = re.compile(
    r"(?:\w+\.)?(?:score|classifier|[vr]_?head|\w+_head|regression_layer|gating(?:_layer)?|weights\.fc|reward_transform_matrix"
    r"|qa_outputs|summary|mean|std)(?:\..+|$)"
)
"""Names of heads of any kind; a head for text is looked for before."""

_MEANINGS = {
    re.compile(r"lora_|\.base_layer\.|modules_to_save"): (
        "an adapter that was not merged; merge it with peft's merge_and_unload and save_pretrained, or pass"
        " the folder of the adapter itself (with adapter_config.json)"
    ),
    re.compile(
        r"weight_scale|scale_inv$|(input|activation)_scale$|qweight$|qzeros$|g_idx$|scales$|absmax$"
        r"|quant_(map|state)|\.SCB$|weight_packed$|weight_shape$"
    ): (
        "scales of quantised weights, and its config.json has no quantization_config for them; take the"
        " config.json that was saved with them"
    ),
}
_LAYER = re.compile(r"(?:^|\.)(?:layers|layer|h|blocks)\.(\d+)\.")
_SHOWN = 3


def check_foreign(where: str, model: Any, names: Sequence[str]) -> tuple[list[str], list[str]]:
    """Sort the weights that a model does not take.

    Args:
        where: The checkpoint, for messages.
        model: As transformers loaded it.
        names: Of the weights in the files that it has no place for.

    Returns:
        (names of heads, which the caller refuses or reads; remarks on what is not used).

    Raises:
        ConfigError: If the reward would depend on one of the others.
    """
    unused: dict[str, list[str]] = {}
    heads, foreign = [], []
    writes = model.get_output_embeddings() is not None  # its own head for text is another one then
    for name in names:
        what = next(
            (what for what, known in _UNUSED.items() if any(re.fullmatch(p, name) for p in known)), None
        )
        if what is not None and not (writes and what == _TEXT):
            unused.setdefault(what, []).append(name)
        elif _HEAD.fullmatch(name) and not any(found.search(name) for found in _MEANINGS):
            heads.append(name)
        else:
            foreign.append(name)
    if foreign:
        raise ConfigError(_refusal(where, model, foreign))
    return heads, [f"not used: {what} ({_first(found)})" for what, found in unused.items()]


def refuse_heads(where: str, model: Any, heads: Sequence[str]) -> None:
    """Refuse a checkpoint with heads that its model does not take, and that nothing else reads.

    Raises:
        ConfigError: If there are some.
    """
    if heads:
        raise ConfigError(
            f"{where}: {_count(heads)} in its files that {type(model).__name__} does not take"
            f" ({_first(heads)}): another head. Which one was trained is unknown; expected one head"
        )


def _unused(name: str) -> str | None:
    """Return what a weight is that no reward of a text depends on; None for others."""
    return next((what for what, known in _UNUSED.items() if any(re.fullmatch(p, name) for p in known)), None)


def _refusal(where: str, model: Any, names: Sequence[str]) -> str:
    text = model.config.get_text_config()
    n_layers = getattr(text, "num_hidden_layers", None)
    beyond = [int(k[1]) for name in names if (k := _LAYER.search(name))]
    meaning = next(
        (what for found, what in _MEANINGS.items() if any(found.search(name) for name in names)), None
    )
    if meaning is None and n_layers is not None and beyond and max(beyond) >= n_layers:
        names = [name for name in names if (k := _LAYER.search(name)) and int(k[1]) >= n_layers]
        meaning = (
            f"layers up to number {max(beyond)}, and its config.json says num_hidden_layers {n_layers} (0 to"
            f" {n_layers - 1}); take the config.json that was saved with them"
        )
    if meaning is None:
        meaning = (
            f"weights of another architecture than model_type {text.model_type!r}, which its config.json"
            " says; take the config.json that was saved with them"
        )
    return (
        f"{where}: {_count(names)} in its files that {type(model).__name__} does not take ({_first(names)}):"
        f" {meaning}. Without them the rewards would be other ones"
    )


def _count(names: Sequence[str]) -> str:
    return "1 weight is" if len(names) == 1 else f"{len(names)} weights are"


def _first(names: Sequence[str]) -> str:
    more = f", ... {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
