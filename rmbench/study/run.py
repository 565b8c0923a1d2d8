"""Run a study cell by cell; finished cells are skipped."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.core.files import require_writable
from rmbench.evaluation.options import EvalOptions
from rmbench.evaluation.run import Outcome, evaluate
from rmbench.evaluation.task import prepare_task
from rmbench.models.resolve import LoadedModel, load_model
from rmbench.models.runtime import Runtime
from rmbench.study.frozen_model import FrozenBase, FrozenHead, fit_head_of, train_cell
from rmbench.study.spec import DataSource, Method, StudySpec
from rmbench.tasks.spec import load_task
from rmbench.train.frozen import Tell
from rmbench.train.losses import find_loss
from rmbench.train.pairs import TrainingData, read_training_data
from rmbench.train.run import train
from rmbench.train.settings import TrainSettings


@dataclass(frozen=True, slots=True)
class Cell:
    """One model of a study."""

    base: str
    data: DataSource
    method: Method
    seed: int

    @property
    def name(self) -> str:
        """Name of the model in records, without a path."""
        return f"{self.base}.{self.data.name}.{self.method.name}.{self.seed}"


@dataclass(frozen=True, slots=True)
class StudyRun:
    """Records and training results of a study."""

    outcomes: Mapping[tuple[str, str], Outcome]
    """(name of the cell, task as in the study's file) -> record."""
    models: Mapping[str, Mapping[str, Any]]
    """Name of the cell -> its training record: settings, counts, curve."""


def cells_of(spec: StudySpec) -> Iterator[Cell]:
    """Yield the cells, methods innermost, so that shared work is done once."""
    for base in spec.bases:
        for data in spec.data:
            for seed in range(spec.seeds):
                for method in spec.methods:
                    yield Cell(base, data, method, seed)


def run_study(
    spec: StudySpec,
    folder: Path,
    *,
    results: Path,
    store: Path,
    runtime: Runtime,
    tell: Callable[[int, int, str], None] | None = None,
    tell_texts: Tell | None = None,
) -> StudyRun:
    """Train and evaluate every cell.

    Args:
        spec: The study.
        folder: Where trained models are kept.
        results: Where records go.
        store: Folder of the score stores and of stored representations.
        runtime: Device, offline.
        tell: Called with (cells done, cells in all, name) after each cell.
        tell_texts: Called with (texts done, texts in all) while a frozen base reads them.

    Raises:
        ConfigError: If something does not fit; raised before the first cell is trained.
        RunError: If a cell fails. Finished cells stay.
    """
    for method in spec.methods:
        find_loss(method.loss)
    for place, option in ((folder, "--models-dir"), (results, "--results"), (store, "--store")):
        require_writable(place, option)
    prepared = []
    for e in spec.evaluate:
        how = EvalOptions(
            data=None if e.data is None else Path(e.data),
            on_bad=e.on_bad, part=e.part, limit=e.limit,
            runtime=runtime, results=results, store=store, command=("rmbench", "study", spec.name),
        )  # fmt: skip
        ready = prepare_task(load_task(e.task), how)
        # A study's tables show no strata, so its records leave them out.
        prepared.append((e.task, how, replace(ready, spec=replace(ready.spec, strata=()))))
    outcomes: dict[tuple[str, str], Outcome] = {}
    models: dict[str, Mapping[str, Any]] = {}
    cells = list(cells_of(spec))
    for number, cell in enumerate(cells, start=1):
        loaded, models[cell.name] = _model(cell, spec, folder, store, runtime, tell_texts)
        outcomes |= {(cell.name, task): evaluate(loaded, ready, how) for task, how, ready in prepared}
        if tell:
            tell(number, len(cells), cell.name)
    return StudyRun(outcomes, models)


def settings_of(spec: StudySpec, base: str, method: Method, seed: int) -> TrainSettings:
    """Return the training settings of a cell."""
    return TrainSettings(
        base=spec.bases[base].path, method=method.loss, method_options=method.options, seed=seed,
        **{key: value for key, value in asdict(spec.bases[base].train).items() if key != "eval_limit"},
    )  # fmt: skip


@lru_cache(maxsize=8)
def pairs_of(data: DataSource, seed: int, eval_limit: int | None, offline: bool) -> TrainingData:
    """Return the pairs of a cell: the seed draws pairs and held-out prompts, alike for every method."""
    return read_training_data(
        data.source,
        like=data.like,
        part=data.part,
        on_bad=data.on_bad,
        pairs_per_prompt=data.pairs_per_prompt,
        limit=data.limit,
        eval_limit=eval_limit,
        seed=seed,
        offline=offline,
    )


@lru_cache(maxsize=1)
def shared_base(path: str, max_length: int, precision: str, cache: Path, runtime: Runtime) -> FrozenBase:
    """Return the base of neighbouring cells, loaded once."""
    return FrozenBase(path, max_length, precision, cache, runtime)


def _model(
    cell: Cell, spec: StudySpec, folder: Path, store: Path, runtime: Runtime, tell_texts: Tell | None
) -> tuple[LoadedModel, Mapping[str, Any]]:
    pairs = pairs_of(cell.data, cell.seed, spec.train.eval_limit, runtime.offline)
    settings = settings_of(spec, cell.base, cell.method, cell.seed)
    out = folder / cell.name
    if not settings.freeze_backbone:
        trained = train(settings, pairs, out, runtime=runtime)
        options = {"name": cell.name, "max_length": str(settings.max_length)}
        return load_model(str(out), options, runtime), trained.record
    base = shared_base(settings.base, settings.max_length, settings.precision, store / "features", runtime)
    base.tell = tell_texts
    record = train_cell(base, pairs, settings, out)
    return LoadedModel(name=cell.name, model=FrozenHead(base, out), spec=cell.name), record


@dataclass(frozen=True, slots=True)
class BatchRow:
    """One run with `confidence-margin` at one batch size."""

    base: str
    data: str
    batch_size: int
    steps: int
    mu: float
    """Mean of `mu_B` over the second half of the steps."""
    mu_deviation: float
    """Its standard deviation from step to step."""
    nll: float
    accuracy: float
    margin: float
    """At the last evaluation on the held-out prompts."""
    curve: tuple[float, ...]
    """`mu_B` of every step."""


def batch_rows(spec: StudySpec, store: Path, runtime: Runtime) -> list[BatchRow]:
    """Return a row per base, data set and batch size of the study, first seed; empty unless it asks for them.

    Heads on frozen backbones only. Each row is one more training.
    """
    method = Method("confidence-margin", "confidence-margin", {})
    rows = []
    for name, kind in spec.bases.items():
        for data in spec.data if spec.batch_sizes and kind.train.freeze_backbone else ():
            settings = settings_of(spec, name, method, 0)
            pairs = pairs_of(data, 0, spec.train.eval_limit, runtime.offline)
            base = shared_base(
                settings.base, settings.max_length, settings.precision, store / "features", runtime
            )
            for size in spec.batch_sizes:
                seen: list[float] = []

                def note(
                    _step: int, _total: int, told: Mapping[str, float], seen: list[float] = seen
                ) -> None:
                    seen.append(told["mu_batch"])

                every = max(1, settings.eval_every * settings.batch_size // size)
                head = fit_head_of(
                    base, pairs, replace(settings, batch_size=size, eval_every=every), on_step=note
                )
                late, last = seen[len(seen) // 2 :], head.curve[-1]
                rows.append(
                    BatchRow(
                        name, data.name, size, head.steps, float(np.mean(late)), float(np.std(late)),
                        last["eval_nll"], last["eval_accuracy"], last["eval_margin"], tuple(seen),
                    )
                )  # fmt: skip
    return rows
