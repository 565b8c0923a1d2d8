"""Several processes that answer batches: one per GPU, or a few that share a CPU's cores.

There is one queue, in the process that plans: whoever is done gets the next batch, so nobody waits for the
slowest. Only that process reads and writes the score store. A worker that dies gives its batch back to the
queue and the others go on; when the last one has died the run stops, with all that was stored.
"""

import multiprocessing
import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any, Self

from rmbench.errors import ConfigError, ScoringError
from rmbench.models.resolve import load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring.crew import Failure, answer, attempt
from rmbench.types import AnyModel, ConcurrentModel, PrecomputedRewards, Scored

_PATIENCE_S = 10.0


class Workers:
    """A crew of processes that each load the model for themselves; a context manager.

    Args:
        load: One function per worker that returns its model; sent to the process, so no closure.
        n_threads: Threads of each, for models on a CPU; None leaves it to the libraries.
    """

    def __init__(self, load: Sequence[Callable[[], Any]], n_threads: int | None = None) -> None:
        # Threads of torch and of OpenMP do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._waiting: deque[tuple[int, Sequence[Any]]] = deque()
        self._done: deque[tuple[int, Sequence[float | Scored] | Failure]] = deque()
        self._busy: dict[Connection, tuple[int, Sequence[Any]]] = {}
        self._processes: dict[Connection, BaseProcess] = {}
        self._idle: list[Connection] = []
        self.n_lost = 0
        for number, function in enumerate(load):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(theirs, function, n_threads),
                name=f"rmbench-worker-{number}",
                daemon=True,
            )
            process.start()
            theirs.close()
            self._processes[ours] = process
            self._idle.append(ours)

    @property
    def n_at_once(self) -> int:
        """A batch per worker, and one that waits for each."""
        return max(1, 2 * len(self._processes))

    def start(self, ticket: int, batch: Sequence[Any]) -> None:
        """Put a batch into the queue."""
        self._waiting.append((ticket, batch))
        self._hand_out()

    def finished(self) -> tuple[int, Sequence[float | Scored] | Failure]:
        """Return the ticket and the answers of a batch, when the next one is done.

        Raises:
            ScoringError: If no worker is left.
        """
        while not self._done:
            self._hand_out()
            if not self._processes:
                raise ScoringError(
                    f"all {self.n_lost} worker processes died (out of memory?); what was scored is stored"
                )
            for ready in wait(list(self._busy)):
                self._collect(ready)  # type: ignore[arg-type]  # only connections were asked for
            self._hand_out()  # at once: what is done has yet to be stored
        return self._done.popleft()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for pipe, process in self._processes.items():
            pipe.close()
            # After an error a worker may be deep in a batch that nobody wants.
            if kind is not None:
                process.terminate()
        for process in self._processes.values():
            process.join(_PATIENCE_S)
            if process.is_alive():
                process.terminate()
                process.join()
        self._processes.clear()

    def _hand_out(self) -> None:
        while self._waiting and self._idle:
            pipe = self._idle.pop()
            ticket, batch = self._waiting.popleft()
            self._busy[pipe] = (ticket, batch)
            try:
                pipe.send(batch)
            except OSError:  # it died while it was idle
                self._lose(pipe)

    def _collect(self, pipe: Connection) -> None:
        try:
            answers = pipe.recv()
        except (EOFError, OSError):
            self._lose(pipe)
            return
        ticket, _ = self._busy.pop(pipe)
        self._done.append((ticket, answers))
        self._idle.append(pipe)

    def _lose(self, pipe: Connection) -> None:
        """Take a dead worker's batch back."""
        self._waiting.appendleft(self._busy.pop(pipe))
        self._processes.pop(pipe).join()
        pipe.close()
        self.n_lost += 1


def workers_for(
    spec: str, options: Mapping[str, str], runtime: Runtime, n_workers: int, model: AnyModel
) -> Workers:
    """Return a crew for the model that `load_model(spec, options, runtime)` gave.

    On accelerators of the kind that `runtime` asks for the workers are dealt over them; on a CPU they share
    its cores.

    Args:
        spec: The text of `--model`.
        options: Of the model.
        runtime: How it is run.
        n_workers: Processes.
        model: What was loaded; only its kind is looked at.

    Raises:
        ConfigError: If the model's rewards were computed elsewhere, or it waits for a server.
    """
    if isinstance(model, PrecomputedRewards):
        raise ConfigError(f"--workers: the rewards of {spec} were computed elsewhere; there is nothing to do")
    if isinstance(model, ConcurrentModel):
        raise ConfigError(f"--workers: {spec} is asked by threads of one process; see -M concurrency=N")
    torch = sys.modules.get("torch")  # a model without it needs no device
    n_devices = torch.cuda.device_count() if torch and runtime.device in ("auto", "cuda") else 0
    n_threads = None if n_devices else max(1, n_cores() // n_workers)
    runtimes = [
        replace(runtime, device=f"cuda:{k % n_devices}") if n_devices else runtime for k in range(n_workers)
    ]
    return Workers([partial(_load, spec, dict(options), each) for each in runtimes], n_threads)


def _load(spec: str, options: Mapping[str, str], runtime: Runtime) -> AnyModel:
    return load_model(spec, options, runtime).model


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _serve(pipe: Connection, load: Callable[[], AnyModel], n_threads: int | None) -> None:
    """Answer batches until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the planning process ends the others
    if n_threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(n_threads)  # read by libraries that are imported from here on
    model: AnyModel | None = None

    def ask(batch: Sequence[Any]) -> Sequence[float | Scored]:
        nonlocal model
        model = model or load()
        return answer(model, batch)

    while True:
        try:
            batch = pipe.recv()
        except EOFError:
            return
        answers = attempt(ask, batch)
        if isinstance(answers, Failure):
            # The exception itself may not survive the way; its text does.
            answers = Failure(answers.text, answers.out_of_memory)
        pipe.send(answers)
