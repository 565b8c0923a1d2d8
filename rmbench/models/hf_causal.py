"""Loading a Hugging Face language model that writes text, and refusing what is none."""

from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf_device import pick_device, pick_dtype
from rmbench.models.hf_load import Checkpoint, explained, load_tokenizer, quiet, source_of, transformers
from rmbench.models.runtime import Runtime


def load_causal(checkpoint: Checkpoint, runtime: Runtime) -> tuple[Any, Any]:
    """Return (language model on its device, in eval mode; its tokenizer).

    Raises:
        ConfigError: If it cannot be loaded, or is a classifier, an encoder or an encoder-decoder model.
    """
    source = source_of(checkpoint, runtime)
    device = pick_device(runtime.device)
    with quiet(), explained(checkpoint):
        config = transformers.AutoConfig.from_pretrained(checkpoint.location, **source)
        check_writes(checkpoint, config)
        tokenizer = load_tokenizer(checkpoint, source)
        auto: Any = transformers.AutoModelForCausalLM
        model, info = auto.from_pretrained(
            checkpoint.location, config=config, dtype=pick_dtype(runtime.dtype, device, config.dtype),
            output_loading_info=True, ignore_mismatched_sizes=True, use_safetensors=True, **source,
        )  # fmt: skip
    missing = sorted(info["missing_keys"])
    mismatched = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"])
    if missing or mismatched:
        first = (missing or mismatched)[0]
        raise ConfigError(
            f"{checkpoint.location}: no whole language model: {len(missing) + len(mismatched)} weights are"
            f" missing or have another shape, first {first!r}; its text would be random"
        )
    return model.to(device).eval(), tokenizer


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
    is_encoder = config.model_type in encoders and not getattr(config, "is_decoder", False)
    return not (is_encoder or getattr(config, "is_encoder_decoder", False))
