"""`python`: the program in a response passes the item's tests. Off unless execution is allowed explicitly.

The program runs in a separate process with limits on time, memory, file size and open files, without a
network if the system allows that, and cannot start other processes. **This is not a security boundary**: it
protects against accidents (an endless loop, a full memory), not against attacks. Run programs that may be
malicious in a virtual machine.
"""

import math
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError
from rmbench.gold.confined import NOT_CONFINED, OUT_OF_MEMORY, PASSED
from rmbench.gold.verifier import NO_ANSWER, Verdict, needed, register_verifier
from rmbench.types import GoldKind

_FENCE = re.compile(r"```(?:python|py|python3)?[ \t]*\n(.*?)```", re.DOTALL)
WAIT_S = 20.0
"""Seconds that a program may wait beyond its processor time, since the machine may be busy."""

_CONFINED = Path(__file__).with_name("confined.py")


@register_verifier("python")
class PythonTests:
    """The program in the response, followed by the item's `tests` (Python asserts), runs without an error.

    Args:
        allow_execution: Allow programs to run; they are confined, which is not a security boundary.
        seconds: Processor time of one program; beyond it the program is wrong, and counted. A program that
            only waits is stopped 20 seconds later, and its gold is unknown.
        memory_mb: Memory of one program.
        file_mb: Largest file that it may write.
    """

    version = "1"
    gold_kind: GoldKind = "label"

    def __init__(
        self, allow_execution: bool = False, seconds: float = 10.0, memory_mb: int = 1024, file_mb: int = 8
    ) -> None:
        if not allow_execution:
            raise ConfigError(
                "it runs programs that a model has written, and is off; -G allow_execution=yes turns it on"
                " (limits on time, memory and files are set, and are not a security boundary)"
            )
        if not seconds > 0 or memory_mb < 64 or file_mb < 0:
            raise ConfigError("expected seconds above 0, memory_mb from 64 and file_mb from 0")
        self._seconds, self._memory_mb, self._file_mb = seconds, memory_mb, file_mb

    def verify(self, response: str, expected: Mapping[str, Any]) -> Verdict:
        """Return 1 if program and tests run without an error, 0 if they fail."""
        tests = str(needed(expected, "tests"))
        program = find_program(response)
        if program is None:
            return Verdict(0.0, NO_ANSWER)
        return self._run(f"{program}\n\n{tests}\n")

    def _run(self, source: str) -> Verdict:
        with tempfile.TemporaryDirectory(prefix="rmbench-python-") as folder:
            Path(folder).chmod(0o777)  # the program may run as nobody
            limits = [str(self._memory_mb), str(self._file_mb), str(math.ceil(self._seconds))]
            process = subprocess.Popen(
                [sys.executable, "-I", "-B", str(_CONFINED), *limits],
                cwd=folder,
                env={"PATH": os.defpath, "HOME": folder, "LC_ALL": "C.UTF-8"},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
            try:
                process.communicate(source.encode("utf-8", "replace"), timeout=self._seconds + WAIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                return Verdict(None, "timed out")
        if process.returncode == NOT_CONFINED:
            raise ConfigError(
                "programs cannot be kept from starting others on this system; run as another user"
            )
        if process.returncode == -signal.SIGXCPU:
            return Verdict(0.0, "the program ran out of time")
        if process.returncode == -signal.SIGKILL:
            return Verdict(None, "the program was killed from outside")
        if process.returncode == OUT_OF_MEMORY:
            return Verdict(0.0, "the program ran out of memory")
        return Verdict(float(process.returncode == PASSED))


def find_program(response: str) -> str | None:
    """Return the last fenced block of Python, else the whole text if it is code; None without either."""
    fences = [block for block in _FENCE.findall(response) if block.strip()]
    if fences:
        return str(fences[-1])
    return response if re.search(r"^\s*(?:def|import|from|class|print\()", response, re.MULTILINE) else None
