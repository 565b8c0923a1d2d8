"""Device, dtype and memory of a Hugging Face model, and how many tokens it can read: in all, and at once."""

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.memory import free_memory
from rmbench.models.runtime import Runtime

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


def is_fast_bfloat16(thing: Any) -> bool:
    """Say whether a model or tensor is in bfloat16 on a CPU that has instructions for it."""
    return thing.device.type == "cpu" and thing.dtype == torch.bfloat16 and cpu_multiplies_bfloat16()


def dtype_name(thing: Any) -> str:
    """Return the dtype of a model or tensor, as in `float32`."""
    return str(thing.dtype).removeprefix("torch.")


def allowed_gap(model: Any, exact: float, half: float) -> float:
    """Return the tolerance of a probe: `exact` in float32 and float64, `half` in types of 16 bits."""
    return exact if dtype_name(model) in ("float32", "float64") else half


_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Numbers of glibc's options, of `malloc.h`."""


@cache
def keep_freed_memory() -> bool:
    """Let the allocator keep freed memory, and return whether it will: on Linux with glibc.

    Each layer of a model allocates megabytes and frees them. glibc gives those back to the system and asks
    for them again, which then clears them page by page: a sixth of the time in bfloat16 on two cores. The
    process stays at its greatest size instead.
    """
    if not sys.platform.startswith("linux"):
        return False
    option = getattr(ctypes.CDLL(None), "mallopt", None)  # other libraries of C have none
    return option is not None and all([option(_TRIM_THRESHOLD, 2**31 - 1), option(_MMAP_THRESHOLD, 2**30)])


class Memory:
    """Frees memory for forward passes: after a batch that did not fit, the next one gets all free memory."""

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


MAX_LENGTH = 16_384
"""Upper bound of the default token limit. No reply of a public benchmark is longer, and a longer one must not
take the memory of a whole batch. `max_length` asks for more."""


# Families whose first usable position is not 0 but the padding index + 1.
_OFFSET_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "ibert", "longformer", "mpnet", "roberta", "roberta-prelayernorm",
     "xlm-roberta", "xlm-roberta-xl", "xmod"}
)  # fmt: skip


def checked_length(where: str, config: Any, tokenizer: Any, runtime: Runtime) -> int:
    """Return min(the model's positions, the tokenizer's limit, MAX_LENGTH), or what was asked for."""
    limits = [MAX_LENGTH]
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if isinstance(positions, int) and positions > 0:
        if config.model_type in _OFFSET_POSITIONS:
            positions -= int(config.pad_token_id) + 1
        limits.append(positions)
    if runtime.max_length is not None:
        if positions is not None and runtime.max_length > positions:
            raise ConfigError(
                f"{where}: max_length is {runtime.max_length}; the model has {positions} positions"
            )
        return runtime.max_length
    declared = tokenizer.model_max_length
    if isinstance(declared, int) and 0 < declared < 10**9:  # "no limit" is written as 1e30
        limits.append(declared)
    return min(limits)


_MOST_AT_ONCE = {"cpu": 3_072, "cuda": 65_536, "mps": 16_384}
"""Tokens of a batch beyond which nothing gets faster: on a CPU, more than fit into its caches."""
_LEAST_AT_ONCE = 256
_SHARE_OF_FREE = 0.5
_MOST_SIDE_BY_SIDE = 8
"""Batches; more threads than that share them."""


def tokens_at_once(model: Any) -> int:
    """Return the tokens of a batch that fit into half of the free memory of the model's device.

    The most that is of use, halved until it fits: so the same machine finds the same number again, and a run
    that is taken up plans the same batches.
    """
    found, needed = _MOST_AT_ONCE[model.device.type], bytes_per_token(model)
    while found > _LEAST_AT_ONCE and found * needed > _SHARE_OF_FREE * free_bytes(model.device):
        found //= 2
    return found


def batches_at_once(model: Any) -> tuple[int, int]:
    """Return how many batches a CPU computes fastest side by side, and in how many threads each.

    In bfloat16 half of the time goes into small operations. Two threads do them no faster than one, and wait
    for each other after each. In float32 products take all the time, and threads that share a batch are as
    fast.
    """
    n_threads = torch.get_num_threads()
    if not is_fast_bfloat16(model):
        return 1, n_threads
    needed = tokens_at_once(model) * bytes_per_token(model)
    fit = [n for n in range(1, min(n_threads, _MOST_SIDE_BY_SIDE) + 1)
           if n == 1 or n * needed <= _SHARE_OF_FREE * free_bytes(model.device)]  # fmt: skip
    # As few threads idle as may be, without many fewer batches.
    found = max(fit[len(fit) // 2 :], key=lambda n: (n * (n_threads // n), n))
    return found, n_threads // found


def bytes_per_token(model: Any) -> int:
    """Return the bytes that one layer holds for a token.

    Its input, norms, queries, keys and values gathered for the blocks of attention, their output, and the
    inner layer of its feed-forward part.
    """
    config = model.config.get_text_config()
    hidden = int(getattr(config, "hidden_size", 1_024))
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    return int(model.dtype.itemsize) * (16 * hidden + 4 * inner)


def free_bytes(device: Any) -> int:
    """Return the bytes that are free on a device; on a CPU, those that the system could hand out."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return free_memory()
