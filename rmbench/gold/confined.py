"""The processes that `rmbench.gold.program` runs a program in.

The file imports nothing of rmbench: it is started by its path, alone. The **keeper** takes program and tests
from standard input and forks the **worker** before it reads them. The worker sets its limits, runs the
program, then the tests, and then sends a random token. The token is new for each run. Until the tests have
run, the worker holds it on the value stack of one call: no name, no frame's variable, no container, no file
descriptor, no argument and no environment variable leads to it. Nothing else means "passed", no exit code
either. The keeper has the only way to rmbench, and the worker cannot reach the keeper.

What stays possible: program and tests share one interpreter. A program that reads its own process's raw
memory, or that rewrites the interpreter, can still pass; so can one whose objects claim to equal everything.
"""

# It starts once per program, so it imports little: the modules of C in place of those that wrap them.
from __future__ import annotations

import builtins
import ctypes
import marshal
import os
import resource
import site
import sys
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

_TOKEN_BYTES = 32
_OUT_OF_MEMORY = 97
"""Exit code of a worker out of memory. It is a reason for gold 0, which the program may choose, too."""
_NOBODY = 65534
_SIGINT, _SIGKILL, _SIGXCPU, _DEFAULT, _IGNORE = 2, 9, 24, 0, 1
# Of Linux: unshare(2), mount(2), mount_setattr(2), umount2(2), prctl(2), capabilities(7).
_NEW_MOUNTS, _NEW_UTS, _NEW_IPC, _NEW_USERS = 0x20000, 0x4000000, 0x8000000, 0x10000000
_NEW_PIDS, _NEW_NETWORK = 0x20000000, 0x40000000
_NOSUID, _NODEV, _BIND, _RECURSIVE, _PRIVATE = 2, 4, 0x1000, 0x4000, 0x40000
_MOUNT_SETATTR, _OF_TREE, _HERE = 442, 0x8000, -100
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
_DETACH = 2
_DEATH_SIGNAL, _DUMPABLE, _KEEP_CAPABILITIES, _NO_NEW_PRIVILEGES = 1, 4, 8, 38
_READ_FILES = 1 << 2
_CAPABILITY_VERSION = 0x20080522
_DEVICES = ("null", "zero", "full", "random", "urandom")


def main(isolation: str, settings: Mapping[str, Any]) -> None:
    """Run the program on standard input; say on standard output how it ended.

    Args:
        isolation: `unshare`: enter namespaces first; `bwrap`: they are there already; `none`: there are none.
        settings: `memory_mb`, `file_mb`, `seconds`; `paths`, which join `sys.path`; `root`, an empty folder;
            `binds`, files and folders that the program may read; `links`, symbolic link -> target.
    """
    _try("prctl", _DEATH_SIGNAL, _SIGKILL, 0, 0, 0)
    if isolation == "unshare":
        try:
            _enter(settings)
        except OSError as error:
            _report("error", str(error))
            return
        keeper = os.fork()  # the first in its namespace of processes: the others cannot signal it
        if keeper:
            os.waitpid(keeper, 0)
            os._exit(0)
        _try("prctl", _DEATH_SIGNAL, _SIGKILL, 0, 0, 0)
    _keep(isolation, settings)


def _keep(isolation: str, settings: Mapping[str, Any]) -> None:
    """Be the keeper."""
    job_of_worker, job = os.pipe()
    done, done_of_worker = os.pipe()
    worker = os.fork()
    if worker == 0:
        os.close(job)
        os.close(done)
        _work(job_of_worker, done_of_worker, isolation, settings)
    os.close(job_of_worker)
    os.close(done_of_worker)
    _try("prctl", _DUMPABLE, 0, 0, 0, 0)  # nobody reads the keeper's memory
    _libc().signal(_SIGINT, _IGNORE)  # Python's own handler is one that the worker could reach
    problem = os.read(done, 4096).decode().strip()  # the worker's own words: no program has run yet
    if problem != "ready":
        _report("error", problem or "the worker did not start")
        return
    token = os.urandom(_TOKEN_BYTES)
    content = sys.stdin.buffer.read()
    try:
        with os.fdopen(job, "wb") as pipe:
            pipe.write(len(content).to_bytes(8, "little") + content)
            pipe.flush()
            pipe.write(token)
    except BrokenPipeError:
        pass  # the worker has ended; why is told below
    _, status, usage = os.wait4(worker, os.WUNTRACED)
    if os.WIFSTOPPED(status):
        os.kill(worker, _SIGKILL)
        os.waitpid(worker, 0)
    os.set_blocking(done, False)
    try:
        sent = os.read(done, _TOKEN_BYTES + 1)
    except BlockingIOError:
        sent = b""
    if sent == token:
        _report("passed")
    elif os.WTERMSIG(status) == _SIGXCPU or usage.ru_utime + usage.ru_stime >= settings["seconds"]:
        _report("failed", "the program ran out of time")
    elif os.WIFEXITED(status) and os.WEXITSTATUS(status) == _OUT_OF_MEMORY:
        _report("failed", "the program ran out of memory")
    elif os.WIFEXITED(status):
        _report("failed")
    else:
        _report("failed", "the program ended by a signal")


