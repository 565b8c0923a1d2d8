"""Everything that rmbench raises on purpose.

RmbenchError
├── ConfigError            wrong usage or input: exit code 2
│   ├── UnknownNameError   a name nobody registered
│   └── DataError          a file, line or key that does not fit its format
└── RunError               the run itself failed: exit code 1
    ├── ScoringError       a reward model broke its contract
    │   └── UnwritableError    a conversation that a model's text format cannot write: exit code 2
    └── StoreError         a score store or record is corrupt or foreign

An error is one line that says what is wrong, where, and what was expected. It is turned into an exit
code once, at the edge of the command line, and never caught to be logged.
"""

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any


class RmbenchError(Exception):
    """Base class of every error raised on purpose."""

    exit_code = 1

    def _render_traceback_(self) -> list[str]:
        """Return what IPython and Jupyter show: the line that the command line prints, and no traceback."""
        return [f"error: {self}"]


class ConfigError(RmbenchError):
    """Wrong usage or wrong input; nothing was run and nothing was written."""

    exit_code = 2


class UnknownNameError(ConfigError):
    """A name nobody registered; the message names the nearest known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str], where: str = "") -> None:
        self.known = known = sorted(set(known))
        close = get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        place = f"{where}: " if where else ""
        super().__init__(f"{place}unknown {kind} {name!r}.{hint} Known: {', '.join(known) or 'none'}.")


class DataError(ConfigError):
    """A file, line or key that does not fit its format.

    Args:
        problem: What is wrong, and what was expected.
        path: In which file.
        line: In which line (or row), from 1.
        key: Under which key.
        reason: The kind of problem, in a few words: what `--on-bad skip` counts by.
    """

    def __init__(
        self,
        problem: str,
        *,
        path: Path | str,
        line: int | None = None,
        key: str | None = None,
        reason: str = "does not fit the format",
    ) -> None:
        where = str(path) + (f", line {line}" if line is not None else "") + (f", key {key!r}" if key else "")
        super().__init__(f"{where}: {problem}")
        self.problem = problem
        self.line = line
        self.reason = reason


class RunError(RmbenchError):
    """The run failed after its input was accepted."""


class ScoringError(RunError):
    """A reward model broke its contract (count, finiteness, type) or raised."""


class UnwritableError(ScoringError):
    """A conversation that a model's text format cannot write, such as roles that its template refuses.

    Args:
        problem: What is wrong, and what was expected.
        turns: The conversation; None where it is not known.
        reason: The kind of problem, in a few words: what `--on-bad skip` counts by.
    """

    exit_code = 2

    def __init__(self, problem: str, turns: Sequence[Any] | None = None, *, reason: str) -> None:
        super().__init__(problem)
        self.problem, self.turns, self.reason = problem, turns, reason


class StoreError(RunError):
    """A score store or run record is corrupt, or belongs to something else."""


def first_line(error: BaseException) -> str:
    """Return what another library's error says first, without a traceback or a screen of advice."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def is_panic(error: BaseException) -> bool:
    """Return whether a library written in Rust, such as tokenizers, crashed: no Exception of Python."""
    return type(error).__name__ == "PanicException"


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an exception means that a smaller batch may succeed; torch's own, by its text."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and ("out of memory" in text or "can't allocate memory" in text)
