"""What `rmbench eval` and `rmbench.evaluate` do: check everything, then run model after model."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rmbench.core.escape import one_line
from rmbench.core.progress import ScoringBar
from rmbench.errors import ConfigError
from rmbench.evaluation.run import Outcome, PreparedTask, Settings, evaluate, prepare_task, with_gold
from rmbench.gold.source import (
    VerifierGold,
    check_gold,
    gold_of_model,
    gold_of_verifier,
    load_gold,
    self_gold_error,
)
from rmbench.models.resolve import LoadedModel, check_spec, load_model
from rmbench.models.runtime import Runtime
from rmbench.scoring import (
    Meter,
    Pool,
    RayActors,
    Workers,
    default_store_folder,
    ray_actors_for,
    workers_for,
)
from rmbench.tasks.spec import TaskSpec, apply_params, list_tasks, load_task, parameter_names
from rmbench.types import NotingModel


@dataclass(frozen=True, slots=True)
class Asked:
    """A model that was asked for: the text of `--model` with its options, or a model that is there."""

    spec: str
    options: Mapping[str, str] = field(default_factory=dict)
    """As texts, `-M key=value`."""
    loaded: LoadedModel | None = None
    """The model, where somebody made it; else it is loaded when its turn comes, and let go after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to evaluate, on what and how: a parsed command line, or a call."""

    models: Sequence[Asked]
    tasks: Sequence[str]
    results: Path
    data: Path | None = None
    task_options: Mapping[str, str] = field(default_factory=dict)
    on_bad: str = "fail"
    runtime: Runtime = field(default_factory=Runtime)
    part: tuple[float, float] | None = None
    limit: int | None = None
    seed: int = 0
    batch_tokens: int | None = None
    n_workers: int = 1
    executor: str = "local"
    """Where they run, `local` or `ray`."""
    gold: str | None = None
    """What makes the gold in place of the data."""
    gold_options: Mapping[str, str] = field(default_factory=dict)
    self_gold: bool = False
    convention: str = "both"
    """What will be shown, `official`, `clean` or `both`."""
    store: Path | None = None
    command: Sequence[str] = ()
    """The command line; empty for a call."""
    show_progress: bool = True


def run_all(request: Request) -> list[Outcome]:
    """Run every model on every task, one model in memory at a time.

    All names are resolved and all data is read and checked before the first model is loaded.

    Raises:
        ConfigError: If a name, an option or a row does not fit.
        RunError: If a model fails. Records that were complete by then stay.
    """
    for asked in request.models:
        if asked.loaded is None:
            check_spec(asked.spec)
    _check_gold(request)
    settings = Settings(
        results=request.results,
        store=request.store or default_store_folder(),
        limit=request.limit,
        seed=request.seed,
        batch_tokens=request.batch_tokens,
        self_gold=request.self_gold,
        command=request.command,
    )
    tasks = with_params([load_task(name) for name in dict.fromkeys(request.tasks)], request.task_options)
    check_convention(tasks, request.convention)
    prepared = [
        prepare_task(
            task,
            settings,
            data=request.data,
            on_bad=request.on_bad,
            offline=request.runtime.offline,
            part=request.part,
        )
        for task in tasks
    ]
    prepared = _golden(prepared, request, settings)
    outcomes: list[Outcome] = []
    taken: set[str] = set()
    for asked in request.models:
        loaded = asked.loaded or load_model(asked.spec, asked.options, request.runtime)
        if loaded.name in taken:
            raise ConfigError(
                f"two models are called {loaded.name!r}; evaluate one on its own, with -M name=NAME"
            )
        taken.add(loaded.name)
        _remarks(loaded, request.show_progress)
        with _crew(loaded, asked.options, request) as crew:
            outcomes += [_one(loaded, task, settings, request.show_progress, crew) for task in prepared]
        # Two large models do not fit side by side.
        del loaded
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


def check_convention(specs: Sequence[TaskSpec], convention: str) -> None:
    """Raise ConfigError if a task has no number of the convention that was asked for."""
    for spec in specs:
        if not spec.kinds_of(convention):
            known = ", ".join(name for name in list_tasks() if load_task(name).kinds_of(convention))
            raise ConfigError(f"task {spec.name!r} has no {convention} convention; tasks that have: {known}")


def _check_gold(request: Request) -> None:
    """Refuse what can be refused before data is read."""
    if request.gold is None:
        if request.gold_options or request.self_gold:
            raise ConfigError("-G and --self-gold belong to --gold; give it with them")
        return
    check_gold(request.gold, request.gold_options)
    # Others that are the same model by another name are found by their fingerprint.
    same = any(a.spec == request.gold and a.options == request.gold_options for a in request.models)
    if same and not request.self_gold:
        raise self_gold_error(request.gold)


def _golden(prepared: list[PreparedTask], request: Request, settings: Settings) -> list[PreparedTask]:
    """Return the tasks with the gold that was asked for; its model is let go before the others are loaded."""
    if request.gold is None:
        return prepared
    source = load_gold(request.gold, request.gold_options, request.runtime)
    if isinstance(source, VerifierGold):
        return [with_gold(task, *gold_of_verifier(source, task.items)) for task in prepared]
    _remarks(source, request.show_progress)
    found = []
    with _billed(source, request.show_progress), _crew(source, request.gold_options, request) as crew:
        for task in prepared:
            with ScoringBar(f"gold of {task.spec.name}", enabled=request.show_progress) as bar:
                items, gold = gold_of_model(
                    source,
                    task.items,
                    settings.store,
                    batch_tokens=settings.batch_tokens,
                    progress=bar,
                    crew=crew,
                )
            found.append(with_gold(task, items, gold))
    return found


def _one(
    loaded: LoadedModel, task: PreparedTask, settings: Settings, show: bool, crew: Pool[Any] | None
) -> Outcome:
    with _billed(loaded, show), ScoringBar(f"{loaded.name} on {task.spec.name}", enabled=show) as bar:
        return evaluate(loaded, task, settings, bar, crew)


@contextmanager
def _crew(loaded: LoadedModel, options: Mapping[str, str], request: Request) -> Iterator[Pool[Any] | None]:
    """Give the processes that score in this one's place, if there are any, and tell of those that died."""
    if request.executor == "local" and request.n_workers == 1:
        yield None
        return
    crew: Workers | RayActors
    if request.executor == "ray":
        crew = ray_actors_for(loaded, options, request.runtime, request.n_workers)
    else:
        crew = workers_for(loaded.spec, options, request.runtime, request.n_workers, loaded.model)
    try:
        with crew:
            yield crew
    finally:
        if crew.n_lost and request.show_progress:
            died = "process that scored died; its batch was asked again"
            if crew.n_lost > 1:
                died = "processes that scored died; their batches were asked again"
            _say(f"{one_line(loaded.name)}: {crew.n_lost} {died}")


@contextmanager
def _billed(loaded: LoadedModel, show: bool) -> Iterator[None]:
    """Say afterwards what a model that is paid for took, and how many questions it did not answer."""
    meter = Meter(loaded.model)
    try:
        yield
    finally:  # what was paid is paid, also where no record comes of it
        used, unanswered = meter.used() or {}, meter.unanswered() or {}
        parts = [f"{value:,.6g} {what}" for what, value in used.items() if value]
        parts += [f"{n:,} without an answer ({why})" for why, n in unanswered.items() if n]
        if parts and show:
            _say(f"{one_line(loaded.name)}: {', '.join(parts)}")


def _remarks(loaded: LoadedModel, show: bool) -> None:
    if show and isinstance(loaded.model, NotingModel):
        for note in loaded.model.notes():
            _say(f"{one_line(loaded.name)}: {one_line(note)}")


def _say(note: str) -> None:
    print(f"note: {note}", file=sys.stderr)
