"""`python`: the program in a response passes the item's tests. Off unless execution is allowed explicitly.

Each program runs in a separate process with limits on time, memory, file size and open files, and cannot
start other processes. `rmbench.gold.isolation` keeps it away from the user's files, network and processes.
Only a random token, sent after the tests, means "passed" (`rmbench.gold.confined`). Programs share the kernel
with everything else. Run programs that may attack it in a virtual machine.
"""

import functools
import marshal
import math
import os
import re
import signal
import subprocess
import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from rmbench.core.escape import one_line
from rmbench.errors import ConfigError
from rmbench.gold.isolation import Isolation, command_for, environment
from rmbench.gold.verifier import NO_ANSWER, Verdict, needed, register_verifier
from rmbench.types import GoldKind

_FENCE = re.compile(r"```(?:python|py|python3)?[ \t]*\n(.*?)```", re.DOTALL)
WAIT_S = 20.0
"""Seconds that a program may wait beyond its processor time, since the machine may be busy."""


@register_verifier("python")
class PythonTests:
    """The program in the response, followed by the item's `tests` (Python asserts), runs without an error.

    Args:
        allow_execution: Allow programs to run. They are isolated, but share the kernel with everything else.
        seconds: Processor time of one program; beyond it the program is wrong, and counted. A program that
            only waits is stopped 20 seconds later, and its gold is unknown.
        memory_mb: Memory of one program.
        file_mb: Largest file that it may write.
        isolation: unshare: namespaces that rmbench makes; bwrap: those of bubblewrap; auto: the first of the
            two that works here; none: the program may read what the user may, and is only limited.
    """

    version = "2"
    gold_kind: GoldKind = "label"
    same_verdicts: ClassVar[Mapping[str, frozenset[str]]] = {
        "isolation": frozenset({"auto", "bwrap", "unshare"})
    }

    def __init__(
        self,
        allow_execution: bool = False,
        seconds: float = 10.0,
        memory_mb: int = 1024,
        file_mb: int = 8,
        isolation: Isolation = "auto",
    ) -> None:
        if not allow_execution:
            raise ConfigError(
                "it runs programs that a model has written, and is off; -G allow_execution=yes turns it on"
                " (programs are isolated and limited, but share the kernel with everything else)"
            )
        if not 0 < seconds < math.inf or memory_mb < 64 or file_mb < 0:
            raise ConfigError("expected seconds above 0, memory_mb from 64 and file_mb from 0")
        self._limits = {"memory_mb": memory_mb, "file_mb": file_mb, "seconds": math.ceil(seconds)}
        self._seconds = seconds
        self._isolation = found_isolation(isolation)

    def provenance(self) -> dict[str, str]:
        """Return the isolation that programs run in."""
        return {"isolation": self._isolation}

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 if program and tests run without an error, 0 if they fail.

        Raises:
            ConfigError: If the item's tests are not Python, or programs cannot be isolated.
        """
        tests = str(needed(expected, "tests"))
        _check_tests(tests)
        program = find_program(response)
        if program is None:
            return Verdict(0.0, NO_ANSWER)
        how, detail = run_confined(self._isolation, program, tests, self._limits, self._seconds + WAIT_S)
        if how == "error":
            raise ConfigError(f"isolation={self._isolation}: {detail}")
        return Verdict({"passed": 1.0, "failed": 0.0}.get(how), detail)


def found_isolation(asked: Isolation) -> str:
    """Return the isolation that works on this machine; each kind is tried once, with a program.

    Raises:
        ConfigError: If the one that is asked for does not work, or for `auto` none does.
    """
    told = []
    for kind in ("unshare", "bwrap") if asked == "auto" else (asked,):
        problem = problem_of(kind)
        if not problem:
            return kind
        told.append(f"{kind}: {problem}")
    accept = (
        "" if asked == "none" else "; -G isolation=none runs them without, so that they may read your files"
    )
    raise ConfigError(f"programs cannot be isolated on this machine ({'; '.join(told)}){accept}")


@functools.cache
def problem_of(isolation: str) -> str:
    """Return why programs cannot run in a kind of isolation here; empty if they can."""
    limits = {"memory_mb": 1024, "file_mb": 1, "seconds": 10}
    how, detail = run_confined(isolation, "ready = True\n", "assert ready\n", limits, 10.0 + WAIT_S)
    return "" if how == "passed" else detail or "it does not run a program that does nothing"


def run_confined(
    isolation: str, program: str, tests: str, limits: Mapping[str, int], wait_s: float
) -> tuple[str, str]:
    """Return how a program and its tests ended, `passed`, `failed`, `unknown` or `error`, and the reason.

    Args:
        isolation: `bwrap`, `unshare` or `none`.
        program: Python.
        tests: Python that follows it in the same module.
        limits: `memory_mb`, `file_mb` and `seconds` of processor time.
        wait_s: Seconds after which it is given up.
    """
    job = [text.encode("utf-8", "replace").decode() for text in (program, tests)]
    with tempfile.TemporaryDirectory(prefix="rmbench-python-") as folder:
        Path(folder).chmod(0o777)  # the program may run as nobody
        try:
            process = subprocess.Popen(
                command_for(isolation, Path(folder), limits),
                cwd=folder,
                env=environment(folder if isolation == "none" else "/tmp"),  # noqa: S108  (the program's own)
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            return "error", f"{Path(str(error.filename)).name}: {error.strerror}"
        try:
            out, err = process.communicate(marshal.dumps(job), timeout=wait_s)
        except BaseException as error:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            if isinstance(error, subprocess.TimeoutExpired):
                return "unknown", "timed out"
            raise
    how, _, detail = out.decode("utf-8", "replace").partition("\n")
    if how in ("passed", "failed", "error"):
        return how, detail
    if process.returncode > 0:  # bubblewrap, or Python itself, did not start
        return "error", one_line(err.decode("utf-8", "replace") or "it did not start", 300)
    return "unknown", "the process for it was killed from outside"


def _check_tests(tests: str) -> None:
    """Raise ConfigError for tests that are no Python: every program would fail them."""
    try:
        with warnings.catch_warnings(action="ignore"):
            compile(tests, "tests", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ConfigError(f"the item's 'tests' are no Python: {one_line(str(error), 200)}") from None


def find_program(response: str) -> str | None:
    """Return the last fenced block of Python, else the whole text if it is code; None without either."""
    fences = [block for block in _FENCE.findall(response) if block.strip()]
    if fences:
        return str(fences[-1])
    return response if re.search(r"^\s*(?:def|import|from|class|print\()", response, re.MULTILINE) else None
