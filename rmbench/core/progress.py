"""Progress bar on stderr: work done, speed, time left. Nothing is shown without a terminal."""

import sys
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rmbench.core.digits import Digits
from rmbench.core.escape import one_line

if TYPE_CHECKING:
    from rich.progress import Progress


class Bar:
    """A count with a text beside it; a context manager. Implements `rmbench.scoring.Progress`.

    Args:
        label: Work that goes on, such as "length on bon".
        unit: Things that are counted, such as "texts".
        pairs_per_step: For training: shows pairs per second.
        enabled: False for no bar. Without a terminal there is none either.
    """

    def __init__(self, label: str, unit: str, *, pairs_per_step: int = 0, enabled: bool = True) -> None:
        self.is_shown = enabled and sys.stderr.isatty()
        self._bar = _drawn(one_line(label, 60), unit) if self.is_shown else None
        self._pairs_per_step = pairs_per_step
        self._began: tuple[float, int] | None = None
        self._done = self._n_tokens = 0
        self._total: int | None = None

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def start(self, total: int | None) -> None:
        """Show how much there is, or about; None: unknown."""
        self._total = total
        self._show("")

    def advance(self, n: int, n_tokens: int) -> None:
        """Move on by `n`, with so many tokens read."""
        self._done += n
        self._n_tokens += n_tokens
        self._show(self._speed(self._n_tokens, "tokens/s"))

    def advance_to(self, done: int) -> None:
        """Show that `done` are done; more than `start` was told move the end."""
        self._done = done
        if self._total is not None:
            self._total = max(self._total, done)
        speed = self._speed(done, "rows/s")
        self._show(f"({speed})" if speed else "")

    def step(self, done: int, total: int, shown: str | Mapping[str, float]) -> None:
        """Show that `done` of `total` are done, with a name, or with loss, margin and accuracy."""
        self._done, self._total = done, total
        if not isinstance(shown, str):
            said = [f"{k} {Digits().write(shown[k])}" for k in ("loss", "margin", "accuracy") if k in shown]
            now = time.monotonic()
            self._began = self._began or (now, done)  # a resumed run does not start at 0
            since, first = self._began
            if done > first and now > since:
                said.append(f"{(done - first) * self._pairs_per_step / (now - since):,.1f} pairs/s")
            self._show(" ".join(said))
        else:
            self._show(one_line(shown, 60))

    def texts(self, done: int, total: int) -> None:
        """Show how many texts a frozen backbone has read; the count stays."""
        self._show(f"({done:,} of {total:,} texts read)")

    def _speed(self, n: int, unit: str) -> str:
        elapsed = self._bar.tasks[0].elapsed if self._bar is not None else None
        return f"{n / elapsed:,.0f} {unit}" if n and elapsed else ""

    def _show(self, text: str) -> None:
        if self._bar is not None:
            task = self._bar.tasks[0].id
            self._bar.update(task, completed=self._done, total=self._total, shown=text)


def line_of(width: int, *, label: str, count: str, shown: str, times: tuple[str, str], share: float) -> str:
    """Return a bar's line that fits into `width`; what matters least is left out first.

    Args:
        width: Columns of the terminal.
        label: Work that goes on; shortened to what the rest leaves, at least 8 characters.
        count: What is done, and of how much.
        shown: Speed, or losses.
        times: Time that passed, and time left.
        share: What is done, in [0, 1].
    """
    passed, left = times
    for parts in ((shown, passed, left), (shown, left), (shown,), (left,), ()):
        tail = "  ".join(filter(None, (count, *parts)))
        room = width - len(tail) - 2
        if room < min(len(label), _LEAST_LABEL):
            continue
        name = one_line(label, max(room, 1))
        drawn = min(room - len(name) - 2, _WIDEST_BAR)
        if drawn >= _LEAST_LABEL:
            done = round(drawn * min(max(share, 0.0), 1.0))
            name += "  " + "━" * done + "─" * (drawn - done)
        return f"{name}  {tail}"
    return count[:width]


_LEAST_LABEL, _WIDEST_BAR = 8, 40
"""Characters below which a label is not shortened and a bar is not drawn; the longest bar."""


def _drawn(label: str, unit: str) -> "Progress":
    # Here and not above: without a terminal nobody waits for the import.
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn, Task
    from rich.text import Text

    console = Console(stderr=True)

    class Line(ProgressColumn):
        """The whole line, made for the width of the terminal."""

        def render(self, task: Task) -> Text:
            of = "" if task.total is None else f"/{task.total:,.0f}"
            line = line_of(
                console.width,
                label=task.description,
                count=f"{task.completed:,.0f}{of} {unit}",
                shown=task.fields["shown"],
                times=(_time(task.elapsed), f"{_time(task.time_remaining)} left"),
                share=task.completed / task.total if task.total else 0.0,
            )
            return Text(line, no_wrap=True, overflow="crop")

    bar = Progress(Line(), console=console, transient=True)
    bar.add_task(label, total=None, shown="")
    return bar


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "-:--"
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
