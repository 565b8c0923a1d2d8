"""Loading a Hugging Face sequence classifier, and refusing what would score silently wrong."""

import contextlib
import logging
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rmbench.canon import digest
from rmbench.errors import ConfigError
from rmbench.files import sha256_file
from rmbench.models.hf_device import pick_device, pick_dtype
from rmbench.models.hf_device import torch as torch
from rmbench.models.hf_device import transformers as transformers
from rmbench.models.runtime import Runtime

_HASHED_SUFFIXES = (".safetensors", ".gguf", ".jinja", ".py", ".model")
_HASHED_NAMES = frozenset(
    {
        "adapter_config.json", "added_tokens.json", "chat_template.json", "config.json", "merges.txt",
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt",
    }
)  # fmt: skip
_TOKENIZER_FILES = ("tokenizer*.json", "vocab.*", "*.model", "tekken.json")


class NoHeadError(ConfigError):
    """The checkpoint has no trained head: no reward model, but a base to train one from."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a model is."""

    location: str
    """A folder, or `org/name`."""
    revision: str | None
    is_folder: bool
    gguf_file: str | None = None
    """A quantised file inside it, read instead of safetensors."""

    @property
    def name(self) -> str:
        """The name in tables."""
        return Path(self.location).resolve().name if self.is_folder else self.location


@dataclass(frozen=True, slots=True)
class Loaded:
    """A classifier on its device, in eval mode."""

    model: Any
    tokenizer: Any
    is_encoder: bool
    n_labels: int
    label_names: tuple[str, ...]
    fresh: tuple[str, ...]
    """Parameters that the checkpoint does not have and that were drawn at random."""


def find_checkpoint(argument: str, gguf_file: str | None) -> Checkpoint:
    """Return the checkpoint that `FOLDER` or `org/name[@revision]` means.

    Raises:
        ConfigError: If it is neither, or the folder has no weights that can be read safely.
    """
    folder = Path(argument).expanduser()
    if not folder.is_dir():
        name, _, revision = argument.partition("@")
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise ConfigError(
                f"hf:{argument}: there is no such folder; on the Hub it would be org/name[@revision]"
            )
        if not revision and Path(name).parent.is_dir():
            # Most likely a mistyped path: asking the Hub first would cost half a minute of retries.
            near = [p.name for p in Path(name).parent.iterdir() if p.is_dir()]
            close = get_close_matches(Path(name).name, near, n=1)
            hint = f" Did you mean {Path(name).parent / close[0]}?" if close else ""
            raise ConfigError(
                f"hf:{argument}: there is no such folder.{hint} To take it from the Hub, say {name}@main"
            )
        return Checkpoint(name, revision or None, is_folder=False, gguf_file=gguf_file)
    checkpoint = Checkpoint(str(folder), None, is_folder=True, gguf_file=gguf_file)
    if gguf_file is not None:
        if not (folder / gguf_file).is_file():
            raise ConfigError(f"{folder}: there is no file {gguf_file}")
    elif not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.glob("*.bin"))
        why = (
            f"only {pickles[0]}, a pickle that could run code; save it again as safetensors"
            if pickles
            else "none"
        )
        raise ConfigError(f"{folder}: expected weights as *.safetensors; found {why}")
    return checkpoint


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
    model, tokenizer, info = load_weights(checkpoint, runtime, auto, attention, changes)
    fresh = _check_head(checkpoint, model, info, fresh_head)
    is_encoder = _check_kind(checkpoint, model)
    if not is_encoder:
        model.score.float()  # the last dot product is done in fp32, whatever the backbone's type
    model.to(pick_device(runtime.device)).eval()
    n_labels = int(model.config.num_labels)
    names = tuple(str(model.config.id2label.get(k, k)) for k in range(n_labels))
    return Loaded(model, tokenizer, is_encoder, n_labels, names, fresh)


