"""Evaluate models on tasks: check everything first, then run one model after the other."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from rmbench.core.escape import one_line
from rmbench.core.files import digest, require_writable
from rmbench.core.progress import Bar
from rmbench.errors import ConfigError
from rmbench.evaluation.names import distinct_names
from rmbench.evaluation.options import EvalOptions
from rmbench.evaluation.run import Outcome, evaluate
from rmbench.evaluation.task import PreparedTask, prepare_task, with_gold
from rmbench.gold.source import (
    VerifierGold,
    check_gold,
    gold_of_model,
    gold_of_verifier,
    load_gold,
    self_gold_error,
)
from rmbench.models.resolve import LoadedModel, check_spec, load_model, run_fingerprint_of
from rmbench.results.read import others_of_name
from rmbench.scoring import Meter, Workers
from rmbench.tasks.spec import TaskSpec, apply_params, list_tasks, load_task, parameter_names
from rmbench.types import NotingModel, PairwiseModel

if TYPE_CHECKING:
    from rmbench.scoring.processes import Processes
    from rmbench.scoring.ray import RayActors


@dataclass(frozen=True, slots=True)
class Asked:
    """A model to evaluate: the text of `--model` with its options, or a loaded model."""

    spec: str
    options: Mapping[str, str] = field(default_factory=dict)
    """Texts of `-M key=value`."""
    loaded: LoadedModel | None = None
    """The model, if the caller made it. Otherwise it is loaded when its turn comes, and released after it."""


def run_all(models: Sequence[Asked], tasks: Sequence[str], options: EvalOptions) -> list[Outcome]:
    """Run every model on every task, one model in memory at a time.

    Two models of one name are told apart by the folders that they are in. All names are resolved, the folders
    of records and stores are tried, and all data is read and checked before the first model is loaded.

    Raises:
        ConfigError: If a name, an option or a row does not fit, or a folder cannot be written to.
        RunError: If a model fails. Records that were complete by then stay.
    """
    models = named_apart(models)
    check_models(models, options)
    return evaluate_all(models, prepare_all(tasks, options), options)


def named_apart(models: Sequence[Asked]) -> list[Asked]:
    """Return the models with names that differ, where their texts say that two would have one name.

    Raises:
        UnknownNameError: If a text names no model.
        ConfigError: If two have one name, and nothing tells them apart.
    """
    texts = [asked for asked in models if asked.loaded is None]
    names = iter(distinct_names([(asked.spec, asked.options) for asked in texts]))
    return [
        asked
        if asked.loaded is not None or (name := next(names)) is None
        else replace(asked, options={**asked.options, "name": name})
        for asked in models
    ]


def check_models(models: Sequence[Asked], options: EvalOptions) -> None:
    """Check the texts of models and the options of the gold, before data is read.

    Raises:
        ConfigError: If a text names no model, or an option does not fit.
    """
    for asked in models:
        if asked.loaded is None:
            check_spec(asked.spec)
        elif options.executor != "local" or options.n_workers > 1:
            raise ConfigError(
                f"{asked.loaded.name} is an object of this process; n_workers and executor need a model that"
                " is given by its text, such as 'my_rm.py:MyRM'"
            )
    _check_gold(models, options)


def prepare_all(tasks: Sequence[str], options: EvalOptions) -> list[PreparedTask]:
    """Try the folders of records and stores, then read and check the data of all tasks.

    Raises:
        ConfigError: If a name, an option or a row does not fit, or a folder cannot be written to.
    """
    require_writable(options.results, "--results")
    require_writable(options.store_folder, "--store")
    specs = with_params([load_task(name) for name in dict.fromkeys(tasks)], options.params)
    check_convention(specs, options.convention)
    prepared = [prepare_task(spec, options) for spec in specs]
    if not options.quiet:
        for remark in dict.fromkeys(remark for task in prepared for remark in task.remarks):
            _say(one_line(remark, 400))
    return prepared


def evaluate_all(
    models: Sequence[Asked], prepared: list[PreparedTask], options: EvalOptions
) -> list[Outcome]:
    """Run every model on every prepared task, one model in memory at a time.

    Raises:
        ConfigError: If two models have one name.
        RunError: If a model fails. Records that were complete by then stay.
    """
    prepared = _golden(prepared, options)
    outcomes: list[Outcome] = []
    taken: set[str] = set()
    for asked in models:
        loaded = asked.loaded or load_model(asked.spec, asked.options, options.runtime)
        if loaded.name in taken:
            raise ConfigError(
                f"two models are called {loaded.name!r}; evaluate one on its own, with -M name=NAME"
            )
        taken.add(loaded.name)
        _remarks(loaded, options)
        _tell_of_namesakes(loaded, options)
        with _executor(loaded, asked.options, options) as executor:
            outcomes += [_one(loaded, task, options, executor) for task in prepared]
        # Two large models do not fit side by side.
        del loaded
    return outcomes


def with_params(specs: Sequence[TaskSpec], options: Mapping[str, str]) -> list[TaskSpec]:
    """Return the tasks with each `-T` option applied to those that know it.

    Raises:
        UnknownNameError: If no task knows an option.
    """
    known = {spec.name: parameter_names(spec) for spec in specs}
    for key in options:
        if not any(key in names for names in known.values()):
            # The first task raises the error, with its own nearest name.
            apply_params(specs[0], {key: options[key]})
    return [apply_params(spec, {k: v for k, v in options.items() if k in known[spec.name]}) for spec in specs]


def check_convention(specs: Sequence[TaskSpec], convention: str) -> None:
    """Raise ConfigError if a task has no number of the convention."""
    for spec in specs:
        if not spec.kinds_of(convention):
            known = ", ".join(name for name in list_tasks() if load_task(name).kinds_of(convention))
            raise ConfigError(f"task {spec.name!r} has no {convention} convention; tasks that have: {known}")


def _check_gold(models: Sequence[Asked], options: EvalOptions) -> None:
    """Check the options of the gold before data is read."""
    if options.gold is None:
        if options.gold_options or options.self_gold:
            raise ConfigError("-G and --self-gold belong to --gold; give it with them")
        return
    check_gold(options.gold, options.gold_options)
    # The same model under another name is found later, by its fingerprint.
    same = any(a.spec == options.gold and a.options == options.gold_options for a in models)
    if same and not options.self_gold:
        raise self_gold_error(options.gold)


def _golden(prepared: list[PreparedTask], options: EvalOptions) -> list[PreparedTask]:
    """Return the tasks with the gold of `options`; a gold model is released before the others are loaded."""
    if options.gold is None:
        return prepared
    source = load_gold(options.gold, options.gold_options, options.runtime)
    if isinstance(source, VerifierGold):
        return [with_gold(task, *gold_of_verifier(source, task.items)) for task in prepared]
    _remarks(source, options)
    found = []
    with _billed(source, options), _executor(source, options.gold_options, options) as executor:
        for task in prepared:
            label = f"gold of {task.spec.name}"
            with _told(label, options) as tell, Bar(label, "texts", enabled=not options.quiet) as bar:
                items, gold = gold_of_model(
                    source,
                    task.items,
                    options.store_folder,
                    batch_tokens=options.batch_tokens,
                    progress=bar,
                    executor=executor,
                    fresh=options.fresh_name,
                    tell=tell,
                )
            found.append(with_gold(task, items, gold))
    return found


def _one(
    loaded: LoadedModel, task: PreparedTask, options: EvalOptions, executor: Workers[Any] | None
) -> Outcome:
    label = f"{loaded.name} on {task.spec.name}"
    _tell_cost(loaded, task, options)
    with (
        _billed(loaded, options),
        _told(label, options) as tell,
        Bar(label, "texts", enabled=not options.quiet) as bar,
    ):
        # A bar that nobody sees needs no count of the texts, which reads all items.
        return evaluate(loaded, task, options, bar if bar.is_shown else None, executor, tell)


@contextmanager
def _executor(
    loaded: LoadedModel, model_options: Mapping[str, str], options: EvalOptions
) -> Iterator[Workers[Any] | None]:
    """Yield the processes that score in place of this one, if there are any, and report those that died."""
    executor: Processes | RayActors
    if options.executor == "ray":
        from rmbench.scoring.ray import ray_actors_for

        executor = ray_actors_for(loaded, model_options, options.runtime, options.n_workers)
    elif options.n_workers > 1:
        from rmbench.scoring.processes import processes_for

        executor = processes_for(loaded, model_options, options.runtime, options.n_workers)
    else:
        yield None
        return
    try:
        with executor:
            yield executor
    finally:
        if executor.n_lost and not options.quiet:
            died = "process that scored died; its batch was asked again"
            if executor.n_lost > 1:
                died = "processes that scored died; their batches were asked again"
            _say(f"{one_line(loaded.name)}: {executor.n_lost} {died}")


@contextmanager
def _billed(loaded: LoadedModel, options: EvalOptions) -> Iterator[None]:
    """Print at the end the usage of a metered model, and the questions that it did not answer."""
    meter = Meter(loaded.model)
    try:
        yield
    finally:  # usage is also paid if no record is written
        used, unanswered = meter.used() or {}, meter.unanswered() or {}
        parts = [f"{value:,.6g} {what}" for what, value in used.items() if value]
        parts += [f"{n:,} without an answer ({why})" for why, n in unanswered.items() if n]
        if parts and not options.quiet:
            _say(f"{one_line(loaded.name)}: {', '.join(parts)}")


def _remarks(loaded: LoadedModel, options: EvalOptions) -> None:
    if not options.quiet and isinstance(loaded.model, NotingModel):
        for note in loaded.model.notes():
            _say(f"{one_line(loaded.name)}: {one_line(note)}")


def _tell_of_namesakes(loaded: LoadedModel, options: EvalOptions) -> None:
    """Say so if the results folder has records of another model with this name."""
    if options.quiet:
        return
    own = run_fingerprint_of(loaded)
    others = {digest(r.fingerprint, 6): r for r in others_of_name(options.results, loaded.name, own)}
    if not others:
        return
    differ = sorted({key for r in others.values() for key in {*own, *r.fingerprint}
                     if own.get(key) != r.fingerprint.get(key)})  # fmt: skip
    name = one_line(loaded.name)
    _say(
        f"{name}: {one_line(str(options.results))} has records of another model of this name"
        f" ({', '.join(list(others)[:3])}; other {one_line(', '.join(differ), 60)}). Where both are shown,"
        f" this one is {name} ({digest(own, 6)}); -M name=NAME gives it its own name"
    )


def _tell_cost(loaded: LoadedModel, task: PreparedTask, options: EvalOptions) -> None:
    """Say what a pairwise model is asked, if a schedule is set or there are many responses."""
    if options.quiet or not isinstance(loaded.model, PairwiseModel):
        return
    if told := loaded.schedule.cost(task.items):
        _say(f"{one_line(loaded.name)} on {one_line(task.spec.name)}: {told}")


@contextmanager
def _told(label: str, options: EvalOptions) -> Iterator[Callable[[str], None]]:
    """Yield what takes remarks on the stored rewards of one evaluation; they are printed at its end."""
    notes: list[str] = []
    try:
        yield notes.append
    finally:
        if not options.quiet:
            for note in notes:
                _say(f"{one_line(label)}: {one_line(note)}")


def _say(note: str) -> None:
    print(f"note: {note}", file=sys.stderr)