def _report(how: str, detail: str = "") -> None:
    sys.stdout.write(f"{how}\n{detail}")
    sys.stdout.flush()


def _work(job: int, done: int, isolation: str, settings: Mapping[str, Any]) -> None:
    """Be the worker; never returns."""
    _libc().signal(_SIGINT, _DEFAULT)  # whoever started rmbench may have it ignored
    try:
        _confine(isolation, settings)
    except OSError as error:
        os.write(done, str(error).encode() or b"unknown")
        os._exit(1)
    os.write(done, b"ready")
    leave = os._exit  # the program may replace it
    run = getattr(builtins, "exec")  # noqa: B009  (this file is what runs foreign code, and the only one)
    try:
        program, tests = _codes(job)
        names = _new_main()
        repaired = _repairs(names)
        sys.addaudithook(_keep_order)
        # Python looks up every name here, and takes the token, before it calls anything of the program's.
        # From then on all are on the stack of this call. `repaired` returns None: no locals for the tests.
        _pass(done, os.read(job, _TOKEN_BYTES), run(tests, names, repaired(run(program, names))))
    except MemoryError:
        leave(_OUT_OF_MEMORY)
    except BaseException:
        # SystemExit too: a program that leaves by itself has not come to the end of its tests.
        leave(1)


def _pass(done: int, token: bytes, _: object) -> None:
    os.write(done, token)
    os._exit(0)


def _codes(job: int) -> list[types.CodeType]:
    """Return the code of program and tests. Each is compiled alone: no open quote swallows the tests."""
    texts = marshal.loads(_read_all(job, int.from_bytes(_read_all(job, 8), "little")))
    return [
        compile(text, name, "exec", dont_inherit=True, optimize=0)
        for text, name in zip(texts, ("program.py", "tests.py"), strict=True)
    ]


def _new_main() -> dict[str, Any]:
    """Return the names of a new module `__main__`, for program and tests."""
    site.setquit()  # `exit` and `quit`; Python was started without them
    module = types.ModuleType("__main__")
    sys.modules["__main__"] = module
    names = vars(module)
    names["__builtins__"] = builtins
    return names


def _repairs(names: dict[str, Any]) -> Callable[[object], None]:
    """Return what restores the functions of Python that a program has replaced, such as `all` or `len`."""
    known = vars(builtins)
    before = dict(known)

    def repaired(_: object) -> None:
        known.update(before)
        names["__builtins__"] = builtins

    return repaired


def _keep_order(event: str, _: object) -> None:
    if event == "sys.settrace":
        raise RuntimeError("a trace function could jump over tests")


def _read_all(fd: int, n: int) -> bytes:
    content = b""
    while len(content) < n:
        content += os.read(fd, n - len(content))
    return content


