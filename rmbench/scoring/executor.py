"""Executors compute the answers to the batches of the plan, in this process or in several.

`InProcess` answers one batch at a time. `Threads` are for models that wait for a server, and for models that
compute faster side by side. `Workers` is the base of executors whose workers are other processes
(`rmbench.scoring.processes`, `rmbench.scoring.ray`), each with a replica of the model.

The queue is in the process that plans: an idle worker gets the next batch, and none waits for the slowest.
Only that process reads and writes the score store. The batch of a worker that dies goes back to the queue.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from queue import SimpleQueue
from threading import Thread
from typing import Any, Generic, Protocol, Self, TypeAlias, TypeVar, overload

from rmbench.core.address import without_secrets
from rmbench.errors import ConfigError, RmbenchError, first_line, is_out_of_memory
from rmbench.models.resolve import LoadedModel, fingerprint_of
from rmbench.types import (
    AnyModel,
    ConcurrentModel,
    PairwiseModel,
    ParallelModel,
    PartedModel,
    PrecomputedRewards,
    Scored,
)

U = TypeVar("U")
W = TypeVar("W", bound=Hashable)
U_contra = TypeVar("U_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """The reason why a batch has no answers."""

    text: str
    """Text of the model's error."""
    out_of_memory: bool
    """True if a smaller batch may succeed."""
    cause: Exception | None = None
    """The exception, if raised in this process. None if out of memory: it would keep the batch alive."""


Answers: TypeAlias = Sequence[float | Scored] | Failure
Ask: TypeAlias = Callable[[Sequence[U]], Sequence[float | Scored]]
"""A model's `score` or `prefer`."""


class Executor(Protocol[U_contra]):
    """Answers batches, one or several at a time."""

    @property
    def n_at_once(self) -> int:
        """Batches that may be in work together."""
        ...

    def start(self, ticket: int, batch: Sequence[U_contra]) -> None:
        """Take a batch; `ticket` is its number."""
        ...

    def finished(self) -> tuple[int, Answers]:
        """Return the ticket and the answers of a batch, when the next one is done."""
        ...


@dataclass(frozen=True, slots=True)
class PartBatch(Sequence[U]):
    """A batch for one part of a model: a worker has the whole model."""

    part: int
    batch: Sequence[U]

    def __len__(self) -> int:
        return len(self.batch)

    @overload
    def __getitem__(self, place: int) -> U: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[U]: ...
    def __getitem__(self, place: int | slice) -> U | Sequence[U]:
        return self.batch[place]


def answer(model: Any, batch: Sequence[Any]) -> Sequence[float | Scored]:
    """Return the answers of a model, or of the part of it that a batch is for."""
    if isinstance(batch, PartBatch) and isinstance(model, PartedModel):
        return model.parts()[batch.part].model.score(batch.batch)
    return model.prefer(batch) if isinstance(model, PairwiseModel) else model.score(batch)


class InProcess(Generic[U]):
    """This process, one batch at a time.

    Args:
        ask: The model's `score` or `prefer`.
    """

    n_at_once = 1

    def __init__(self, ask: Ask[U]) -> None:
        self._ask = ask
        self._done: deque[tuple[int, Answers]] = deque()

    def start(self, ticket: int, batch: Sequence[U]) -> None:
        """Answer it now."""
        self._done.append((ticket, attempt(self._ask, batch)))

    def finished(self) -> tuple[int, Answers]:
        """Return what was answered."""
        return self._done.popleft()


def attempt(ask: Ask[U], batch: Sequence[U]) -> Answers:
    """Return the model's answers, or what it raised."""
    try:
        return ask(batch)
    except RmbenchError as error:
        return Failure(str(error), out_of_memory=False, cause=error)
    except Exception as error:
        text = f"the model raised {type(error).__name__} on a batch of {len(batch)}: {error}"
        if is_out_of_memory(error):
            return Failure(text, out_of_memory=True)
        return Failure(text, out_of_memory=False, cause=error)


class Threads(Generic[U]):
    """Threads of this process, each with a batch; a context manager.

    Args:
        ask: The model's `score` or `prefer`; called from several threads at once.
        n: Threads.
        wait: Wait at the end for the batches in work, at most one per thread: Python aborts a process that
            ends while one of its threads computes.
    """

    def __init__(self, ask: Ask[U], n: int, *, wait: bool = False) -> None:
        self.n_at_once, self._wait = n, wait
        self._ask = ask
        self._waiting: SimpleQueue[tuple[int, Sequence[U]] | None] = SimpleQueue()
        self._done: SimpleQueue[tuple[int, Answers]] = SimpleQueue()
        # Daemons: after Ctrl-C the process does not wait for a server that may take minutes.
        self._threads = [
            Thread(target=self._serve, name=f"rmbench-asker-{number}", daemon=True) for number in range(n)
        ]
        for thread in self._threads:
            thread.start()

    def start(self, ticket: int, batch: Sequence[U]) -> None:
        """Put a batch into the queue."""
        self._waiting.put((ticket, batch))

    def finished(self) -> tuple[int, Answers]:
        """Return the ticket and the answers of a batch, when the next one is done."""
        return self._done.get()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads if self._wait else ():
            thread.join()

    def _serve(self) -> None:
        while (task := self._waiting.get()) is not None:
            ticket, batch = task
            self._done.put((ticket, attempt(self._ask, batch)))


