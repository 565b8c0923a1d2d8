"""Checkpoints: their place, and the logits that are the reward."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.models.builtin import shipped_checkpoint
from rmbench.models.hub import why_no_hub
from rmbench.models.runtime import Runtime

RECORD = "rmbench.json"
"""Written by `rmbench train` after the model: a folder that has it holds a finished one."""
PICKLE = "pytorch_model.bin"
"""Name of pickled weights of a whole model, read as tensors alone."""
VALUE_HEADS = ("value_head.safetensors", "value_head.bin")
"""Files in which LLaMA-Factory writes the head alone."""
HEAD_PARTS = {"regression_layer.pt": "regression_layer.", "gating_layer.pt": "gating_layer."}
"""Files in which LDL-Reward keeps the parts of its head -> what their tensors' names begin with."""
_PARTS = ("adapter_model.", "value_head.")
"""Beginnings of names of files that are not a whole model."""
_OTHER_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The place of a model."""

    location: str
    """A folder, or `org/name`."""
    revision: str | None
    is_folder: bool
    gguf_file: str | None = None
    """A quantised file inside it, read instead of safetensors."""
    given_name: str | None = None
    """The name in tables, where it is not that of the folder."""
    base: str | None = None
    """Of an adapter: the base to put it on, in place of the one that it names."""

    @property
    def name(self) -> str:
        """The name in tables."""
        if self.given_name is not None:
            return self.given_name
        return Path(self.location).resolve().name if self.is_folder else self.location


def find_checkpoint(argument: str, gguf_file: str | None, base: str | None = None) -> Checkpoint:
    """Return the checkpoint that `FOLDER`, `org/name[@revision]` or `builtin:NAME` means.

    `base` is the base of an adapter, written like `argument`.

    Raises:
        ConfigError: If it names no checkpoint, or the folder has no weights that can be read safely.
    """
    if argument.startswith("builtin:") and gguf_file is None:
        shipped = shipped_checkpoint(argument.removeprefix("builtin:"))
        return Checkpoint(str(shipped), None, is_folder=True, given_name=argument, base=base)
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
        return Checkpoint(name, revision or None, is_folder=False, gguf_file=gguf_file, base=base)
    checkpoint = Checkpoint(str(folder), None, is_folder=True, gguf_file=gguf_file, base=base)
    if gguf_file is not None:
        if not (folder / gguf_file).is_file():
            raise ConfigError(f"{folder}: there is no file {gguf_file}")
    elif not (has_safetensors(folder) or has_pickles(folder) or (folder / "adapter_config.json").is_file()):
        pickles = sorted(p.name for pattern in _OTHER_PICKLES for p in folder.glob(pattern))
        why = (
            f"only {pickles[0]}, a pickle under a name that is not read; save it again as safetensors"
            if pickles
            else "none"
        )
        raise ConfigError(f"{folder}: expected weights as *.safetensors or {PICKLE}; found {why}")
    return checkpoint


def has_safetensors(folder: Path) -> bool:
    """Say whether a folder has weights of a whole model as safetensors, or an index of them."""
    found = [path.name for more in ("", ".index.json") for path in folder.glob(f"*.safetensors{more}")]
    return any(not name.startswith(_PARTS) for name in found)


def has_pickles(folder: Path) -> bool:
    """Say whether a folder has pickled weights of a whole model under a name that is read."""
    return any((folder / name).is_file() for name in (PICKLE, f"{PICKLE}.index.json"))


def file_of(checkpoint: Checkpoint, name: str, runtime: Runtime) -> Path | None:
    """Return a file of a checkpoint: in its folder, or in the local cache of the Hub; None if it has none."""
    if checkpoint.is_folder:
        path = Path(checkpoint.location) / name
        return path if path.is_file() else None
    return on_hub(checkpoint, name, runtime)


def cache_alone(checkpoint: Checkpoint, runtime: Runtime) -> bool:
    """Return whether a checkpoint may come from the local cache alone: the Hub is not to be asked."""
    return runtime.offline or (not checkpoint.is_folder and bool(why_no_hub()))


def on_hub(checkpoint: Checkpoint, name: str, runtime: Runtime, *, must: bool = False) -> Path | None:
    """Return a file of a Hub repository in the local cache; None if there is none (OSError with `must`)."""
    from transformers.utils.hub import cached_file

    found = cached_file(
        checkpoint.location,
        name,
        revision=checkpoint.revision,
        local_files_only=cache_alone(checkpoint, runtime),
        _raise_exceptions_for_missing_entries=must,
    )
    return None if found is None else Path(found)


def label_names(config: Any) -> list[str]:
    """Return the names of a classifier's labels, in order."""
    return [str(config.id2label.get(k, k)) for k in range(int(config.num_labels))]


