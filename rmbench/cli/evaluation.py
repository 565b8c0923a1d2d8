"""What `rmbench eval` does: check everything, then run model after model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from rmbench.cli.progress import ScoringBar
from rmbench.errors import ConfigError
from rmbench.escape import one_line
from rmbench.evaluate import Outcome, PreparedTask, Settings, evaluate, prepare_task
from rmbench.models.resolve import LoadedModel, load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring import default_store_folder
from rmbench.specs import TaskSpec, apply_params, load_task, parameter_names
from rmbench.types import NotingModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A parsed command line."""

    models: Sequence[str]
    tasks: Sequence[str]
    data: Path | None
    task_options: Mapping[str, str]
    on_bad: str
    model_options: Mapping[str, str]
    runtime: Runtime
    limit: int | None
    seed: int
    batch_tokens: int
    results: Path
    store: Path | None
    command: Sequence[str]
    show_progress: bool


def run_all(request: Request) -> list[Outcome]:
    """Run every model on every task.

    All tasks and their data are read and checked, and all models are found, before the first is scored.

    Raises:
        ConfigError: Before anything is run or written.
        RunError: After what was complete has been written.
    """
    settings = Settings(
        results=request.results,
        store=request.store or default_store_folder(),
        limit=request.limit,
        seed=request.seed,
        batch_tokens=request.batch_tokens,
        command=request.command,
    )
    specs = with_params([load_task(name) for name in dict.fromkeys(request.tasks)], request.task_options)
    prepared = [
        prepare_task(
            spec, settings, data=request.data, on_bad=request.on_bad, offline=request.runtime.offline
        )
        for spec in specs
    ]
    outcomes = []
    for loaded in _load_all(request):
        _remarks(loaded, request.show_progress)
        outcomes += [_one(loaded, task, settings, request.show_progress) for task in prepared]
    return outcomes


def with_params(specs: Sequence[TaskSpec], options: Mapping[str, str]) -> list[TaskSpec]:
    """Apply each `-T` option to the tasks that know it.

    Raises:
        UnknownNameError: If no task knows an option.
    """
    known = {spec.name: parameter_names(spec) for spec in specs}
    for key in options:
        if not any(key in names for names in known.values()):
            # Let the first task say so, in its own words and with the nearest name.
            apply_params(specs[0], {key: options[key]})
    return [apply_params(spec, {k: v for k, v in options.items() if k in known[spec.name]}) for spec in specs]


def _load_all(request: Request) -> list[LoadedModel]:
    loaded = [
        load_model(spec, request.model_options, request.runtime) for spec in dict.fromkeys(request.models)
    ]
    names = [model.name for model in loaded]
    for model in loaded:
        if names.count(model.name) > 1:
            raise ConfigError(
                f"two models are called {model.name!r}; give one a name of its own: -M name=NAME"
            )
    return loaded


def _one(loaded: LoadedModel, task: PreparedTask, settings: Settings, show: bool) -> Outcome:
    with ScoringBar(f"{loaded.name} on {task.spec.name}", enabled=show) as bar:
        return evaluate(loaded, task, settings, bar)


def _remarks(loaded: LoadedModel, show: bool) -> None:
    if show and isinstance(loaded.model, NotingModel):
        for note in loaded.model.notes():
            click.echo(f"note: {one_line(loaded.name)}: {one_line(note)}", err=True)
