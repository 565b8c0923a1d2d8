"""Comparisons of untrusted text in a separate process, under limits on time and memory.

A regular expression or a formula can take arbitrarily long, and C code cannot be interrupted from within. The
process is started once, answers one question after the other, and is killed at its time limit.
"""

import contextlib
import json
import os
import select
import subprocess
import sys
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rmbench.core.user_file import module_at, place_of
from rmbench.errors import ConfigError

_START_S = 60.0
_MEMORY_MB = 1024


class OutOfLimits(Exception):  # noqa: N818  (its text is the reason that is counted)
    """A question that reached a limit; the text names the limit."""


class Bounded:
    """A process that calls one function repeatedly; it is started at the first question.

    Args:
        function: A top-level function of a module, in this package, another package or a user's file.
            Arguments and value are JSON. A `prepare()` in the same module is called once, before the memory
            is limited.
        seconds: Time limit of one question.
    """

    def __init__(self, function: Callable[..., Any], seconds: float) -> None:
        if not seconds > 0:
            raise ConfigError(f"seconds is {seconds:g}; expected a number above 0")
        self._function = function
        self.seconds = seconds
        """Time limit of the next question."""
        self._process: subprocess.Popen[bytes] | None = None
        self._finalize: Any = None

    def ask(self, *arguments: Any) -> Any:
        """Return the answer to one question.

        Raises:
            OutOfLimits: At a limit of time, memory or depth.
            ConfigError: If the question itself is wrong, or a library for it is missing.
        """
        process = self._process or self._start()
        assert process.stdin is not None  # noqa: S101  (piped)
        try:
            process.stdin.write(json.dumps(arguments).encode("ascii") + b"\n")
            process.stdin.flush()
            line = self._line(process, self.seconds)
        except BrokenPipeError:
            line = b""
        if not line:
            timed_out = line is None
            self.close()
            raise OutOfLimits("timed out" if timed_out else "ran out of memory or crashed")
        reply = json.loads(line)
        if "error" in reply:
            raise ConfigError(reply["error"])
        if "limit" in reply:
            raise OutOfLimits(reply["limit"])
        return reply["answer"]

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self._process is not None:
            self._process = None
            self._finalize()

    def _start(self) -> subprocess.Popen[bytes]:
        package = str(Path(__file__).resolve().parents[2])
        path = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
        place = (*place_of(self._function.__module__), self._function.__name__)
        process = subprocess.Popen(
            # -P: modules are never imported from the user's working directory.
            [sys.executable, "-P", "-m", "rmbench.gold.bounded", *place],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": path},
        )
        self._process, self._finalize = process, weakref.finalize(self, _end, process)
        if not (line := self._line(process, _START_S)):
            self.close()
            raise OutOfLimits("the process for it did not start")
        if "error" in (reply := json.loads(line)):
            self.close()
            raise ConfigError(reply["error"])
        return process

    def _line(self, process: subprocess.Popen[bytes], seconds: float) -> bytes | None:
        """Return the next line; empty if the process has ended, None if time is up."""
        assert process.stdout is not None  # noqa: S101  (piped)
        if not select.select([process.stdout], [], [], seconds)[0]:
            return None
        return process.stdout.readline()


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):
                pipe.close()
    process.wait()


def _serve(file: str, of: str, name: str) -> None:
    """Answer the questions on standard input, one JSON line each."""
    import resource

    try:
        module = module_at(file, of)
        answer = getattr(module, name)
        if (prepare := getattr(module, "prepare", None)) is not None:
            prepare()
    except (ImportError, ConfigError) as error:
        _say({"error": str(error)})
        return
    memory = _MEMORY_MB * 2**20
    with contextlib.suppress(ValueError, OSError):  # systems that have no such limit
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    _say({"answer": None})
    for line in sys.stdin:
        try:
            _say({"answer": answer(*json.loads(line))})
        except ConfigError as error:
            _say({"error": str(error)})
        except MemoryError:
            _say({"limit": "ran out of memory"})
        except RecursionError:
            _say({"limit": "nested too deeply"})
        except Exception as error:  # of whatever library answers: this question alone has no answer
            _say({"limit": f"failed ({type(error).__name__})"})


def _say(reply: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(reply) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _serve(*sys.argv[1:])