def architectures(config: Any) -> list[str]:
    """Return the classes that a config names, such as LlamaForCausalLM."""
    return [str(name) for name in getattr(config, "architectures", None) or ()]


@dataclass(frozen=True, slots=True)
class Readout:
    """Which logits are the reward."""

    label: int
    """The logit that is the reward, where there are no weights."""
    weights: tuple[float, ...] | None = None
    """A weight per label; None for the one logit."""

    @property
    def identity(self) -> str:
        """The readout as fingerprints write it."""
        return str(self.label) if self.weights is None else "weights:" + ",".join(map(repr, self.weights))

    def rewards(self, logits: Any) -> list[float]:
        """Return one number per row of logits (B, labels): a logit as it is, or their weighted sum."""
        if self.weights is None:
            return [float(x) for x in logits[:, self.label].float().cpu()]
        rows = logits.double().cpu()
        return [float(x) for x in rows @ rows.new_tensor(self.weights)]


def choose_readout(
    where: str, names: Sequence[str], label: int | None, weights: str | None, *, weighable: bool = True
) -> Readout:
    """Return the readout of a classifier.

    Args:
        where: The checkpoint, for messages.
        names: Its labels, in order.
        label: Index of one; None where there is only one, or weights are given.
        weights: A number per label, `0.2,0.3,0.5`, or per named one, `helpfulness:1,verbosity:-0.5`; labels
            that are not named weigh nothing.
        weighable: Whether the model has an option `weights`, for messages.

    Raises:
        ConfigError: If the options name neither one label nor weights that fit.
    """
    named = ", ".join(f"{k}={name}" for k, name in enumerate(names[:8])) + (", ..." if len(names) > 8 else "")
    if weights is not None:
        if label is not None:
            raise ConfigError(f"{where}: options 'label' and 'weights' are both given; leave one out")
        return Readout(0, _weights(f"{where}: option 'weights'", weights, names, named))
    if label is None and len(names) == 1:
        return Readout(0)
    if label is None:
        more = " or -M weights=..." if weighable else ""
        told = f"{len(names)} labels ({named}); a reward is one number: pass -M label=K{more}"
        raise ConfigError(f"{where}: {told}")
    if not 0 <= label < len(names):
        raise ConfigError(f"{where}: option 'label' is {label}; the checkpoint has {named}")
    return Readout(label)


def _weights(where: str, text: str, names: Sequence[str], named: str) -> tuple[float, ...]:
    parts = [part.strip() for part in text.split(",")]
    if any(":" in part for part in parts):
        found = _by_name(where, parts, names)
    else:
        found = [_number(where, part) for part in parts]
        if len(found) != len(names):
            raise ConfigError(
                f"{where} has {len(found)} numbers; the checkpoint has {len(names)} labels ({named})"
            )
    if not any(found):
        raise ConfigError(f"{where} is {text!r}: every reward would be 0")
    return tuple(found)


def _by_name(where: str, parts: Sequence[str], names: Sequence[str]) -> list[float]:
    found: dict[str, float] = {}
    for part in parts:
        name, colon, number = part.rpartition(":")
        if not colon:
            raise ConfigError(f"{where} has {part!r}; expected NAME:NUMBER for each, or a number per label")
        if name not in names:
            raise UnknownNameError("label", name, names, where)
        if name in found:
            raise ConfigError(f"{where} has {name!r} twice")
        found[name] = _number(where, number)
    return [found.get(name, 0.0) for name in names]


def _number(where: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not math.isfinite(number):
        raise ConfigError(f"{where} has {text!r}; expected a number")
    return number