def _confine(isolation: str, settings: Mapping[str, Any]) -> None:
    """Set the worker's limits, for good.

    Raises:
        OSError: If it could still start other processes, or cannot read Python.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.close(nothing)
    is_root = os.geteuid() == 0
    if isolation == "none":
        # Without a network where the system lets us take it away.
        _try("unshare", _NEW_NETWORK if is_root else _NEW_USERS | _NEW_NETWORK)
    if is_root:  # the limit on processes holds for everybody but root
        _become_nobody(may_read_all=isolation == "none")
    elif isolation != "none":
        _drop_capabilities(0)
    (_try if isolation == "none" else _call)("prctl", _NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    _try("prctl", _DEATH_SIGNAL, _SIGKILL, 0, 0, 0)
    for place in (os.path.dirname(os.__file__), *settings["paths"]):
        try:
            os.close(os.open(place, os.O_RDONLY))
        except PermissionError:
            raise OSError(f"the user nobody cannot read {place}") from None
        if place not in sys.path:
            sys.path.append(place)
    for name, value in (
        ("RLIMIT_AS", settings["memory_mb"] * 2**20),
        ("RLIMIT_FSIZE", settings["file_mb"] * 2**20),
        ("RLIMIT_CPU", settings["seconds"]),
        ("RLIMIT_NOFILE", 64),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NPROC", 0),
    ):
        # The soft limit on time ends the program by a signal of its own, which tells it from other ends.
        hard = value + 1 if name == "RLIMIT_CPU" else value
        try:
            resource.setrlimit(getattr(resource, name), (value, hard))
        except (AttributeError, ValueError):  # a system without it, or a lower limit
            continue
    if _can_fork():
        raise OSError("programs cannot be kept from starting others on this system; run as another user")


def _become_nobody(*, may_read_all: bool) -> None:
    """Give up being root; keep the right to read files only if Python itself could not be read without."""
    if may_read_all:
        _try("prctl", _KEEP_CAPABILITIES, 1, 0, 0, 0)
    try:
        os.setgroups([])
    except PermissionError:  # in a namespace of users that forbids it
        pass
    os.setgid(_NOBODY)
    os.setuid(_NOBODY)
    if may_read_all:
        _drop_capabilities(0 if os.access(os.__file__, os.R_OK) else _READ_FILES)


def _drop_capabilities(but: int) -> None:
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)(but, but, 0, 0, 0, 0))


def _can_fork() -> bool:
    try:
        child = os.fork()
    except OSError:
        return False
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    return True


def _enter(settings: Mapping[str, Any]) -> None:
    """Enter namespaces of our own, with `root` as the root folder: Python, read-only, and an empty /tmp.

    Raises:
        OSError: If the system does not let us; it says which step failed.
    """
    user, group = os.geteuid(), os.getegid()
    new = _NEW_MOUNTS | _NEW_NETWORK | _NEW_PIDS | _NEW_IPC | _NEW_UTS
    _call("unshare", new if user == 0 else new | _NEW_USERS)
    if user:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{_NOBODY} {user} 1")
        _write("/proc/self/gid_map", f"{_NOBODY} {group} 1")
    _call("sethostname", b"rmbench", 7)
    root, empty = os.fsencode(settings["root"]), os.fsencode(settings["root"]) + b"/tmp"
    _call("mount", b"none", b"/", None, _RECURSIVE | _PRIVATE, None)
    _call("mount", b"tmpfs", root, b"tmpfs", _NOSUID | _NODEV, b"mode=755,size=1m")
    os.mkdir(empty)
    size = max(16, 4 * settings["file_mb"])
    _call("mount", b"tmpfs", empty, b"tmpfs", _NOSUID | _NODEV, b"mode=1777,size=%dm" % size)
    for place in settings["binds"]:
        _bind(place, settings["root"])
    for link, target in settings["links"].items():
        os.symlink(target, settings["root"] + link)
    devices = [f"/dev/{name}" for name in _DEVICES if os.path.exists(f"/dev/{name}")]
    for device in devices:
        _empty_like(device, settings["root"] + device)
    _set_attributes(root, _OF_TREE, add=_ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV)
    _set_attributes(empty, 0, remove=_ATTR_RDONLY)
    for device in devices:
        _call("mount", os.fsencode(device), os.fsencode(settings["root"] + device), None, _BIND, None)
    os.chdir(root)
    _call("pivot_root", b".", b".")
    _call("umount2", b".", _DETACH)
    os.chdir("/tmp")  # noqa: S108  (the program's own, made above)


def _bind(place: str, root: str) -> None:
    _empty_like(place, root + place)
    _call("mount", os.fsencode(place), os.fsencode(root + place), None, _BIND | _RECURSIVE, None)


def _empty_like(place: str, there: str) -> None:
    """Make an empty folder or file to mount `place` on."""
    if os.path.isdir(place):
        os.makedirs(there, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(there), exist_ok=True)
        os.close(os.open(there, os.O_CREAT | os.O_WRONLY, 0o644))


def _set_attributes(place: bytes, flags: int, *, add: int = 0, remove: int = 0) -> None:
    attributes = (ctypes.c_uint64 * 4)(add, remove, 0, 0)
    if _libc().syscall(_MOUNT_SETATTR, _HERE, place, flags, attributes, ctypes.sizeof(attributes)):
        raise OSError(f"mount_setattr: {os.strerror(ctypes.get_errno())} (Linux 5.12 has it)")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def _call(name: str, *arguments: Any) -> None:
    """Call a function of the C library; its error names it."""
    function: Callable[..., int] | None = getattr(_libc(), name, None)
    if function is None:
        raise OSError(f"{name}: this system does not have it")
    if function(*arguments):
        raise OSError(f"{name}: {os.strerror(ctypes.get_errno())}")


def _try(name: str, *arguments: Any) -> None:
    """Call a function of the C library where the system has it and lets us; `isolation=none` needs none."""
    function: Callable[..., int] | None = getattr(_libc(), name, None)
    if function is not None:
        function(*arguments)


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


if __name__ == "__main__":
    main(sys.argv[1], marshal.loads(bytes.fromhex(sys.argv[2])))
