"""Files of weights: safetensors, and pickles that hold tensors and nothing else.

A pickle can run code when it is read. Those of torch are read with `weights_only`, which builds tensors and
runs nothing; a pickle that asks for more is refused, and its code does not run.
"""

import contextlib
import json
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rmbench.errors import ConfigError, first_line
from rmbench.models.hf.checkpoint import PICKLE, Checkpoint, file_of, has_safetensors
from rmbench.models.hf.device import torch
from rmbench.models.runtime import Runtime

_SAFE_TORCH = (2, 6)
"""Before it, `weights_only` could be made to run code (CVE-2025-32434)."""


class TensorFile:
    """One file of weights, of which some tensors are read; a context manager.

    Args:
        path: A .safetensors file, or a pickle of torch.

    Raises:
        ConfigError: If it cannot be read, or is a pickle of more than tensors.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._closing = contextlib.ExitStack()
        self._pickled: Mapping[str, Any] | None = None
        self.names: list[str]
        """Names of its tensors, in the order of the file."""
        if path.suffix == ".safetensors":
            from safetensors import SafetensorError, safe_open

            try:
                self._safe = self._closing.enter_context(safe_open(path, framework="pt"))
            except (OSError, SafetensorError) as error:
                raise ConfigError(f"{path}: cannot be read: {first_line(error)}") from None
            self.names = list(self._safe.keys())
        else:
            self._pickled = _unpickled(path)
            self.names = list(self._pickled)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.close()

    def tensor(self, name: str) -> Any:
        """Return one tensor, on the CPU."""
        return self._safe.get_tensor(name) if self._pickled is None else self._pickled[name]

    def part(self, name: str) -> Any:
        """Return a tensor to be indexed, of which safetensors read only what is asked for."""
        return self._safe.get_slice(name) if self._pickled is None else self._pickled[name]

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor; of safetensors only the header is read."""
        if self._pickled is None:
            return tuple(self._safe.get_slice(name).get_shape())
        return tuple(self._pickled[name].shape)


def tensors_of(path: Path) -> dict[str, Any]:
    """Return name -> tensor, on the CPU, of a .safetensors file or a pickle of torch.

    Raises:
        ConfigError: If it cannot be read, or is a pickle of more than tensors.
    """
    with TensorFile(path) as file:
        return {name: file.tensor(name) for name in file.names}


def _unpickled(path: Path) -> Mapping[str, Any]:
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < _SAFE_TORCH:
        raise ConfigError(f"{path}: a pickle, which torch reads safely from 2.6 on; pip install -U torch")
    say = "save its weights as safetensors"
    try:
        kept = {"mmap": True} if zipfile.is_zipfile(path) else {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # on old protocols; the error that may follow says more
            found = torch.load(path, map_location="cpu", weights_only=True, **kept)
    except Exception as error:  # a damaged pickle fails in many ways
        if type(error).__name__ == "UnpicklingError":
            raise ConfigError(
                f"{path}: a damaged pickle, or one of more than tensors: it could run code, and was not run;"
                f" {say}"
            ) from None
        raise ConfigError(f"{path}: cannot be read: {first_line(error)}") from None
    if not isinstance(found, Mapping) or not all(
        isinstance(name, str) and isinstance(tensor, torch.Tensor) for name, tensor in found.items()
    ):
        raise ConfigError(f"{path}: it does not hold tensors by name; {say}")
    return found


def weights_format(checkpoint: Checkpoint, runtime: Runtime) -> dict[str, Any]:
    """Return the arguments of `from_pretrained` that say in which format a checkpoint's weights are read.

    Safetensors are read where there are some; a pickle is looked into first.

    Raises:
        ConfigError: If a pickle holds more than tensors.
    """
    if checkpoint.gguf_file is not None:
        return {}
    safe = "model.safetensors"
    if checkpoint.is_folder:
        is_safe = has_safetensors(Path(checkpoint.location))
    else:
        is_safe = any(file_of(checkpoint, name, runtime) for name in (safe, f"{safe}.index.json"))
    if is_safe or not (pickles := set(files_of(checkpoint, runtime).values())):
        return {"use_safetensors": True}
    for path in pickles:
        with TensorFile(path):
            pass
    return {"use_safetensors": False, "weights_only": True}


def files_of(checkpoint: Checkpoint, runtime: Runtime) -> dict[str, Path]:
    """Return name -> the file that holds it, for the weights of a whole model; empty if it has none.

    Raises:
        ConfigError: If a file or an index cannot be read.
    """
    for name in ("model.safetensors", PICKLE):
        for path in (file_of(checkpoint, name, runtime), file_of(checkpoint, f"{name}.index.json", runtime)):
            if path is not None and path.suffix == ".json":
                return {each: path.parent / shard for each, shard in weight_map(path).items()}
            if path is not None:
                with TensorFile(path) as file:
                    return dict.fromkeys(file.names, path)
    return {}


def weight_map(index: Path) -> dict[str, str]:
    """Return tensor -> file of an index; ConfigError for one that is damaged."""
    try:
        found = json.loads(index.read_bytes())["weight_map"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ConfigError(f"{index}: cannot be read: {type(error).__name__}: {first_line(error)}") from None
    if not isinstance(found, dict) or not all(isinstance(shard, str) for shard in found.values()):
        raise ConfigError(f"{index}: expected a weight_map of names and files")
    return found
