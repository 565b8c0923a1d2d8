"""Loads Hugging Face classifiers and language models, and refuses those that would score silently wrong."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError, first_line
from rmbench.models.hf.checkpoint import Checkpoint, architectures
from rmbench.models.hf.device import pick_device, pick_dtype
from rmbench.models.hf.device import torch as torch
from rmbench.models.hf.device import transformers as transformers
from rmbench.models.hf.identity import pin_of
from rmbench.models.runtime import Runtime

_TOKENIZER_FILES = ("tokenizer*.json", "vocab.*", "*.model", "tekken.json")


class NoHeadError(ConfigError):
    """The checkpoint has no trained head: it is a base to train a reward model from."""


@dataclass(frozen=True, slots=True)
class Read:
    """A checkpoint as it was read: its identity is that of the files that were read."""

    model: Any
    tokenizer: Any
    weights: str
    """Identity of the files: `Pin.weights`."""
    lacks: Mapping[str, list[str]]
    """Names of weights: `missing` from the checkpoint, `mismatched` in shape, `unexpected`."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A classifier on its device, in eval mode."""

    model: Any
    tokenizer: Any
    weights: str
    """Identity of the files: `Pin.weights`."""
    is_encoder: bool
    fresh: tuple[str, ...]
    """Parameters that the checkpoint does not have and that were drawn at random."""


def load_classifier(
    checkpoint: Checkpoint, runtime: Runtime, fresh_head: int | None, attention: str
) -> Loaded:
    """Return the classifier of a checkpoint.

    Raises:
        ConfigError: If it cannot be loaded, has no head (and no `fresh_head`), or is of a kind whose reward
            would be read at the wrong place.
    """
    auto = transformers.AutoModelForSequenceClassification
    changes = {} if fresh_head is None else {"num_labels": 1}
    read = load_weights(checkpoint, runtime, auto, attention, changes)
    model = read.model
    fresh = _check_head(checkpoint, model, read.lacks, fresh_head)
    is_encoder = _check_kind(checkpoint, model)
    if not is_encoder:
        model.score.float()  # the last dot product is done in fp32, whatever the backbone's type
    model.to(pick_device(runtime.device)).eval()
    return Loaded(model, read.tokenizer, read.weights, is_encoder, fresh)


def load_weights(
    checkpoint: Checkpoint,
    runtime: Runtime,
    auto: Any,
    attention: str,
    changes: Mapping[str, Any],
    check: Callable[[Any], None] | None = None,
) -> Read:
    """Return a checkpoint's model, still on the CPU, with its tokenizer and identity.

    `auto` is the class of transformers that makes the model, `attention` an implementation or `auto`,
    `changes` has values of the config to replace, and `check` may refuse the config before weights are read.

    Raises:
        ConfigError: If it cannot be loaded, or changed meanwhile. Whether its weights are complete is left to
            the caller.
    """
    device = pick_device(runtime.device)
    with quiet(), explained(checkpoint):
        pin = pin_of(checkpoint, runtime)
        source = pin.source
        config = transformers.AutoConfig.from_pretrained(checkpoint.location, **source)
        for name, value in changes.items():
            setattr(config, name, value)
        if check is not None:
            check(config)
        tokenizer = load_tokenizer(checkpoint, source)
        kwargs = {**source, **({} if checkpoint.gguf_file else {"use_safetensors": True})}
        if attention != "auto":
            kwargs["attn_implementation"] = attention
        model, info = auto.from_pretrained(
            checkpoint.location, config=config, dtype=pick_dtype(runtime.dtype, device, config.dtype),
            output_loading_info=True, ignore_mismatched_sizes=True, **kwargs,
        )  # fmt: skip
        pin.check()
    mismatched = [key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]]
    lacks = {"missing": info["missing_keys"], "mismatched": mismatched, "unexpected": info["unexpected_keys"]}
    named = {kind: sorted(map(str, keys)) for kind, keys in lacks.items()}
    return Read(model, tokenizer, pin.weights, named)


