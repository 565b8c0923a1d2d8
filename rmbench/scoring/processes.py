"""An executor of several processes on this machine: one per GPU, or a few that share a CPU's cores.

A worker loads the model with its first batch and reports its fingerprint: another model than that of this
process ends the run. The batch of a worker that dies goes back to the queue, and the others continue. When
the last one has died, the run stops; the rewards so far are stored.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from rmbench.errors import ScoringError
from rmbench.models.resolve import LoadedModel, load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring.executor import Answers, Replica, Workers, check_sharable

_PATIENCE_S = 10.0


class Processes(Workers[Connection]):
    """Worker processes that each load the model for themselves.

    Args:
        loaded: The model here; that of every worker must have the same fingerprint.
        load: One function per worker that returns its model; it is pickled, so it must not be a closure.
        n_threads: Threads of each worker, for models on a CPU; None leaves it to the libraries.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        load: Sequence[Callable[[], LoadedModel]],
        n_threads: int | None = None,
    ) -> None:
        super().__init__("--workers", loaded)
        # Threads of torch and of OpenMP do not survive a fork.
        context = multiprocessing.get_context("spawn")
        self._processes: dict[Connection, BaseProcess] = {}
        for number, function in enumerate(load):
            ours, theirs = context.Pipe()
            process = context.Process(
                target=_serve,
                args=(theirs, function, n_threads),
                name=f"rmbench-worker-{number}",
                daemon=True,
            )
            with _no_main_module():
                process.start()
            theirs.close()
            self._processes[ours] = process
            self._idle.append(ours)

    @property
    def n_at_once(self) -> int:
        """A batch per worker, and one that waits for each."""
        return max(1, 2 * len(self._processes))

    def close(self, *, failed: bool) -> None:
        """End the workers; after a failure without waiting for their batches."""
        for pipe, process in self._processes.items():
            pipe.close()
            if failed:
                process.terminate()
        for process in self._processes.values():
            process.join(_PATIENCE_S)
            if process.is_alive():
                process.terminate()
                process.join()
        self._processes.clear()

    def _give(self, worker: Connection, batch: Sequence[Any]) -> bool:
        try:
            worker.send(batch)
        except OSError:
            return False
        return True

    def _next(self) -> Iterator[tuple[Connection, Answers | None]]:
        if not self._processes:
            raise ScoringError(
                f"all {self.n_lost} worker processes died (out of memory?); what was scored is stored"
            )
        for ready in wait(list(self._busy)):
            assert isinstance(ready, Connection)  # noqa: S101  (nothing else was asked for)
            try:
                told = ready.recv()
            except (EOFError, OSError):
                yield ready, None
                continue
            if isinstance(told, Prepared):
                self._check_model(f"in {self._processes[ready].name}", told.told)
            else:
                yield ready, told

    def _bury(self, worker: Connection) -> None:
        self._processes.pop(worker).join()
        worker.close()


def processes_for(
    loaded: LoadedModel, options: Mapping[str, str], runtime: Runtime, n_workers: int
) -> Processes:
    """Return worker processes for a loaded model.

    Each worker gets one of the GPUs in turn if `runtime` asks for GPUs; on a CPU the workers share its cores.

    Args:
        loaded: What `load_model` gave for the same `options` and `runtime`.
        options: The texts of `-M`.
        runtime: Device, dtype, length.
        n_workers: Processes.

    Raises:
        ConfigError: If the model's rewards were computed elsewhere, or it waits for a server.
    """
    check_sharable("--workers", loaded.spec, loaded.model)
    torch = sys.modules.get("torch")  # a model without it needs no device
    n_devices = torch.cuda.device_count() if torch and runtime.device in ("auto", "cuda") else 0
    n_threads = None if n_devices else max(1, n_cores() // n_workers)
    runtimes = [
        replace(runtime, device=f"cuda:{k % n_devices}") if n_devices else runtime for k in range(n_workers)
    ]
    load = [partial(load_model, loaded.spec, dict(options), each) for each in runtimes]
    return Processes(loaded, load, n_threads)


def n_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Hide the running script from processes that are started, which would run it again."""
    main = sys.modules["__main__"]
    hidden: dict[str, Any] = {
        name: vars(main).pop(name) for name in ("__file__", "__spec__") if name in vars(main)
    }
    main.__spec__ = None
    try:
        yield
    finally:
        vars(main).update(hidden)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A worker's first message: what its `Replica.prepare` returned."""

    told: Mapping[str, str] | str


def _serve(pipe: Connection, load: Callable[[], LoadedModel], n_threads: int | None) -> None:
    """Load the model at the first batch, and answer batches until the other end closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the planning process ends the others
    if n_threads is not None:
        os.environ["OMP_NUM_THREADS"] = str(n_threads)  # read by libraries that are imported from here on
    replica, prepared = Replica(load), None
    while True:
        try:
            batch = pipe.recv()
        except EOFError:
            return
        if prepared is None:
            prepared = Prepared(replica.prepare())
            pipe.send(prepared)
            if isinstance(prepared.told, str):
                return
        pipe.send(replica.answer(batch))
