"""Loads Hugging Face classifiers and language models, and refuses those that would score silently wrong."""

import contextlib
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError, first_line, is_panic
from rmbench.models.hf.checkpoint import Checkpoint, architectures, file_of
from rmbench.models.hf.device import pick_device, pick_dtype
from rmbench.models.hf.device import torch as torch
from rmbench.models.hf.device import transformers as transformers
from rmbench.models.hf.identity import NOT_READ_FILES, Pin, pin_of
from rmbench.models.hf.recipes.choose import Asked
from rmbench.models.hf.recipes.fit import Fit
from rmbench.models.hf.recipes.heads import MadeHead
from rmbench.models.hf.recipes.pairs import refuse_pair_config
from rmbench.models.hf.recipes.recipe import Recipe
from rmbench.models.hf.weights.adapter import merge
from rmbench.models.hf.weights.bodies import Body, find_body, own_tokenizer
from rmbench.models.hf.weights.foreign import check_foreign, refuse_heads
from rmbench.models.hf.weights.tensors import files_of, weights_format
from rmbench.models.hub import why_no_hub
from rmbench.models.runtime import Runtime

_NO_ADAPTER = {"adapter_kwargs": {"subfolder": ".no-adapter"}}
"""transformers would put an adapter that lies beside whole weights on them, where peft is installed."""
_TENSOR_FILES = ("*.safetensors", "*.bin", "*.pt", "*.pth", "*.ckpt")
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
    """Names of weights: `missing` from the checkpoint, `mismatched` in shape, `unexpected`.

    Of those that the model does not take, only heads are left here: the others are refused or remarked on.
    """
    remarks: tuple[str, ...]
    """On an adapter, and on weights that are not used."""


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
    recipe: Recipe | None = None
    """How its head is read; None for a plain classifier."""
    why: str = ""
    """The evidence for the recipe."""
    gate: Any = None
    """Weighs the outputs of `model.score`; None for none."""
    unread: str = ""
    """Head tensors of the files that the user's own choice leaves out."""
    remarks: tuple[str, ...] = ()
    """As of `Read`."""


def load_classifier(
    checkpoint: Checkpoint,
    runtime: Runtime,
    fresh_head: int | None,
    attention: str,
    asked: Asked | None = None,
) -> Loaded:
    """Return the classifier of a checkpoint.

    Args:
        checkpoint: Where it is.
        runtime: Device, dtype, hub access.
        fresh_head: Seed of a random head for a checkpoint without one; None for its own.
        attention: An implementation, or `auto`.
        asked: The user's options of recipes.

    Raises:
        ConfigError: If it cannot be loaded, has no head (and no `fresh_head`), or is of a kind whose reward
            would be read at the wrong place.
    """
    auto = transformers.AutoModelForSequenceClassification
    changes = {} if fresh_head is None else {"num_labels": 1}
    fit = Fit(checkpoint, runtime, asked or Asked(), fresh_head)

    def refuse(config: Any) -> None:
        refuse_pair_config(checkpoint.location, config)
        fit.check_rates_texts(config)

    read = load_weights(checkpoint, runtime, auto, attention, changes, check=refuse, fit=fit)
    model, gate = read.model, None
    if fit.head is not None:
        own = {name: [n for n in names if not n.startswith("score.")] for name, names in read.lacks.items()}
        fresh, gate = _check_head(checkpoint, model, own, None), fit.head.gate
    else:
        _check_own_head(fit, model, read.lacks)
        fresh = _check_head(checkpoint, model, read.lacks, fresh_head)
    refuse_heads(checkpoint.location, model, fit.not_seen(read.lacks["unexpected"]))
    is_encoder = _check_kind(checkpoint, model)
    if not is_encoder:
        model.score.float()  # the last dot product is done in fp32, whatever the backbone's type
    model.eval()
    gate = None if gate is None else gate.to(model.device).eval()
    return Loaded(
        model, read.tokenizer, read.weights, is_encoder, fresh, fit.recipe, fit.why, gate, fit.unread,
        (*fit.remarks, *read.remarks),
    )  # fmt: skip