def load_tokenizer(checkpoint: Checkpoint, source: Mapping[str, Any]) -> Any:
    """Return the checkpoint's tokenizer; one without words, as transformers makes up, is refused."""
    folder = Path(checkpoint.location)
    needed = checkpoint.is_folder and checkpoint.gguf_file is None
    if needed and not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise ConfigError(f"{folder}: it has no tokenizer; expected {', '.join(_TOKENIZER_FILES)}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.location, **source)
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ConfigError(f"{checkpoint.location}: its tokenizer knows {len(tokenizer)} tokens, all special")
    tokenizer("a")  # some settings of another type fail only here
    return tokenizer


def _check_head(
    checkpoint: Checkpoint, model: Any, info: Mapping[str, list[str]], fresh_head: int | None
) -> tuple[str, ...]:
    """Draw a fresh head if that was asked for; refuse a head that nobody trained otherwise."""
    missing, mismatched = info["missing"], info["mismatched"]
    prefix = f"{model.base_model_prefix}."
    body = [name for name in missing if name.startswith(prefix) and ".pooler." not in name]
    if body:
        raise ConfigError(
            f"{checkpoint.location}: {len(body)} weights of the model itself are missing, first {body[0]!r}"
        )
    if fresh_head is None:
        if mismatched:
            raise ConfigError(
                f"{checkpoint.location}: {mismatched[0]!r} has another shape than its config says"
            )
        if missing:
            raise NoHeadError(
                f"{checkpoint.location}: no trained reward head: the checkpoint lacks {', '.join(missing)};"
                " its rewards would be random. Pass -M fresh_head=SEED if that is what you want"
            )
        return ()
    if mismatched or not missing:
        raise ConfigError(f"{checkpoint.location}: option 'fresh_head': the checkpoint has a head of its own")
    _draw_head(model, missing, fresh_head)
    return tuple(missing)


def _draw_head(model: Any, names: list[str], seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    std = float(getattr(model.config, "initializer_range", None) or 0.02)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in names:
            parameter = parameters[name]
            if parameter.dim() > 1:
                drawn = torch.normal(0.0, std, parameter.shape, generator=generator)
            else:  # a bias, or the scale of a normalisation
                drawn = torch.full(parameter.shape, 0.0 if name.endswith("bias") else 1.0)
            parameter.copy_(drawn)


def _check_kind(checkpoint: Checkpoint, model: Any) -> bool:
    """Return whether the model is an encoder, which pools by itself; decoders are read by mask."""
    config = model.config
    if getattr(config, "is_encoder_decoder", False):
        raise ConfigError(
            f"{checkpoint.location}: encoder-decoder classifiers ({config.model_type}) are not supported"
        )
    if isinstance(getattr(model, "score", None), torch.nn.Module):
        return False
    decoders = transformers.models.auto.modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    encoders = transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    if config.model_type in encoders or config.model_type not in decoders:
        return True
    raise ConfigError(
        f"{checkpoint.location}: {type(model).__name__} is a decoder without a 'score' head, so where its"
        " reward is read is unknown; write a small adapter (file.py:Class)"
    )


@contextlib.contextmanager
def explained(checkpoint: Checkpoint) -> Iterator[None]:
    """Turn any exception of loading into one line that names the checkpoint."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:
        where = checkpoint.location + (f"@{checkpoint.revision}" if checkpoint.revision else "")
        if "trust_remote_code=True" in str(error):
            raise ConfigError(
                f"{where}: it needs Python code that comes with it, which was not run; read it, then pass"
                " --trust-remote-code (on the Hub with org/name@<40-hex commit>)"
            ) from error
        told = first_line(error)
        if not checkpoint.is_folder:
            where = f"there is no folder {checkpoint.location} here, and {where} of the Hugging Face Hub"
        raise ConfigError(f"{where} cannot be loaded: {type(error).__name__}: {told}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence progress bars and the head warnings, which are checked and raised here instead."""
    log = transformers.utils.logging
    verbosity, bars = log.get_verbosity(), log.is_progress_bar_enabled()
    log.set_verbosity(logging.ERROR)
    log.disable_progress_bar()  # type: ignore[no-untyped-call]
    try:
        yield
    finally:
        log.set_verbosity(verbosity)
        if bars:
            log.enable_progress_bar()  # type: ignore[no-untyped-call]


def load_causal(checkpoint: Checkpoint, runtime: Runtime, attention: str = "auto") -> Read:
    """Return a language model on its device, in eval mode, with its tokenizer and identity.

    Raises:
        ConfigError: If it cannot be loaded, lacks weights, or is a classifier, an encoder or an
            encoder-decoder model.
    """
    auto, where = transformers.AutoModelForCausalLM, checkpoint.location
    read = load_weights(
        checkpoint, runtime, auto, attention, {}, check=lambda config: check_writes(checkpoint, config)
    )
    heads = [name for name in read.lacks["unexpected"] if name.startswith(("score.", "classifier."))]
    if heads:
        raise ConfigError(f"{where}: a classifier (it has {heads[0]!r}), no language model; load it with hf:")
    if wrong := [*read.lacks["missing"], *read.lacks["mismatched"]]:
        raise ConfigError(
            f"{where}: no whole language model: {len(wrong)} weights are missing or have another shape, first"
            f" {wrong[0]!r}; its text and its probabilities would be random"
        )
    read.model.to(pick_device(runtime.device)).eval()
    return read


def check_writes(checkpoint: Checkpoint, config: Any) -> None:
    """Refuse a config of a model that writes no text.

    Raises:
        ConfigError: If it is a classifier, an encoder or an encoder-decoder model.
    """
    if classifiers := [name for name in architectures(config) if name.endswith("ForSequenceClassification")]:
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


@contextlib.contextmanager
def float32_input(head: Any) -> Iterator[None]:
    """Hand a head float32 hidden states: it was made float32, and transformers' own forward pass is not."""
    hook = head.register_forward_pre_hook(lambda _, args: (args[0].float(),))
    try:
        yield
    finally:
        hook.remove()
