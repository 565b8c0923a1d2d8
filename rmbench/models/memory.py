"""Memory of this machine, as its system reports it."""

import os
from pathlib import Path

_TOLD = Path("/proc/meminfo")
_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
"""Where a container's limit stands: version 2 of control groups, then version 1."""


def free_memory() -> int:
    """Return the bytes that the system could hand out; where it does not say so, half of all bytes."""
    if _TOLD.is_file():
        lines = dict(line.split(":", 1) for line in _TOLD.read_text(encoding="ascii").splitlines())
        if "MemAvailable" in lines:
            return int(lines["MemAvailable"].split()[0]) * 1024
    return all_memory() // 2


def all_memory() -> int:
    """Return the bytes of memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def container_limit() -> int | None:
    """Return the bytes that a container may use; None without a limit below the machine's memory."""
    for path in _LIMITS:
        if path.is_file():
            told = path.read_text(encoding="ascii").strip()
            return int(told) if told.isdigit() and int(told) < all_memory() else None
    return None
