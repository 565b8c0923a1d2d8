"""Names and shapes of a checkpoint's tensors, read from the headers of its safetensors files.

No weights are loaded for that. They are the evidence of which head a reward model has: a config often names
none, or a class that transformers does not know.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.core.files import read_whole
from rmbench.core.yaml import parse_yaml
from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import HEAD_PARTS, PICKLE, VALUE_HEADS, file_of
from rmbench.models.hf.device import torch
from rmbench.models.hf.identity import Pin
from rmbench.models.hf.weights.adapter import whole_names
from rmbench.models.hf.weights.tensors import TensorFile, weight_map
from rmbench.models.runtime import Runtime

_WEIGHTS = ("model.safetensors", PICKLE)
_LONGEST_HEADER = 100 * 2**20
"""Bytes; the format allows no longer one."""
_HEADS = frozenset(
    {"gating", "gating_layer", "regression_head", "regression_layer", "reward_head",
     "reward_transform_matrix", "rm_head",
     "score", "score_head", "v_head", "value_head"}
)  # fmt: skip
"""Names that public reward models give their heads."""
_GATES = ("weights.fc.",)
"""Beginnings of names that would be of something else in the middle of a name."""
_MOST_NAMED = 4


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a file, not loaded."""

    name: str
    shape: tuple[int, ...]
    file: Path
    before: str = ""
    """What `name` has before the name in the file, where a file holds one part of a model."""

    @property
    def inside(self) -> str:
        """The name in the file."""
        return self.name.removeprefix(self.before)


Tensors = Mapping[str, Tensor]
"""Name -> tensor."""


def tensors_of(pin: Pin, runtime: Runtime) -> Tensors:
    """Return the tensors that a load reads: of its one file, or of all files of its index, and of its head's.

    It is empty for a GGUF file. Weights that an adapter brings whole stand in place of its base's.

    Raises:
        ConfigError: If a file is no safetensors file, or two files have a tensor of the same name.
    """
    if pin.checkpoint.gguf_file is not None:
        return {}
    found: dict[str, Tensor] = {}
    for path in _files(pin, runtime):
        for name, tensor in read_header(path, HEAD_PARTS.get(path.name, "")).items():
            if name in found:
                raise ConfigError(
                    f"{pin.checkpoint.location}: {name!r} is in {found[name].file.name} and in {path.name};"
                    " expected one; delete the file that the model was not trained with"
                )
            found[name] = tensor
    if pin.adapter is not None:
        own = read_header(pin.adapter.weights)
        whole = {plain: own[name] for name, plain in whole_names(own).items()}
        for name in whole:  # a module comes with its bias, or it was trained without
            found.pop(f"{name.removesuffix('weight')}bias", None)
        found |= whole
    return found


def card_tags(pin: Pin, runtime: Runtime) -> set[str]:
    """Return the tags in the head of a checkpoint's card (README.md); empty without a card or tags."""
    path = file_of((pin.adapter_pin or pin).checkpoint, "README.md", runtime)
    if path is None:
        return set()
    try:
        _, head, _ = read_whole(path).split("---\n", 2)
        tags = parse_yaml(head, path).get("tags")
    except (ConfigError, ValueError):  # a card is prose: it may have no such head
        return set()
    return set(map(str, tags)) if isinstance(tags, list) else set()


def read_header(path: Path, before: str = "") -> dict[str, Tensor]:
    """Return the tensors that the header of a safetensors file names, or a pickle of tensors.

    `before` is put before each name.

    Raises:
        ConfigError: If it cannot be read, or has no such header.
    """
    if path.suffix in (".bin", ".pt"):
        with TensorFile(path) as pickled:
            return {
                before + name: Tensor(before + name, pickled.shape(name), path, before)
                for name in pickled.names
            }
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            raw = file.read(length) if length <= _LONGEST_HEADER else b""
        given = json.loads(raw)
        named = {name: each["shape"] for name, each in given.items() if name != "__metadata__"}
        return {name: Tensor(name, tuple(map(int, shape)), path) for name, shape in named.items()}
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except (AttributeError, KeyError, RecursionError, TypeError, ValueError):
        raise ConfigError(f"{path}: not a whole safetensors file; copy or download it again") from None


def read_tensor(tensor: Tensor, rows: Iterable[int] | None = None) -> Any:
    """Return a tensor in float32 on the CPU; with `rows` only those, in their order.

    Raises:
        ConfigError: If its type is no floating-point number of 16 bits or more, or it lacks a row.
    """
    with TensorFile(tensor.file) as file:
        part = file.part(tensor.inside)
        wanted = None if rows is None else list(rows)
        if wanted and max(wanted) >= tensor.shape[0]:
            raise ConfigError(
                f"{tensor.file}: {tensor.name!r} has {tensor.shape[0]} rows, so no row {max(wanted)};"
                " expected ids of the vocabulary"
            )
        found = part[:] if wanted is None else torch.cat([part[k : k + 1] for k in wanted])
    return _float32(tensor, found)


def read_tensors(tensors: Iterable[Tensor]) -> dict[str, Any]:
    """Return name -> tensor in float32 on the CPU; each file is opened once.

    Raises:
        ConfigError: As `read_tensor`.
    """
    by_file: dict[Path, list[Tensor]] = {}
    for tensor in tensors:
        by_file.setdefault(tensor.file, []).append(tensor)
    found: dict[str, Any] = {}
    for path, wanted in by_file.items():
        with TensorFile(path) as file:
            found |= {each.name: _float32(each, file.part(each.name)[:]) for each in wanted}
    return found


def _float32(tensor: Tensor, found: Any) -> Any:
    if found.dtype not in (torch.float16, torch.bfloat16, torch.float32, torch.float64):
        raise ConfigError(f"{tensor.file}: {tensor.name!r} is in {found.dtype}; expected float16 to float64")
    return found.to(torch.float32, copy=True)  # a mapped tensor would change with its file


def head_tensors(tensors: Tensors) -> list[str]:
    """Return the names of tensors that belong to a reward head, sorted."""
    return sorted(name for name in tensors if _HEADS & set(name.split(".")[:3]) or name.startswith(_GATES))


def told(tensors: Tensors, names: Iterable[str]) -> str:
    """Return tensors as messages write them: `v_head.weight (1, 4096)`."""
    parts = [f"{name} {tensors[name].shape}" for name in names]
    return ", ".join(parts[:_MOST_NAMED]) + (f" and {n} more" if (n := len(parts) - _MOST_NAMED) > 0 else "")


def _files(pin: Pin, runtime: Runtime) -> list[Path]:
    found: list[Path | None] = []
    for name in _WEIGHTS:
        whole = file_of(pin.checkpoint, name, runtime)
        index = None if whole else file_of(pin.checkpoint, f"{name}.index.json", runtime)
        names = sorted(set(weight_map(index).values())) if index else []
        found = [whole, *(file_of(pin.checkpoint, each, runtime) for each in names)]
        if any(found):
            break
    places = [each.checkpoint for each in (pin.adapter_pin, pin) if each is not None]
    for place in places:
        if place.is_folder and all((Path(place.location) / name).is_file() for name in VALUE_HEADS):
            raise ConfigError(
                f"{place.location}: it has {' and '.join(VALUE_HEADS)}; expected one; delete the file that"
                " the model was not trained with"
            )
    beside = (file_of(place, name, runtime) for place in places for name in VALUE_HEADS)
    parts = (file_of(pin.checkpoint, name, runtime) for name in HEAD_PARTS)
    return [p for p in (*found, next((p for p in beside if p is not None), None), *parts) if p is not None]
