"""Who answers a batch: this process, or one of several (`rmbench.scoring.pool`)."""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar, overload

from rmbench.errors import RmbenchError, is_out_of_memory
from rmbench.types import PairwiseModel, PartedModel, Scored

U = TypeVar("U")
U_contra = TypeVar("U_contra", contravariant=True)


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a batch has no answers."""

    text: str
    """What the model raised, for a person."""
    out_of_memory: bool
    """Whether a smaller batch may succeed."""
    cause: Exception | None = None
    """The exception, where it happened in this process. None for memory: it would hold on to the batch."""


class Crew(Protocol[U_contra]):
    """Answers batches, one or several at a time."""

    @property
    def n_at_once(self) -> int:
        """Batches that may be in work together."""
        ...

    def start(self, ticket: int, batch: Sequence[U_contra]) -> None:
        """Take on a batch."""
        ...

    def finished(self) -> tuple[int, Sequence[float | Scored] | Failure]:
        """Return the ticket and the answers of a batch, when the next one is done."""
        ...


@dataclass(frozen=True, slots=True)
class PartBatch(Sequence[U]):
    """A batch for one part of a model, so that a process with the whole model knows which."""

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
    """Return what a model, or the part of it that a batch is for, says of a batch."""
    if isinstance(batch, PartBatch) and isinstance(model, PartedModel):
        return model.parts()[batch.part].model.score(batch.batch)
    return model.prefer(batch) if isinstance(model, PairwiseModel) else model.score(batch)


class Alone(Generic[U]):
    """This process, one batch at a time.

    Args:
        ask: The model's `score` or `prefer`.
    """

    n_at_once = 1

    def __init__(self, ask: Callable[[Sequence[U]], Sequence[float | Scored]]) -> None:
        self._ask = ask
        self._done: deque[tuple[int, Sequence[float | Scored] | Failure]] = deque()

    def start(self, ticket: int, batch: Sequence[U]) -> None:
        """Answer it now."""
        self._done.append((ticket, attempt(self._ask, batch)))

    def finished(self) -> tuple[int, Sequence[float | Scored] | Failure]:
        """Return what was answered."""
        return self._done.popleft()


def attempt(
    ask: Callable[[Sequence[U]], Sequence[float | Scored]], batch: Sequence[U]
) -> Sequence[float | Scored] | Failure:
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
