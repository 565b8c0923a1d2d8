"""Checkpoints that compare two replies, told from those that score one; `pair:` reads them."""

from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import architectures
from rmbench.models.hf.recipes.recipe import Seen
from rmbench.models.hf.recipes.tensors import told

_HEAD = "head_layer.1.weight"


def refuse_pair_config(where: str, config: Any) -> None:
    """Refuse a config of a class that compares two replies, or of an encoder-decoder that writes text.

    Raises:
        ConfigError: With the class that says so, and what to type.
    """
    names = architectures(config)
    compares = [name for name in names if "PairRM" in name]
    if getattr(config, "ranker_type", None) == "pairranker":
        compares.append("ranker_type=pairranker")
    if compares:
        raise ConfigError(
            f"{where}: its config says {compares[0]}, which compares two replies; use pair:{where}"
        )
    writes = [name for name in names if name.endswith("ForConditionalGeneration")]
    if writes and getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{where}: {writes[0]} is an encoder-decoder that writes text, and has no reward head; if it"
            f" compares two replies, as SteamSHP does, use pair:{where}"
        )


def refuse_pair_head(seen: Seen) -> None:
    """Refuse a checkpoint with a head on two states side by side.

    Raises:
        ConfigError: With the tensor, and what to type.
    """
    shape = seen.tensors[_HEAD].shape if _HEAD in seen.tensors else ()
    if len(shape) == 2 and shape[1] == 2 * shape[0]:
        raise ConfigError(
            f"{seen.where}: its files have {told(seen.tensors, [_HEAD])}, a head on two states: it compares"
            f" two replies; use pair:{seen.where}"
        )