def load_own(checkpoint: Checkpoint, runtime: Runtime, attention: str, asked: Asked | None = None) -> Loaded:
    """Return the classifier of a checkpoint as its own class makes it, to be read by its own forward pass.

    Raises:
        ConfigError: If it cannot be loaded, or its class lacks weights or leaves some out.
    """
    fit = Fit(checkpoint, runtime, asked or Asked(), None, own_code=True)
    read = load_weights(checkpoint, runtime, None, attention, {}, fit=fit)
    refuse_heads(checkpoint.location, read.model, read.lacks["unexpected"])
    fresh = _check_head(checkpoint, read.model, read.lacks, None)
    is_encoder = not is_decoder(read.model.config)
    read.model.eval()
    return Loaded(
        read.model, read.tokenizer, read.weights, is_encoder, fresh, fit.recipe, fit.why,
        remarks=read.remarks,
    )  # fmt: skip


def load_weights(
    checkpoint: Checkpoint,
    runtime: Runtime,
    auto: Any,
    attention: str,
    changes: Mapping[str, Any],
    check: Callable[[Any], None] | None = None,
    fit: Fit | None = None,
) -> Read:
    """Return a checkpoint's model on its device, with its tokenizer and identity.

    `auto` is the class of transformers that makes the model, `attention` an implementation or `auto`,
    `changes` has values of the config to replace, `check` may refuse the config before weights are read, and
    `fit` chooses a recipe and puts its head in place. With its `own_code`, the config chooses among classes.

    Raises:
        ConfigError: If it cannot be loaded, changed meanwhile, or has weights that the model does not take.
            Whether its weights are complete is left to the caller, and other heads than the model's.
    """
    device = pick_device(runtime.device)
    with quiet(), explained(checkpoint):
        pin = pin_of(checkpoint, runtime)
    base, adapter = pin.checkpoint, pin.adapter
    with quiet(), explained(checkpoint if adapter is None else base):
        source = pin.source
        own_code = fit is not None and fit.own_code
        known = None if own_code else find_body(pin, runtime)
        body = None if known is None else known[0]
        if known is None:
            config = transformers.AutoConfig.from_pretrained(base.location, **source)
        else:
            config = known[0].read_config(known[1])
        if own_code:
            auto = _own_class(base, config, runtime)
        other = adapter is not None and fit is not None and fit.has_other_head(pin)
        of_adapter = {} if adapter is None else adapter.changes(auto, has_other_head=other)
        for name, value in {**changes, **of_adapter}.items():
            setattr(config, name, value)
        _check_padding(base, config)
        if check is not None:
            check(config)
        tokenizer = _tokenizer_of(checkpoint, pin, config, runtime, body)
        kwargs = {} if fit is None else fit.prepare(pin, config, tokenizer)
        if attention != "auto":
            kwargs["attn_implementation"] = attention
        kwargs |= {"config": config, "dtype": pick_dtype(runtime.dtype, device, config.dtype)}
        model, info = _weights_in(auto, pin, runtime, body, kwargs)
        lacks, unused = _lacking(base, model, info, None if fit is None else fit.head)
        if adapter is not None:
            model, whole = merge(adapter, model)
            lacks = {kind: [name for name in names if name not in whole] for kind, names in lacks.items()}
        if fit is not None:
            fit.attach(model)
        _take_out_of_file(model, device)
        pin.check()
    return Read(model, tokenizer, pin.weights, lacks, (*pin.remarks, *unused))


def _check_padding(checkpoint: Checkpoint, config: Any) -> None:
    text = config.get_text_config()
    pad, n_tokens = text.pad_token_id, getattr(text, "vocab_size", None)
    if isinstance(pad, int) and isinstance(n_tokens, int) and pad >= n_tokens:
        raise ConfigError(
            f"{checkpoint.location}: pad_token_id is {pad} in its config.json, and vocab_size is {n_tokens};"
            " set it to the id of the tokenizer's padding token, or to null"
        )


