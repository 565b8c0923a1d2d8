"""Run a study: cell by cell, what is finished is skipped."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from rmbench.evaluate import Outcome, PreparedTask, Settings, evaluate, prepare_task
from rmbench.models.resolve import LoadedModel, load_model
from rmbench.models.runtime import Runtime
from rmbench.specs import load_task
from rmbench.study.frozen_model import FrozenHead
from rmbench.study.spec import DataSource, Method, StudySpec
from rmbench.train.base import Base, identity_of_base, load_base
from rmbench.train.fit import TrainSettings
from rmbench.train.losses import LOSSES
from rmbench.train.pairs import read_training_data
from rmbench.train.run import train


@dataclass(frozen=True, slots=True)
class Cell:
    """One model of a study."""

    base: str
    data: DataSource
    method: Method
    seed: int

    @property
    def name(self) -> str:
        """Name of the model in records: what it is, without a path."""
        return f"{self.base}.{self.data.name}.{self.method.name}.{self.seed}"


def cells_of(spec: StudySpec) -> Iterator[Cell]:
    """Yield the cells, methods innermost: representations of frozen backbones are then computed once."""
    for base in spec.bases:
        for data in spec.data:
            for seed in spec.seeds:
                for method in spec.methods:
                    yield Cell(base, data, method, seed)


def run_study(
    spec: StudySpec,
    folder: Path,
    *,
    results: Path,
    store: Path,
    runtime: Runtime,
    tell: Callable[[str], None] | None = None,
) -> dict[tuple[str, str], Outcome]:
    """Train and evaluate every cell; return (cell's name, task) -> record.

    Args:
        spec: The study.
        folder: Where trained models are kept.
        results: Where records go.
        store: Folder of the score stores and of stored representations.
        runtime: Device, offline.
        tell: Told of each cell as it is done.

    Raises:
        ConfigError: If something does not fit; before the first cell is trained.
        RunError: If a cell fails. What was finished before stays.
    """
    for method in spec.methods:
        LOSSES.get(method.loss)
    prepared = []
    for e in spec.evaluate:
        how = Settings(results=results, store=store, limit=e.limit, command=("rmbench", "study", spec.name))
        data = None if e.data is None else Path(e.data)
        ready = prepare_task(load_task(e.task), how, data=data, on_bad="fail", offline=runtime.offline)
        prepared.append((e.task, how, ready))
    cells = list(cells_of(spec))
    outcomes: dict[tuple[str, str], Outcome] = {}
    for number, cell in enumerate(cells, start=1):
        outcomes |= _one(cell, spec, folder, prepared, store, runtime)
        if tell:
            tell(f"{number} of {len(cells)}: {cell.name}")
    return outcomes


def _one(
    cell: Cell,
    spec: StudySpec,
    folder: Path,
    prepared: list[tuple[str, Settings, PreparedTask]],
    store: Path,
    runtime: Runtime,
) -> Mapping[tuple[str, str], Outcome]:
    # The same pairs and the same held-out prompts for every seed and method: seeds vary head and order.
    pairs = read_training_data(
        cell.data.source,
        pairs_per_prompt=cell.data.pairs_per_prompt,
        limit=cell.data.limit,
        offline=runtime.offline,
    )
    settings = TrainSettings(
        base=spec.bases[cell.base],
        method=cell.method.loss,
        method_options=cell.method.options,
        seed=cell.seed,
        **spec.train,
    )
    trained = train(settings, pairs, folder / cell.name, runtime=runtime, features=store)
    loaded = _load(cell, spec, trained.folder, store, runtime)
    return {(cell.name, task): evaluate(loaded, ready, how) for task, how, ready in prepared}


def _load(cell: Cell, spec: StudySpec, folder: Path, store: Path, runtime: Runtime) -> LoadedModel:
    length = int(spec.train["max_length"])
    if not spec.train["freeze_backbone"]:
        return load_model(str(folder), {"name": cell.name, "max_length": str(length)}, runtime)
    name = spec.bases[cell.base]
    weights, _ = identity_of_base(name, runtime)
    base = _shared_base(name, cell.seed, runtime)
    head = FrozenHead(base, weights, folder, length, store / "features")
    return LoadedModel(name=cell.name, model=head, spec=cell.name)


@lru_cache(maxsize=1)
def _shared_base(name: str, seed: int, runtime: Runtime) -> Base:
    """Return the base of neighbouring cells, loaded once."""
    return load_base(name, seed, None, runtime)
