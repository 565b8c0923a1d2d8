"""The process behind a Ray actor of `rmbench.scoring.ray_crew`: a model that answers batches."""

import os
import socket
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rmbench.errors import RmbenchError
from rmbench.models.resolve import fingerprint_of, load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring.pool import Answers, Replica


class Replier:
    """One model; the class of the actors.

    Args:
        spec: The text of `--model`.
        options: Of the model.
        runtime: How it is run.
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
        self._load = partial(load_model, spec, options, runtime)
        self._replica: Replica | None = None

    def machine(self) -> str:
        """Return where this is; the first answer of an actor that has found its place."""
        return socket.gethostname()

    def prepare(self) -> dict[str, str] | str:
        """Load the model; return its fingerprint, or why there is none."""
        try:
            loaded = self._load()
            self._replica = Replica(lambda: loaded.model)
            return fingerprint_of(loaded)
        except RmbenchError as error:
            return str(error)

    def answer(self, batch: Sequence[Any]) -> Answers:
        """Return the model's answers, or what it raised."""
        assert self._replica is not None  # noqa: S101  (prepared first)
        return self._replica.answer(batch)