def executor_of(
    model: AnyModel, ask: Ask[U], executor: Executor[U] | None
) -> AbstractContextManager[Executor[U]]:
    """Return the executor of a model: `executor` where there is one, threads where the model allows them."""
    if executor is not None:
        return nullcontext(executor)
    if isinstance(model, ConcurrentModel):
        return Threads(ask, model.concurrency())
    if isinstance(model, ParallelModel) and (n := model.batches_at_once()) > 1:
        return _beside(model, n)
    return nullcontext(InProcess(ask))


@contextmanager
def _beside(model: ParallelModel, n: int) -> Iterator[Executor[Any]]:
    try:
        with Threads(model.score_beside, n, wait=True) as executor:
            yield executor
    finally:
        model.end_beside()


class Replica:
    """The model of one worker.

    Args:
        load: Returns the model.
    """

    def __init__(self, load: Callable[[], LoadedModel]) -> None:
        self._load = load
        self._model: AnyModel | None = None

    def prepare(self) -> dict[str, str] | str:
        """Load the model; return its fingerprint, or the error."""
        try:
            loaded = self._load()
            self._model = loaded.model
            return fingerprint_of(loaded)
        except RmbenchError as error:
            return str(error)
        except Exception as error:  # an exception itself may not survive the way to another process
            return f"the model cannot be loaded: {type(error).__name__}: {first_line(error)}"

    def answer(self, batch: Sequence[Any]) -> Answers:
        """Return the answers of the prepared model, or what it raised."""
        answers = attempt(partial(answer, self._model), batch)
        if isinstance(answers, Failure):
            # The exception itself may not be picklable; its text is.
            return Failure(answers.text, answers.out_of_memory)
        return answers


class Workers(ABC, Generic[W]):
    """Base of executors with workers in other processes, each with one batch at a time; a context manager.

    Args:
        option: The option that asked for them; begins messages.
        loaded: The model here; that of every worker must have the same fingerprint.
    """

    def __init__(self, option: str, loaded: LoadedModel) -> None:
        self._option, self._spec = option, loaded.spec
        self._fingerprint = fingerprint_of(loaded)
        self._waiting: deque[tuple[int, Sequence[Any]]] = deque()
        self._done: deque[tuple[int, Answers]] = deque()
        self._busy: dict[W, tuple[int, Sequence[Any]]] = {}
        self._idle: list[W] = []
        self.n_lost = 0
        """Number of processes that died."""

    @property
    @abstractmethod
    def n_at_once(self) -> int:
        """Batches that may be in work together."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.close(failed=kind is not None)

    @abstractmethod
    def close(self, *, failed: bool) -> None:
        """End the workers; after a failure without waiting for their batches."""

    def start(self, ticket: int, batch: Sequence[Any]) -> None:
        """Put a batch into the queue."""
        self._waiting.append((ticket, batch))
        self._hand_out()

    def finished(self) -> tuple[int, Answers]:
        """Return the ticket and the answers of a batch, when the next one is done.

        Raises:
            ScoringError: If no worker is left.
            ConfigError: If a worker has another model.
        """
        while not self._done:
            self._hand_out()
            for worker, answers in self._next():
                if answers is None:
                    self._lose(worker)
                else:
                    self._done.append((self._busy.pop(worker)[0], answers))
                    self._idle.append(worker)
            self._hand_out()  # at once: what is done has yet to be stored
        return self._done.popleft()

    def _check_model(self, where: str, told: Mapping[str, str] | str) -> None:
        """Raise ConfigError if a worker has no model, or another one than this process.

        Args:
            where: The worker's place, in words.
            told: What its `Replica.prepare` returned.
        """
        if isinstance(told, str):
            raise ConfigError(f"{self._option}: {where}: {told}")
        for key in sorted(self._fingerprint.keys() | told.keys()):
            here, there = self._fingerprint.get(key), told.get(key)
            if here != there:
                raise ConfigError(
                    f"{self._option}: {without_secrets(self._spec)} is another model {where}: its {key} is"
                    f" {there!r}, here {here!r}"
                )

    def _hand_out(self) -> None:
        while self._waiting and self._idle:
            worker = self._idle.pop()
            ticket, batch = self._waiting.popleft()
            self._busy[worker] = (ticket, batch)
            if not self._give(worker, batch):  # it died while it was idle
                self._lose(worker)

    def _lose(self, worker: W) -> None:
        """Take a dead worker's batch back."""
        if task := self._busy.pop(worker, None):
            self._waiting.appendleft(task)
        self.n_lost += 1
        self._bury(worker)

    @abstractmethod
    def _give(self, worker: W, batch: Sequence[Any]) -> bool:
        """Send an idle worker a batch; False if it is dead."""

    @abstractmethod
    def _next(self) -> Iterable[tuple[W, Answers | None]]:
        """Wait for news of the workers: the answers to a batch, or None for one that died.

        Raises:
            ScoringError: If no worker is left.
        """

    @abstractmethod
    def _bury(self, worker: W) -> None:
        """Clean up after a dead worker; it may be replaced."""


def check_sharable(option: str, spec: str, model: AnyModel) -> None:
    """Raise ConfigError if several processes are of no use for a model.

    Args:
        option: The option that requests the processes; begins the message.
        spec: The text of `--model`.
        model: The model; only its kind matters.
    """
    spec = without_secrets(spec)
    if isinstance(model, PrecomputedRewards):
        raise ConfigError(f"{option}: the rewards of {spec} were computed elsewhere; there is nothing to do")
    if type(model).__module__ == "__main__":
        raise ConfigError(
            f"{option}: {spec} is defined in the running script, which other processes do not import; put it"
            " into a file and name it FILE.py:NAME"
        )
    if isinstance(model, ConcurrentModel):
        raise ConfigError(
            f"{option}: {spec} waits for a server, so threads of one process call it; see -M concurrency=N"
        )
