"""Devices of this machine: cores, threads, memory, accelerators."""

import os
import platform
import shutil
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from rmbench.core.versions import installed_version
from rmbench.errors import first_line
from rmbench.models.memory import all_memory, container_limit, free_memory
from rmbench.scoring.processes import n_cores

_LIBRARIES = ("torch", "transformers")


@dataclass(frozen=True, slots=True)
class Machine:
    """Cores, threads, memory and accelerators."""

    processor: str
    cores: int
    """Cores that this process may use."""
    all_cores: int
    memory: int
    """Bytes."""
    free_memory: int
    """Bytes."""
    memory_limit: int | None
    """Bytes that the container may use; None without such a limit."""
    threads: int | None
    """Threads that torch computes in; None without torch."""
    fast_bfloat16: bool | None
    """Whether the CPU has instructions for bfloat16; None without torch."""
    cuda: tuple[str, ...]
    """A line for each CUDA device that torch sees."""
    cuda_build: str | None
    """The CUDA version that torch was built with; None without one."""
    mps: bool
    broken: tuple[str, ...]
    """Libraries that are installed and do not import, with the reason."""


def machine() -> Machine:
    """Look at this machine. torch and transformers are imported if they are installed."""
    broken = []
    for name in _LIBRARIES:
        if installed_version(name) is not None:
            try:
                import_module(name)
            except Exception as error:  # a broken build raises anything; that it is broken is the finding
                broken.append(f"{name}: {first_line(error)}")
    torch = None if broken or installed_version("torch") is None else import_module("torch")
    return Machine(
        processor=_processor(),
        cores=n_cores(),
        all_cores=os.cpu_count() or 1,
        memory=all_memory(),
        free_memory=free_memory(),
        memory_limit=container_limit(),
        threads=None if torch is None else torch.get_num_threads(),
        fast_bfloat16=None if torch is None else _fast_bfloat16(),
        cuda=() if torch is None else tuple(_cuda(torch)),
        cuda_build=None if torch is None else torch.version.cuda,
        mps=torch is not None and bool(torch.backends.mps.is_available()),
        broken=tuple(broken),
    )


def problems_of(found: Machine) -> list[str]:
    """Return what is wrong with a machine, each with what to do."""
    told = [f"{line}: it is installed but does not import; install it again" for line in found.broken]
    if not found.cuda and not found.broken and found.threads is not None and shutil.which("nvidia-smi"):
        why = "sees no CUDA device" if found.cuda_build else "is a build without CUDA"
        told.append(f"nvidia-smi is here, but torch {why}; see https://pytorch.org/get-started")
    if found.threads is not None and found.threads > found.cores:
        told.append(
            f"torch computes in {found.threads} threads on {found.cores} cores;"
            f" set OMP_NUM_THREADS={found.cores}"
        )
    return told


def _fast_bfloat16() -> bool | None:
    if installed_version("transformers") is None:
        return None
    from rmbench.models.hf.device import cpu_multiplies_bfloat16

    return cpu_multiplies_bfloat16()


def _cuda(torch: Any) -> list[str]:
    if not torch.cuda.is_available():
        return []
    told = []
    for index in range(torch.cuda.device_count()):
        asked = torch.cuda.get_device_properties(index)
        capability = f"{asked.major}.{asked.minor}"
        told.append(f"cuda:{index}: {asked.name}, {asked.total_memory / 1e9:.1f} GB, capability {capability}")
    return told


def _processor() -> str:
    """Return the processor's name as the system has it."""
    told = Path("/proc/cpuinfo")
    if told.is_file():
        for line in told.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
