"""A crew of threads: for models that wait for a server, and for those that compute faster side by side."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from queue import SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from rmbench.scoring.crew import Alone, Crew, Failure, attempt
from rmbench.types import AnyModel, ConcurrentModel, ParallelModel, Scored

U = TypeVar("U")


class Threads(Generic[U]):
    """Threads of this process that answer a batch each; a context manager.

    Args:
        ask: The model's `score` or `prefer`; called from several threads at once.
        n: Threads.
        wait: Wait at the end for what is being answered, a batch a thread at most: a process that ends while
            one of its threads computes is aborted.
    """

    def __init__(
        self, ask: Callable[[Sequence[U]], Sequence[float | Scored]], n: int, *, wait: bool = False
    ) -> None:
        self.n_at_once, self._wait = n, wait
        self._ask = ask
        self._waiting: SimpleQueue[tuple[int, Sequence[U]] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, Sequence[float | Scored] | Failure]] = SimpleQueue()
        # Daemons: after Ctrl-C nobody waits for a server that may take minutes.
        self._threads = [
            Thread(target=self._serve, name=f"rmbench-asker-{number}", daemon=True) for number in range(n)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, ticket: int, batch: Sequence[U]) -> None:
        """Put a batch into the queue."""
        self._waiting.put((ticket, batch))

    def finished(self) -> tuple[int, Sequence[float | Scored] | Failure]:
        """Return the ticket and the answers of a batch, when the next one is done."""
        return self._done.get()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(self.n_at_once):
            self._waiting.put(None)
        for thread in self._threads if self._wait else ():
            thread.join()

    def _serve(self) -> None:
        while (task := self._waiting.get()) is not None:
            ticket, batch = task
            self._done.put((ticket, attempt(self._ask, batch)))


def crew_of(
    model: AnyModel, ask: Callable[[Sequence[U]], Sequence[float | Scored]], crew: Crew[U] | None
) -> AbstractContextManager[Crew[U]]:
    """Return who answers for a model: `crew` where there is one, threads where the model allows them."""
    if crew is not None:
        return nullcontext(crew)
    if isinstance(model, ConcurrentModel):
        return Threads(ask, model.concurrency())
    if isinstance(model, ParallelModel) and (n := model.batches_at_once()) > 1:
        return _beside(model, n)
    return nullcontext(Alone(ask))


@contextmanager
def _beside(model: ParallelModel, n: int) -> Iterator[Crew[Any]]:
    try:
        with Threads(model.score_beside, n, wait=True) as crew:
            yield crew
    finally:
        model.end_beside()
