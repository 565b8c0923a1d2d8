"""An executor of Ray actors: the plan, batches and queue of `rmbench.scoring.processes`, over many machines.

It uses plain actors, not Ray Data: the plan has cut the batches already, by tokens and by shared prompts. Ray
Data would cut its own blocks, and a worker that dies would lose a block.

An actor that dies is replaced, and its batch goes back to the queue. Three things end a run: a batch that
kills several actors, one after the other; actors that die repeatedly without an answer, until none is left;
and a cluster with no place for an actor. Answers so far are stored.

Ray is imported when the first batch comes.
"""

import importlib.util
import logging
import os
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from math import floor
from pathlib import Path
from typing import Any, Literal

from rmbench.errors import ConfigError, ScoringError, first_line
from rmbench.models.resolve import LoadedModel, load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring.executor import Answers, Replica, Workers, check_sharable
from rmbench.scoring.processes import n_cores

_OPTION = "--executor ray"
_PATIENCE_S = 10.0
_MOST_PER_CPU = 4
_OBJECT_STORE_BYTES = 256 * 2**20
"""Object store, in bytes, of a Ray that is started here. It holds few batches; Ray's default is gigabytes."""
_RESOLUTION = 10_000
"""Ray counts resources in parts of a CPU this small, and rounds: a third of a CPU must not round up."""


@dataclass(frozen=True, slots=True)
class Place:
    """Resources of one actor."""

    n_cpus: float
    n_gpus: int
    n_threads: int | None
    """Threads for torch on a CPU, as many as `--workers` gives on one machine; None with a GPU."""


