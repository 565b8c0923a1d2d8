"""Loading a Hugging Face language model that writes text, and refusing what is none."""

from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf_checkpoint import Checkpoint
from rmbench.models.hf_device import pick_device
from rmbench.models.hf_load import load_weights, transformers
from rmbench.models.runtime import Runtime


def load_causal(checkpoint: Checkpoint, runtime: Runtime, attention: str = "auto") -> tuple[Any, Any]:
    """Return (language model on its device, in eval mode; its tokenizer).

    Raises:
        ConfigError: If it cannot be loaded, lacks weights, or is a classifier, an encoder or an
            encoder-decoder model.
    """
    auto, where = transformers.AutoModelForCausalLM, checkpoint.location
    model, tokenizer, info = load_weights(
        checkpoint, runtime, auto, attention, {}, check=lambda config: check_writes(checkpoint, config)
    )
    heads = sorted(k for k in info["unexpected_keys"] if k.startswith(("score.", "classifier.")))
    if heads:
        raise ConfigError(f"{where}: a classifier (it has {heads[0]!r}), no language model; load it with hf:")
    shapes = [str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"]]
    wrong = sorted(info["missing_keys"]) or sorted(shapes)
    if wrong:
        raise ConfigError(
            f"{where}: no whole language model: {len(info['missing_keys']) + len(shapes)} weights are missing"
            f" or have another shape, first {wrong[0]!r}; its text and its probabilities would be random"
        )
    return model.to(pick_device(runtime.device)).eval(), tokenizer


def check_writes(checkpoint: Checkpoint, config: Any) -> None:
    """Refuse a config of what writes no text.

    Raises:
        ConfigError: If it is a classifier, an encoder or an encoder-decoder model.
    """
    names = [str(name) for name in getattr(config, "architectures", None) or ()]
    if classifiers := [name for name in names if name.endswith("ForSequenceClassification")]:
        raise ConfigError(
            f"{checkpoint.location}: {classifiers[0]} gives rewards and writes no text; expected a language"
            " model (...ForCausalLM)"
        )
    if not is_decoder(config):
        raise ConfigError(
            f"{checkpoint.location}: {config.model_type} is no decoder; expected a language model that writes"
            " text from left to right (...ForCausalLM)"
        )


def is_decoder(config: Any) -> bool:
    """Say whether a config's model reads from left to right only."""
    encoders = transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    return not (config.model_type in encoders or getattr(config, "is_encoder_decoder", False))
