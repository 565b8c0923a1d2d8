"""Progress bars on stderr: what is done, how fast, time left. Silent where nobody watches."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from rmbench.core.digits import Digits
from rmbench.core.escape import one_line

if TYPE_CHECKING:
    from rich.progress import Progress


class _Bar:
    """A bar with a text of its own beside the count; silent without a terminal.

    Args:
        label: What is going on.
        unit: What is counted.
        enabled: False for no bar at all.
    """

    def __init__(self, label: str, unit: str, *, enabled: bool) -> None:
        self._bar = _drawn(label, unit) if enabled and sys.stderr.isatty() else None

    def _update(self, **fields: Any) -> None:
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], **fields)

    @property
    def _elapsed(self) -> float:
        return 0.0 if self._bar is None else self._bar.tasks[0].elapsed or 0.0

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def texts(self, done: int, total: int) -> None:
        """Show how many texts a frozen backbone has read."""
        self._update(shown=f"({done:,} of {total:,} texts read)")


def _drawn(label: str, unit: str) -> "Progress":
    # Without a terminal nobody waits for the import.
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    bar = Progress(
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit} {{task.fields[shown]}}", markup=False),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
    )
    bar.add_task(label, total=None, shown="")
    return bar


class ScoringBar(_Bar):
    """Shows the scoring of one model on one task; implements `rmbench.scoring.Progress`.

    Args:
        label: What is going on, e.g. "length on bon".
        enabled: False for no bar at all; without a terminal there is none either.
    """

    def __init__(self, label: str, *, enabled: bool = True) -> None:
        super().__init__(one_line(label, 60), "texts", enabled=enabled)
        self._tokens = 0

    def start(self, n_texts: int) -> None:
        """Show how much there is."""
        self._update(total=n_texts)

    def advance(self, n_texts: int, n_tokens: int) -> None:
        """Move on by one stored batch, or by what the store knew."""
        self._tokens += n_tokens
        elapsed = self._elapsed
        speed = f"{self._tokens / elapsed:,.0f} tokens/s" if self._tokens and elapsed > 0 else ""
        self._update(advance=n_texts, shown=speed)


class TrainingBar(_Bar):
    """Shows the training of one model: loss, margin, accuracy, pairs per second, time left.

    Args:
        step_size: Pairs per optimiser step.
        enabled: False for no bar at all; without a terminal there is none either.
    """

    def __init__(self, step_size: int, *, enabled: bool = True) -> None:
        super().__init__("training", "steps", enabled=enabled)
        self._step_size = step_size
        self._started: tuple[float, int] | None = None

    def step(self, done: int, total: int, shown: Mapping[str, float]) -> None:
        """Show the state after `done` of `total` optimiser steps."""
        now = time.monotonic()
        if self._started is None:  # a resumed run does not start at 0
            self._started = (now, done)
        text = " ".join(
            f"{k} {Digits().write(shown[k])}" for k in ("loss", "margin", "accuracy") if k in shown
        )
        elapsed, steps = now - self._started[0], done - self._started[1]
        if steps > 0 and elapsed > 0:
            text += f" {steps * self._step_size / elapsed:,.1f} pairs/s"
        self._update(total=total, completed=done, shown=text)


class ReadingBar(_Bar):
    """Shows how many rows are read, and the time left where their number can be guessed.

    Args:
        label: What is going on.
        enabled: False for no bar at all; without a terminal there is none either.
    """

    def __init__(self, label: str, *, enabled: bool = True) -> None:
        super().__init__(label, "rows", enabled=enabled)
        self._guess: int | None = None

    @property
    def is_shown(self) -> bool:
        """Whether somebody watches."""
        return self._bar is not None

    def start(self, n_rows: int | None) -> None:
        """Show about how many there are; None: nobody knows."""
        self._guess = n_rows
        self._update(total=n_rows)

    def advance_to(self, done: int) -> None:
        """Show that `done` rows are read."""
        elapsed = self._elapsed
        speed = f"({done / elapsed:,.0f} rows/s)" if elapsed > 0 else ""
        total = None if self._guess is None else max(self._guess, done)
        self._update(completed=done, total=total, shown=speed)


class StudyBar(_Bar):
    """Shows how many models of a study are done, and the time left.

    Args:
        enabled: False for no bar at all; without a terminal there is none either.
    """

    def __init__(self, *, enabled: bool = True) -> None:
        super().__init__("study", "models", enabled=enabled)

    def step(self, done: int, total: int, name: str) -> None:
        """Show that model `name` is done."""
        self._update(total=total, completed=done, shown=one_line(name, 60))


class ReportsBar(_Bar):
    """Shows how many models have their page, and the time left; without a terminal nothing."""

    def __init__(self) -> None:
        super().__init__("reports", "models", enabled=True)

    def step(self, done: int, total: int, name: str) -> None:
        """Show that `done` are done, and that `name` is next."""
        self._update(total=total, completed=done, shown=one_line(name, 60))