def _weights_in(
    auto: Any, pin: Pin, runtime: Runtime, body: Body | None, kwargs: Mapping[str, Any]
) -> tuple[Any, Mapping[str, Any]]:
    """Return the model, and what transformers says of its weights."""
    base = pin.checkpoint
    asked = {**kwargs, "output_loading_info": True, "ignore_mismatched_sizes": True}
    if body is None:
        source = {**pin.source, **weights_format(base, runtime), **_NO_ADAPTER}
        found = auto.from_pretrained(base.location, **source, **asked)
    else:
        state = body.state(base, kwargs["config"], runtime)
        found = auto._model_mapping[type(kwargs["config"])].from_pretrained(None, state_dict=state, **asked)
    return found[0], found[1]


def _own_class(checkpoint: Checkpoint, config: Any, runtime: Runtime) -> Any:
    """Return the class of transformers that makes the model which a config's own code defines.

    Raises:
        ConfigError: If that code may not be run: another class would be read in its place.
    """
    remote = getattr(config, "auto_map", None) or {}
    named = [name for name in ("AutoModelForSequenceClassification", "AutoModel") if name in remote]
    if named and not runtime.trust_remote_code:
        raise ConfigError(
            f"{checkpoint.location}: forward=own: its config.json names a class of its own"
            f" ({remote[named[0]]}), whose code was not run; read it, then pass --trust-remote-code (on the"
            " Hub with org/name@<40-hex commit>)"
        )
    return getattr(transformers, named[0] if named else "AutoModelForSequenceClassification")


def _lacking(
    checkpoint: Checkpoint, model: Any, info: Mapping[str, Any], head: MadeHead | None
) -> tuple[dict[str, list[str]], list[str]]:
    """Return (`Read.lacks`, remarks on weights that are not used); the head of a recipe is used."""
    mismatched = [key[0] if isinstance(key, tuple) else key for key in info["mismatched_keys"]]
    lacks = {kind: sorted(map(str, info[f"{kind}_keys"])) for kind in ("missing", "unexpected")}
    lacks["mismatched"] = sorted(map(str, mismatched))
    used = frozenset[str]() if head is None else head.used
    foreign = [name for name in lacks["unexpected"] if name not in used]
    lacks["unexpected"], unused = check_foreign(checkpoint.location, model, foreign)
    return lacks, unused


def _tokenizer_of(checkpoint: Checkpoint, pin: Pin, config: Any, runtime: Runtime, body: Body | None) -> Any:
    """Return the tokenizer of a checkpoint; of an adapter without one, its base's.

    A base without padding was trained with that of the adapter's tokenizer, so its config says that then.
    """
    read = None if body is None else own_tokenizer
    if pin.adapter_pin is None:
        return load_tokenizer(checkpoint, pin.source, read)
    own = pin.adapter_pin
    if file_of(own.checkpoint, "tokenizer_config.json", runtime) is None:
        return load_tokenizer(pin.checkpoint, pin.source, read)
    tokenizer = load_tokenizer(own.checkpoint, own.source, read)
    if config.get_text_config().pad_token_id is None:
        config.get_text_config().pad_token_id = tokenizer.pad_token_id
    return tokenizer


def _take_out_of_file(model: Any, device: Any) -> None:
    """Copy the weights into the memory of a device.

    Safetensors are mapped into memory: on a CPU the weights are the file's pages, and would change with it.
    """
    model.to(device)
    if device.type == "cpu":
        for tensor in (*model.parameters(), *model.buffers()):  # tied ones are there once
            tensor.data = tensor.data.clone()


