"""What crews of several processes have in common: one queue, and who is busy with which batch of it.

The queue is in the process that plans: whoever is done gets the next batch, so nobody waits for the slowest.
Only that process reads and writes the score store. A worker that dies gives its batch back to the queue.
"""

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Generic, TypeAlias, TypeVar

from rmbench.errors import ConfigError
from rmbench.scoring.crew import Failure, answer, attempt
from rmbench.types import AnyModel, ConcurrentModel, PrecomputedRewards, Scored

W = TypeVar("W", bound=Hashable)

Answers: TypeAlias = Sequence[float | Scored] | Failure


class Replica:
    """A model in a process of its own, loaded when it is needed.

    Args:
        load: Returns the model.
    """

    def __init__(self, load: Callable[[], AnyModel]) -> None:
        self._load = load
        self._model: AnyModel | None = None

    def answer(self, batch: Sequence[Any]) -> Answers:
        """Return the model's answers, or what it raised."""
        answers = attempt(self._ask, batch)
        if isinstance(answers, Failure):
            # The exception itself may not survive the way; its text does.
            return Failure(answers.text, answers.out_of_memory)
        return answers

    def _ask(self, batch: Sequence[Any]) -> Sequence[float | Scored]:
        self._model = self._model or self._load()
        return answer(self._model, batch)


class Pool(ABC, Generic[W]):
    """A crew of workers that each answer one batch at a time."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[int, Sequence[Any]]] = deque()
        self._done: deque[tuple[int, Answers]] = deque()
        self._busy: dict[W, tuple[int, Sequence[Any]]] = {}
        self._idle: list[W] = []
        self.n_lost = 0
        """Workers that died."""

    @property
    @abstractmethod
    def n_at_once(self) -> int:
        """Batches that may be in work together."""

    def start(self, ticket: int, batch: Sequence[Any]) -> None:
        """Put a batch into the queue."""
        self._waiting.append((ticket, batch))
        self._hand_out()

    def finished(self) -> tuple[int, Answers]:
        """Return the ticket and the answers of a batch, when the next one is done.

        Raises:
            ScoringError: If nobody is left who could answer.
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
            ScoringError: If nobody is left.
        """

    @abstractmethod
    def _bury(self, worker: W) -> None:
        """Clear away what is left of a dead worker; it may be replaced."""


def check_sharable(option: str, spec: str, model: AnyModel) -> None:
    """Raise ConfigError if several processes are no use for a model.

    Args:
        option: What asked for them; begins the message.
        spec: The text of `--model`.
        model: Only its kind is looked at.
    """
    if isinstance(model, PrecomputedRewards):
        raise ConfigError(f"{option}: the rewards of {spec} were computed elsewhere; there is nothing to do")
    if isinstance(model, ConcurrentModel):
        raise ConfigError(f"{option}: {spec} is asked by threads of one process; see -M concurrency=N")