def load_weights(
    checkpoint: Checkpoint, runtime: Runtime, auto: Any, attention: str, changes: Mapping[str, Any]
) -> tuple[Any, Any, Mapping[str, Any]]:
    """Return (model, tokenizer, transformers' loading info); the model is still on the CPU.

    `auto` is the class of transformers that makes the model, `attention` an implementation or `auto`, and
    `changes` has values of the config to replace.

    Raises:
        ConfigError: If it cannot be loaded. Whether its weights are complete is left to the caller.
    """
    source = source_of(checkpoint, runtime)
    device = pick_device(runtime.device)
    with quiet(), explained(checkpoint):
        config = transformers.AutoConfig.from_pretrained(checkpoint.location, **source)
        for name, value in changes.items():
            setattr(config, name, value)
        tokenizer = load_tokenizer(checkpoint, source)
        kwargs = source | ({} if checkpoint.gguf_file else {"use_safetensors": True})
        if attention != "auto":
            kwargs["attn_implementation"] = attention
        model, info = auto.from_pretrained(
            checkpoint.location, config=config, dtype=pick_dtype(runtime.dtype, device, config.dtype),
            output_loading_info=True, ignore_mismatched_sizes=True, **kwargs,
        )  # fmt: skip
    return model, tokenizer, info


def source_of(checkpoint: Checkpoint, runtime: Runtime) -> dict[str, Any]:
    """Return what every `from_pretrained` is told of where a checkpoint is.

    Raises:
        ConfigError: If its code may be run and is not pinned.
    """
    pinned = checkpoint.is_folder or re.fullmatch(r"[0-9a-f]{40}", checkpoint.revision or "")
    if runtime.trust_remote_code and not pinned:
        raise ConfigError(
            f"{checkpoint.location}: trust_remote_code needs a pinned revision, so that the code that runs is"
            " the code that was read: pass org/name@<40-hex commit>"
        )
    source: dict[str, Any] = {
        "revision": checkpoint.revision,
        "local_files_only": runtime.offline,
        "trust_remote_code": runtime.trust_remote_code,
    }
    return source | ({"gguf_file": checkpoint.gguf_file} if checkpoint.gguf_file is not None else {})


def load_tokenizer(checkpoint: Checkpoint, source: Mapping[str, Any]) -> Any:
    """Return the checkpoint's tokenizer; one without words, as transformers makes up, is refused."""
    folder = Path(checkpoint.location)
    needed = checkpoint.is_folder and checkpoint.gguf_file is None
    if needed and not any(any(folder.glob(pattern)) for pattern in _TOKENIZER_FILES):
        raise ConfigError(f"{folder}: it has no tokenizer; expected {', '.join(_TOKENIZER_FILES)}")
    tokenizer = transformers.AutoTokenizer.from_pretrained(checkpoint.location, **source)
    if len(tokenizer) <= len(set(tokenizer.all_special_ids)):
        raise ConfigError(f"{checkpoint.location}: its tokenizer knows {len(tokenizer)} tokens, all special")
    return tokenizer


def weights_identity(checkpoint: Checkpoint, config: Any) -> Mapping[str, str]:
    """Return what pins the weights: a Hub commit, or a hash of a folder's weights, config and tokenizer."""
    commit = None if checkpoint.is_folder else getattr(config, "_commit_hash", None)
    if not checkpoint.is_folder and commit:
        return {"weights": f"{checkpoint.location}@{commit}"}
    if not checkpoint.is_folder:
        raise ConfigError(
            f"{checkpoint.location}: its commit is unknown; pass {checkpoint.location}@<40-hex commit>"
        )
    folder = Path(checkpoint.location)
    wanted = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (path.name in _HASHED_NAMES or path.suffix in _HASHED_SUFFIXES)
        and not any(part.startswith((".", "checkpoint-")) for part in path.relative_to(folder).parts)
    ]  # fmt: skip
    if checkpoint.gguf_file is not None:
        wanted = [path for path in wanted if path.suffix != ".gguf" or path.name == checkpoint.gguf_file]
    rows = [[path.relative_to(folder).as_posix(), sha256_file(path)] for path in wanted]
    return {"weights": f"sha256:{digest(rows)}"}


def _check_head(
    checkpoint: Checkpoint, model: Any, info: Mapping[str, Any], fresh_head: int | None
) -> tuple[str, ...]:
    """Draw a fresh head if that was asked for; refuse a head that nobody trained otherwise."""
    mismatched = sorted(str(key[0] if isinstance(key, tuple) else key) for key in info["mismatched_keys"])
    missing = sorted(info["missing_keys"])
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
    """Turn whatever loading raises into one line that names the checkpoint."""
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
        told = next((line.strip() for line in str(error).splitlines() if line.strip()), "no message")
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