def load_tokenizer(
    checkpoint: Checkpoint,
    source: Mapping[str, Any],
    read: Callable[[Checkpoint, Mapping[str, Any]], Any] | None = None,
) -> Any:
    """Return the checkpoint's tokenizer; one without words, as transformers makes up, is refused.

    `read` reads it in place of transformers' AutoTokenizer.
    """
    folder = Path(checkpoint.location)
    needed = checkpoint.is_folder and checkpoint.gguf_file is None
    if needed and not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise ConfigError(f"{folder}: it has no tokenizer; expected {', '.join(_TOKENIZER_FILES)}")
    if read is None:
        tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.location, **source)
    else:
        tokenizer = read(checkpoint, source)
    tokenizer("a", "b")  # some settings that do not fit fail only here
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ConfigError(f"{checkpoint.location}: its tokenizer knows {len(tokenizer)} tokens, all special")
    return tokenizer


def _check_own_head(fit: Fit, model: Any, info: Mapping[str, list[str]]) -> None:
    """Refuse a classifier whose own head is not in its files, or of another shape, where they say more."""
    if fit.fresh_head is not None:
        return
    if problem := fit.lacks_head(info["missing"]):
        raise ConfigError(problem)
    if heads := [name for name in info["mismatched"] if name.startswith("score.")]:
        raise ConfigError(fit.other_shape(heads[0], model.config))


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
            beside = ", ".join(_other_tensors(checkpoint))
            advice = (
                f"Beside the weights lie {beside}, which nothing reads: the head may be there. Write a small"
                " adapter (file.py:Class), or put its tensors into the safetensors files and read them by -M"
                " recipe=FILE.yaml"
                if beside
                else "Pass -M fresh_head=SEED if that is what you want"
            )
            raise NoHeadError(
                f"{checkpoint.location}: no trained reward head: the checkpoint lacks {', '.join(missing)};"
                f" its rewards would be random. {advice}"
            )
        return ()
    if mismatched or not missing:
        raise ConfigError(f"{checkpoint.location}: option 'fresh_head': the checkpoint has a head of its own")
    _draw_head(model, missing, fresh_head)
    return tuple(missing)


def _other_tensors(checkpoint: Checkpoint) -> list[str]:
    """Return the names of files of tensors in a folder that no load reads, but for states of a training."""
    if not checkpoint.is_folder or checkpoint.gguf_file is not None:
        return []
    read = {path.name for path in files_of(checkpoint, Runtime()).values()}
    found = {p.name for pattern in _TENSOR_FILES for p in Path(checkpoint.location).glob(pattern)}
    states = (*NOT_READ_FILES, "adapter_model.*")
    return sorted(n for n in found - read if not any(fnmatchcase(n, p) for p in states))[:3]


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
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        where = checkpoint.location + (f"@{checkpoint.revision}" if checkpoint.revision else "")
        if "trust_remote_code=True" in str(error):
            raise ConfigError(
                f"{where}: it needs Python code that comes with it, which was not run; read it, then pass"
                " --trust-remote-code (on the Hub with org/name@<40-hex commit>)"
            ) from error
        told = first_line(error)
        if not checkpoint.is_folder:
            where = f"there is no folder {checkpoint.location} here, and {where} of the Hugging Face Hub"
            if isinstance(error, OSError) and (why := why_no_hub()):
                raise ConfigError(f"{where} is not in the local cache ({why})") from error
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
    heads = [n for n in read.lacks["unexpected"] if n.startswith(("score.", "classifier."))]
    if heads:
        raise ConfigError(f"{where}: a classifier (it has {heads[0]!r}), no language model; load it with hf:")
    if wrong := [*read.lacks["missing"], *read.lacks["mismatched"]]:
        raise ConfigError(
            f"{where}: no whole language model: {len(wrong)} weights are missing or have another shape, first"
            f" {wrong[0]!r}; its text and its probabilities would be random"
        )
    refuse_heads(where, read.model, read.lacks["unexpected"])
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
