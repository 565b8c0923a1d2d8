"""What of Ray is not actors: connecting to a cluster, and how many actors of which size it can place."""

import importlib.util
import logging
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor
from typing import Any

from rmbench.errors import ConfigError, first_line
from rmbench.scoring.workers import n_cores

_OPTION = "--executor ray"
_PATIENCE_S = 10.0
_MOST_PER_CPU = 4
_OBJECT_STORE_BYTES = 256 * 2**20
"""Of a Ray that is started here. Only batches and rewards pass, a few at a time; Ray takes gigabytes."""
_RESOLUTION = 10_000
"""Ray counts resources in parts of a CPU this small, and rounds: a third of a CPU must not round up."""


@dataclass(frozen=True, slots=True)
class Place:
    """What Ray keeps for one actor."""

    n_cpus: float
    n_gpus: int
    n_threads: int | None
    """For torch on a CPU, the same as `--workers` gives on one machine; None where it has a GPU."""


def check_ray() -> None:
    """Raise ConfigError if Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(f"{_OPTION} needs Ray: pip install 'rmbench[ray]'")


def connect() -> bool:
    """Join the cluster at RAY_ADDRESS, or start Ray on this machine; False if this process had it before.

    Raises:
        ConfigError: If nothing answers there, or Ray does not start.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    import ray

    if ray.is_initialized():
        return False
    address = os.environ.get("RAY_ADDRESS") or "local"
    own: dict[str, Any] = {}
    if address == "local":
        own = {"num_cpus": n_cores(), "include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES}
    logging.getLogger("ray").setLevel(logging.CRITICAL)  # what goes wrong is raised too
    try:
        _knock(address)
        ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL, **own)
    except Exception as error:  # this very class where Ray takes more than 30 s to start
        where = "Ray does not start" if own else f"no Ray at RAY_ADDRESS={address}"
        raise ConfigError(f"{_OPTION}: {where}: {first_line(error)}") from error
    # Ray writes of every death to stdout, where --json is; there is no public switch. The crew tells of them.
    ray._private.worker._worker_logs_enabled = False
    return True


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at an address; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), _PATIENCE_S).close()


def nodes() -> list[Mapping[str, float]]:
    """Return the resources of each machine that is alive."""
    import ray

    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def found(*, free: bool = False) -> str:
    """Return the CPUs and GPUs of the cluster in words, or those that are free."""
    import ray

    resources = ray.available_resources() if free else ray.cluster_resources()
    return f"{resources.get('CPU', 0):g} CPUs and {resources.get('GPU', 0):g} GPUs"


def place_for(machines: Sequence[Mapping[str, float]], n: int, *, gpus: bool) -> Place:
    """Return what each of `n` actors gets: a GPU, or else the largest share of CPUs of which `n` exist.

    The share is a whole number of CPUs, or a CPU among 2 to 4 actors. However Ray deals actors of one size,
    all find a place if nobody else is there.

    Args:
        machines: The resources of each, as Ray counts them.
        n: Actors.
        gpus: Whether the model would use a GPU.

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
