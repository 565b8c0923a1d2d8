"""Isolation of programs that a model has written: what they see, and the command that starts one.

A program runs as the user nobody, in namespaces of its own: it sees a read-only Python and an empty /tmp,
no other file, no network, no other process and no environment variable of the user's.
"""

import marshal
import os
import shutil
import site
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

Isolation: TypeAlias = Literal["auto", "bwrap", "unshare", "none"]

CONFINED = Path(__file__).with_name("confined.py")
_SEEN_FILE = "/confined.py"
_SYSTEM = ("/lib", "/lib32", "/lib64", "/usr/lib", "/usr/lib32", "/usr/lib64", "/nix/store",
           "/gnu/store", "/etc/ld.so.cache", "/usr/share/zoneinfo")  # fmt: skip
"""Shared libraries and time zones, where they exist."""


@dataclass(frozen=True, slots=True)
class Seen:
    """The files that a program may read."""

    executable: str
    """Python, without symbolic links."""
    paths: tuple[str, ...]
    """Folders of installed packages."""
    binds: tuple[str, ...]
    """Files and folders, none inside another."""
    links: Mapping[str, str]
    """Symbolic link -> target."""


def seen_files() -> Seen:
    """Return the files of this Python and of the system's libraries, and nothing else."""
    executable = str(Path(getattr(sys, "_base_executable", None) or sys.executable).resolve())
    packages = [p for p in site.getsitepackages() if p in sys.path]  # without the user's own
    python = [sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib"), *packages]
    base = [
        f"{prefix}/{name}" for prefix in (sys.base_prefix, sys.base_exec_prefix) for name in ("lib", "lib64")
    ]
    links = {p: str(Path(p).readlink()) for p in _SYSTEM if Path(p).is_symlink() and Path(p).is_dir()}
    binds: list[str] = []
    for place in sorted({*python, *base, executable, *_SYSTEM} - set(links)):
        inside = any(Path(place).is_relative_to(other) for other in [*binds, *links])
        if not inside and Path(place).exists():
            binds.append(place)
    return Seen(executable, tuple(packages), tuple(binds), links)


def command_for(isolation: str, root: Path, limits: Mapping[str, int]) -> list[str]:
    """Return the command that runs one program.

    Args:
        isolation: `bwrap`, `unshare` or `none`.
        root: An empty folder.
        limits: `memory_mb`, `file_mb` and `seconds`.
    """
    seen = seen_files()
    settings: dict[str, Any] = {**limits, "paths": seen.paths}
    if isolation == "unshare":
        settings |= {"root": str(root), "binds": seen.binds, "links": dict(seen.links)}
    # -I: no variable and no folder of the user's joins the path of imports. -S: no .pth file runs.
    file = _SEEN_FILE if isolation == "bwrap" else str(CONFINED)
    python = [seen.executable, "-I", "-S", "-B", file, isolation, marshal.dumps(settings).hex()]
    return [*_bwrap(seen, limits), "--", *python] if isolation == "bwrap" else python


def environment(folder: str) -> dict[str, str]:
    """Return the only environment variables that a program has."""
    told = {"PATH": os.defpath, "HOME": folder, "LC_ALL": "C.UTF-8", "TZ": "UTC"}
    # A program starts no threads, so libraries must not try.
    return told | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def _bwrap(seen: Seen, limits: Mapping[str, int]) -> list[str]:
    size = max(16, 4 * limits["file_mb"]) * 2**20
    found = shutil.which("bwrap") or "bwrap"
    command = [found, "--unshare-user", "--unshare-all", "--uid", "65534", "--gid", "65534",
               "--cap-drop", "ALL", "--die-with-parent", "--new-session", "--as-pid-1",
               "--hostname", "rmbench", "--dev", "/dev",
               "--perms", "1777", "--size", str(size), "--tmpfs", "/tmp"]  # fmt: skip  # noqa: S108
    for place in seen.binds:
        command += ["--ro-bind", place, place]
    for link, target in seen.links.items():
        command += ["--symlink", target, link]
    return [*command, "--ro-bind", str(CONFINED), _SEEN_FILE, "--remount-ro", "/", "--chdir", "/tmp"]  # noqa: S108
