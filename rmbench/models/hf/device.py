"""Where a Hugging Face model runs, in which precision, and what its process does with memory it frees.

How many tokens a Hugging Face model can read: of one conversation, and at once.
"""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rmbench.errors import ConfigError

try:
    import torch as torch
    import transformers as transformers
except ImportError as error:
    raise ImportError(f"{error}; Hugging Face models need: pip install 'rmbench[hf]'") from error


def pick_device(device: str) -> Any:
    """Return the torch device that `auto`, `cpu`, `cuda`, `cuda:N` or `mps` means here."""
    if device == "auto":
        device = (
            "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
        )
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"device {device!r} is not available here; expected cpu or auto")
    if device == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device 'mps' is not available here; expected cpu or auto")
    return torch.device(device)


def pick_dtype(dtype: str, device: Any, own: Any) -> Any:
    """Return the torch dtype; `auto` is the checkpoint's own where the hardware is fast in it, else float32.

    Args:
        dtype: What was asked for.
        device: Where the model runs.
        own: The dtype that the checkpoint's config names, or None.
    """
    if dtype != "auto":
        return getattr(torch, dtype)
    if device.type != "cpu":
        return "auto"
    return torch.bfloat16 if own == torch.bfloat16 and cpu_multiplies_bfloat16() else torch.float32


@cache
def cpu_multiplies_bfloat16() -> bool:
    """Say whether the CPU has instructions for it: without them bfloat16 is slower than float32."""
    told = getattr(torch.backends.cpu, "get_cpu_capability", lambda: "")()
    names = ("_is_amx_tile_supported", "_is_avx512_bf16_supported")  # torch has no public name for them
    return told.startswith("AVX512") and any(getattr(torch.cpu, n, lambda: False)() for n in names)


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's options, of `malloc.h`."""


@cache
def keep_freed_memory() -> bool:
    """Let the allocator keep what is freed, and say whether it will: on Linux with glibc.

    Each layer of a model allocates megabytes and frees them. glibc gives those back to the system and asks
    for them again, which then clears them page by page: a sixth of the time in bfloat16 on two cores. The
    process stays at its greatest size instead.
    """
    if not sys.platform.startswith("linux"):
        return False
    option = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries of C have none
    return option is not None and all([option(_TRIM_THRESHOLD, 2**31 - 1), option(_MMAP_THRESHOLD, 2**30)])


class Memory:
    """Room for forward passes: after a batch that did not fit, the next one gets all that is free."""

    def __init__(self) -> None:
        self._ran_out = False

    @contextmanager
    def in_use(self, device: Any) -> Iterator[None]:
        """Make room before a forward pass, and note whether it came to its end."""
        if self._ran_out and device.type == "cuda":
            torch.cuda.empty_cache()
        if device.type == "cpu":
            keep_freed_memory()
        self._ran_out = True
        yield
        self._ran_out = False
