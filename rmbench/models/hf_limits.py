"""How many tokens a Hugging Face model can read: of one conversation, and at once."""

import os
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError
from rmbench.models.hf_attention import is_fast_bfloat16
from rmbench.models.hf_load import torch
from rmbench.models.runtime import Runtime

MAX_LENGTH = 16_384
"""Upper bound of the default token limit: no reply of a public benchmark is longer, and one that is must
not take the memory of a whole batch. `max_length` asks for more."""

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
"""Tokens of a batch beyond which nothing gets faster: on a CPU, a layer's work on more leaves the caches."""
_LEAST_AT_ONCE = 256
_SHARE_OF_FREE = 0.5
_MOST_SIDE_BY_SIDE = 8
"""Batches; more threads than that share them."""


def tokens_at_once(model: Any) -> int:
    """Return the tokens of a batch that fit into half of the free memory of the model's device.

    The most that is of use, halved until it fits: so the same machine finds the same number again, and a run
    that is taken up plans the same batches.
    """
    found, needed = _MOST_AT_ONCE[model.device.type], _bytes_per_token(model)
    while found > _LEAST_AT_ONCE and found * needed > _SHARE_OF_FREE * free_bytes(model.device):
        found //= 2
    return found


def batches_at_once(model: Any) -> tuple[int, int]:
    """Return how many batches a CPU computes fastest side by side, and in how many threads each.

    In bfloat16 half of the time goes into small operations that two threads do no faster than one, and after
    each of which they wait for each other; in float32 products take it all, and threads that share a batch
    are as fast.
    """
    n_threads = torch.get_num_threads()
    if not is_fast_bfloat16(model):
        return 1, n_threads
    needed = tokens_at_once(model) * _bytes_per_token(model)
    fit = [n for n in range(1, min(n_threads, _MOST_SIDE_BY_SIDE) + 1)
           if n == 1 or n * needed <= _SHARE_OF_FREE * free_bytes(model.device)]  # fmt: skip
    # As few threads idle as may be, without many fewer batches.
    found = max(fit[len(fit) // 2 :], key=lambda n: (n * (n_threads // n), n))
    return found, n_threads // found


def _bytes_per_token(model: Any) -> int:
    """Return what one layer holds of a token at a time.

    Its input, norms, queries, keys and values gathered for the blocks of attention, their output, and the
    inner layer of its feed-forward part.
    """
    config = model.config.get_text_config()
    hidden = int(getattr(config, "hidden_size", 1_024))
    inner = int(getattr(config, "intermediate_size", None) or 4 * hidden)
    return int(model.dtype.itemsize) * (16 * hidden + 4 * inner)


def free_bytes(device: Any) -> int:
    """Return the memory that is free on a device; on a CPU, what the system could hand out."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    told = Path("/proc/meminfo")
    if told.is_file():
        lines = dict(line.split(":", 1) for line in told.read_text(encoding="ascii").splitlines())
        if "MemAvailable" in lines:
            return int(lines["MemAvailable"].split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
