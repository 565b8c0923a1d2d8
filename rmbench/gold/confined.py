"""The process in which `rmbench.gold.program` runs a program: it sets its limits, then becomes the program.

It is started by its path and imports nothing of rmbench. Arguments: memory in MB, largest file in MB, seconds
of processor time. The program comes on standard input.
"""

import builtins
import contextlib
import ctypes
import os
import resource
import sys

PASSED = 96
"""Exit code of success. A program that ends itself before its tests (`os._exit(0)`) returns 0."""
OUT_OF_MEMORY = 97
NOT_CONFINED = 98
_NOBODY = 65534
# Of Linux: unshare(2), prctl(2), capabilities(7).
_NEW_USERS, _NEW_NETWORK = 0x10000000, 0x40000000
_KEEP_CAPABILITIES = 8
_READ_FILES = 1 << 2
_CAPABILITY_VERSION = 0x20080522


def main(memory_mb: int, file_mb: int, seconds: int) -> None:
    """Run the program on standard input within limits; exit with PASSED if it finishes without an error."""
    source = sys.stdin.buffer.read().decode("utf-8")
    if os.geteuid() == 0:  # the limit on processes holds for everybody but root
        _unshare(_NEW_NETWORK)
        _become_nobody()
    else:
        _unshare(_NEW_USERS | _NEW_NETWORK)
    for name, value in (
        ("RLIMIT_AS", memory_mb * 2**20),
        ("RLIMIT_FSIZE", file_mb * 2**20),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_NOFILE", 64),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NPROC", 0),
    ):
        with contextlib.suppress(AttributeError, ValueError, OSError):
            limit = getattr(resource, name)
            # The soft limit on time ends the program by its own signal, so this end can be recognised.
            resource.setrlimit(limit, (value, value + 1 if name == "RLIMIT_CPU" else value))
    if _can_fork():
        os._exit(NOT_CONFINED)
    try:
        run = getattr(builtins, "exec")  # noqa: B009  (this file is what runs foreign code, and the only one)
        run(compile(source, "program.py", "exec"), {"__name__": "__main__"})
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException:
        # SystemExit too: a program that leaves by itself has not come to its tests.
        os._exit(1)
    os._exit(PASSED)


def _unshare(what: int) -> None:
    """Move into new namespaces, if the system allows it."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).unshare(what)


def _become_nobody() -> None:
    """Give up root; keep the right to read files only if Python itself could not be read without it."""
    libc = ctypes.CDLL(None)
    libc.prctl(_KEEP_CAPABILITIES, 1, 0, 0, 0)
    with contextlib.suppress(OSError):
        os.setgroups([])
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    rights = 0 if os.access(os.__file__, os.R_OK) else _READ_FILES
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    libc.capset(header, (ctypes.c_uint32 * 6)(rights, rights, 0, 0, 0, 0))


def _can_fork() -> bool:
    try:
        child = os.fork()
    except OSError:
        return False
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


if __name__ == "__main__":
    main(*map(int, sys.argv[1:4]))