def check_ray() -> None:
    """Raise ConfigError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"{_OPTION} needs Ray: pip install 'rmbench[ray]'")


def connect() -> bool:
    """Join the cluster at RAY_ADDRESS, or start Ray on this machine; False if this process had it before.

    Raises:
        ConfigError: If nothing answers there, or Ray does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # no usage reports
    import ray

    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {}
    if address == "local":
        own = {"num_cpus": n_cores(), "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # errors are raised too
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except Exception as error:  # this very class where Ray takes more than 30 s to start
        where = "Ray does not start" if own else f"no Ray at RAY_ADDRESS={address}"
        raise ConfigError(f"{_OPTION}: {where}: {first_line(error)}") from error
    # Ray reports deaths on stdout, where --json is, and has no public switch. rmbench reports them itself.
    ray._private.worker._worker_logs_enabled = False
    return True


def _knock(address: str) -> None:
    """Raise OSError if nothing listens at an address; Ray itself tries for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _PATIENCE_S).close()


def nodes() -> list[Mapping[str, float]]:
    """Return the resources of each machine that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def found(*, free: bool = False) -> str:
    """Return a text with the CPUs and GPUs of the cluster, or with the free ones."""
    import ray

    resources = ray.available_resources() if free else ray.cluster_resources()
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"


def place_for(machines: Sequence[Mapping[str, float]], n: int, *, gpus: bool) -> Place:
    """Return the resources of each of `n` actors: a GPU, or the largest share of CPUs that exists `n` times.

    The share is a whole number of CPUs, or a CPU among 2 to 4 actors. However Ray places actors of one size,
    all find a place if nothing else uses the cluster.

    Args:
        machines: Resources of each machine, as Ray counts them.
        n: Number of actors.
        gpus: True if the model would use a GPU.

    Raises:
        ConfigError: If there are fewer places than actors.
    """
    cpus = [machine.get("CPU", 0.0) for machine in machines]
    n_gpus = sum(int(machine.get("GPU", 0.0)) for machine in machines)
    asked = f"{_OPTION} --workers {n}: the cluster has {sum(cpus):g} CPUs and {n_gpus} GPUs"
    if gpus and n_gpus:
        if n > n_gpus:
            raise ConfigError(f"{asked}, at most {n_gpus} actors; --device cpu asks for none of its GPUs")
        # No CPUs: these are not to keep an actor from its GPU.
        return Place(0.0, 1, None)
    for whole in range(int(max(cpus, default=0.0)), 0, -1):
        if sum(int(count // whole) for count in cpus) >= n:
            return Place(float(whole), 0, whole)
    for parts in range(2, _MOST_PER_CPU + 1):
        if sum(int(count * parts) for count in cpus) >= n:
            return Place(floor(_RESOLUTION / parts) / _RESOLUTION, 0, 1)
    most = sum(int(count * _MOST_PER_CPU) for count in cpus)
    raise ConfigError(f"{asked}, at most {most} actors ({_MOST_PER_CPU} a CPU)")


class RayWorker:
    """The class of the actors: one model that answers batches.

    Args:
        spec: The text of `--model`.
        options: The texts of `-M`.
        runtime: Device, dtype, length.
        n_threads: For models on a CPU; None leaves it to Ray.
        folder: Where relative paths begin, if this machine has it.
    """

    def __init__(
        self, spec: str, options: Mapping[str, str], runtime: Runtime, n_threads: int | None, folder: str
    ) -> None:
        if Path(folder).is_dir():
            os.chdir(folder)
        if n_threads is not None:
            os.environ["OMP_NUM_THREADS"] = str(n_threads)  # read by libraries that are imported from here on
        self._replica = Replica(partial(load_model, spec, options, runtime))

    def machine(self) -> str:
        """Return where this is; the first answer of an actor that has found its place."""
        return socket.gethostname()

    def prepare(self) -> dict[str, str] | str:
        """Load the model; return its fingerprint, or the error."""
        return self._replica.prepare()

    def answer(self, batch: Sequence[Any]) -> Answers:
        """Return the model's answers, or what it raised."""
        return self._replica.answer(batch)


PATIENCE_S = 120.0
"""Seconds that an actor may wait for a place in the cluster; processes start slowly on a busy machine."""
_MOST_DEATHS = 3
"""Deaths of actors that close a place (in a row, without an answer), or end the run (on the same batch)."""


@dataclass(eq=False, slots=True)
class _Actor:
    """A place for a worker, and the actor that has it now."""

    handle: Any
    call: Any
    """Reference to the result of its work; None while it is idle."""
    state: Literal["placing", "loading", "ready"] = "placing"
    machine: str = ""
    since: float = field(default_factory=time.monotonic)
    """Time at which the actor was requested."""
    n_deaths: int = 0
    """Deaths in this place in a row without an answer to a batch."""


class RayActors(Workers[_Actor]):
    """Ray actors as workers. Ray is joined, or started, when the first batch comes.

    Args:
        loaded: The model here; that of every actor must have the same fingerprint.
        options: The texts of `-M`.
        runtime: Device, dtype, length.
        n: Actors.
        gpus: True if the model would use a GPU.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        options: Mapping[str, str],
        runtime: Runtime,
        n: int,
        *,
        gpus: bool,
    ) -> None:
        super().__init__(_OPTION, loaded)
        self._options, self._runtime = dict(options), runtime
        self._n, self._gpus = n, gpus
        self._actors: list[_Actor] = []
        self._new: Callable[[], Any] | None = None
        self._is_ours = False
        self._deaths: Counter[int] = Counter()
        self._why = "out of memory?"

    @property
    def n_at_once(self) -> int:
        """A batch per actor, and one that waits for each."""
        return 2 * self._n

    def start(self, ticket: int, batch: Sequence[Any]) -> None:
        """Put a batch into the queue.

        Raises:
            ConfigError: If it is the first, and the cluster is not there or cannot place the actors.
        """
        if self._new is None:
            self._open()
        super().start(ticket, batch)

    def close(self, *, failed: bool) -> None:
        """End the actors, and Ray if it was started here."""
        for actor in self._actors:
            _kill(actor.handle)
        self._actors.clear()
        if self._is_ours:
            import ray

            ray.shutdown()

    def _open(self) -> None:
        self._is_ours = connect()
        import ray

        place = place_for(nodes(), self._n, gpus=self._gpus)
        runtime = replace(self._runtime, device="cuda") if place.n_gpus else self._runtime
        made = ray.remote(RayWorker).options(
            num_cpus=place.n_cpus,
            num_gpus=place.n_gpus,
            max_restarts=0,  # it is replaced here, where its batch is
            max_task_retries=0,
            scheduling_strategy="SPREAD",
        )
        self._new = partial(made.remote, self._spec, self._options, runtime, place.n_threads, str(Path.cwd()))
        for _ in range(self._n):
            handle = self._new()
            self._actors.append(_Actor(handle, handle.machine.remote()))
        give_up = time.monotonic() + PATIENCE_S
        while missing := [actor for actor in self._actors if actor.state == "placing"]:
            if time.monotonic() > give_up:
                each = f"{place.n_gpus} GPU" if place.n_gpus else f"{place.n_cpus:g} CPUs"
                raise ConfigError(
                    f"--executor ray: {len(missing)} of {self._n} actors of {each} found no place within"
                    f" {PATIENCE_S:g} s; of {found()} of the cluster {found(free=True)} are free now"
                )
            for actor, _ in self._news(give_up - time.monotonic()):
                self._lose(actor)
        self._check_left()

    def _give(self, worker: _Actor, batch: Sequence[Any]) -> bool:
        worker.call = worker.handle.answer.remote(batch)
        return True  # if it is dead the call says so

    def _next(self) -> Iterator[tuple[_Actor, Answers | None]]:
        self._check_left()
        patience = None
        if all(actor.state == "placing" for actor in self._actors):
            patience = max(actor.since for actor in self._actors) + PATIENCE_S - time.monotonic()
            if patience < 0:
                raise ScoringError(
                    f"{self.n_lost} actors died, and those to replace them found no place within"
                    f" {PATIENCE_S:g} s ({self._why}); what was scored is stored"
                )
        yield from self._news(patience)

    def _news(self, timeout_s: float | None) -> Iterator[tuple[_Actor, Answers | None]]:
        """Wait until an actor has done something; yield it with its answers, or with None if it is dead."""
        import ray
        from ray.exceptions import RayError, RayTaskError

        calls = {actor.call: actor for actor in self._actors if actor.call is not None}
        # The deadline may have passed between looking at the clock and here.
        limit_s = None if timeout_s is None else max(0.0, timeout_s)
        ready, _ = ray.wait(list(calls), num_returns=1, timeout=limit_s)
        for call in ready:
            actor = calls[call]
            try:
                told = ray.get(call)
            except RayTaskError as error:  # not the model, whose errors are caught: something was not pickled
                raise ScoringError(f"an actor on {actor.machine}: {first_line(error)}") from error
            except RayError as error:
                self._why = first_line(error)
                yield actor, None
                continue
            actor.call = None
            if actor.state == "ready":
                actor.n_deaths = 0
                yield actor, told
            elif actor.state == "placing":
                actor.machine, actor.state = told, "loading"
                actor.call = actor.handle.prepare.remote()
            else:
                self._check_model(f"on {actor.machine}", told)
                actor.state = "ready"
                self._idle.append(actor)

    def _lose(self, worker: _Actor) -> None:
        ticket = self._busy[worker][0] if worker in self._busy else None
        super()._lose(worker)
        if ticket is not None:
            self._deaths[ticket] += 1
            if self._deaths[ticket] == _MOST_DEATHS:
                raise ScoringError(
                    f"{_MOST_DEATHS} actors died of one batch, one after the other ({self._why}); what was"
                    " scored is stored"
                )

    def _bury(self, worker: _Actor) -> None:
        _kill(worker.handle)  # if it is not dead but out of reach
        worker.n_deaths += 1
        if worker.n_deaths == _MOST_DEATHS:
            self._actors.remove(worker)
            return
        assert self._new is not None  # noqa: S101
        worker.handle, worker.state, worker.since = self._new(), "placing", time.monotonic()
        worker.call = worker.handle.machine.remote()

    def _check_left(self) -> None:
        if not self._actors:
            raise ScoringError(
                f"all actors died, {self.n_lost} of them ({self._why}); what was scored is stored"
            )


def _kill(handle: Any) -> None:
    import ray

    # Called at the end or after a death: a second error would hide the first.
    with suppress(Exception):
        ray.kill(handle)


def ray_actors_for(loaded: LoadedModel, options: Mapping[str, str], runtime: Runtime, n: int) -> RayActors:
    """Return `n` Ray actors for a loaded model.

    Args:
        loaded: What `load_model` gave for the same `options` and `runtime`.
        options: The texts of `-M`.
        runtime: Device, dtype, length.
        n: Actors.

    Raises:
        ConfigError: If Ray is not installed, the model's rewards were computed elsewhere, it waits for a
            server, or the device is one GPU of one machine.
    """
    check_sharable("--executor ray", loaded.spec, loaded.model)
    check_ray()
    if ":" in runtime.device:
        raise ConfigError(f"--executor ray: Ray deals the GPUs; expected --device cuda, not {runtime.device}")
    # A model without torch needs no device.
    gpus = "torch" in sys.modules and runtime.device in ("auto", "cuda")
    return RayActors(loaded, options, runtime, n, gpus=gpus)
