"""The runs that a comparison is of: records that are there, and evaluations of models that have none.

An argument is a record (its path), a model of the results folder (its name), or a model (a text of
`--model`). A model in files of this machine is always identified by what its files hold: after more training
its old record is not its own. Nothing is scored twice: rewards come from the score store, and a complete
record of the same model is the answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.core.files import digest
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.evaluation.names import options_by_model
from rmbench.evaluation.options import EvalOptions
from rmbench.evaluation.request import Asked, check_models, evaluate_all, named_apart, prepare_all
from rmbench.evaluation.task import PreparedTask
from rmbench.models.resolve import check_spec, place_of
from rmbench.results.read import pick_run, runs_at, with_tasks_of
from rmbench.results.record import make_identity
from rmbench.results.run import Run, full_name
from rmbench.results.write import task_identity
from rmbench.tasks.spec import task_name

PAIRS, POOLS = "preference", "bon"
"""Tasks that data without `--task` is measured on: pairs with their calibration; and pools, if it has any."""


@dataclass(frozen=True, slots=True)
class Compared:
    """The runs of a comparison."""

    by_task: Mapping[str, tuple[Run, ...]]
    """Task -> a run per argument, in their order."""
    n_evaluated: int = 0
    """Records that were made."""
    remarks: tuple[str, ...] = ()


def compared_runs(arguments: Sequence[str], tasks: Sequence[str], options: EvalOptions) -> Compared:
    """Return a run of every argument on every task; what has no record is evaluated.

    Args:
        arguments: Paths of records, names in the results folder, or texts of `--model`.
        tasks: Names of tasks, or their files. Empty: with data, pairs and their calibration, and best of N if
            an item has more than two responses; without data, the task of records that are given by path.
        options: Of the evaluation. `options.options` has keys such as `[A]label`.

    Raises:
        ConfigError: If an argument is neither a record nor a model, or there is no data to evaluate it on.
        RunError: If a model fails.
    """
    found = _Found(arguments, options)
    own = options_by_model(arguments, options.options)
    missing = {n for n, name in enumerate(arguments) if found.must_be_evaluated(name, own[n], tasks)}
    for n in sorted(missing):
        _check_name(arguments[n], found)
    with with_tasks_of(found.runs):
        if not missing and options.data is None:
            names = tasks or found.tasks_of_records()
            by_task = {task_name(t): tuple(found.pick(a, t) for a in arguments) for t in names}
            return Compared(by_task, remarks=tuple(found.remarks))
        if not tasks and options.data is None:
            first = arguments[min(missing)]
            raise ConfigError(f"{first} has no record: give --data FILE with pairs, or --task NAME")
        prepared = _prepared([found.task(name) for name in tasks], options)
    made = {n: found.on(a, prepared) for n, a in enumerate(arguments) if n not in missing}
    asked = {n: Asked(a, own[n]) for n, a in enumerate(arguments) if made.get(n) is None}
    models = named_apart(list(asked.values()))
    check_models(models, options)
    outcomes = evaluate_all(models, prepared, options) if models else []
    for k, n in enumerate(asked):
        made[n] = [o.run for o in outcomes[k * len(prepared) : (k + 1) * len(prepared)]]
    runs = [made[n] or [] for n in range(len(arguments))]
    by_task = {task.spec.name: tuple(one[k] for one in runs) for k, task in enumerate(prepared)}
    return Compared(by_task, sum(not o.reused for o in outcomes), tuple(found.remarks))


def _check_name(spec: str, found: "_Found") -> None:
    try:
        check_spec(spec)
    except UnknownNameError as error:
        # A name may be mistyped of a record, or of a model.
        raise UnknownNameError("model or record", spec, [*error.known, *found.models], found.where) from None


def _prepared(tasks: Sequence[str], options: EvalOptions) -> list[PreparedTask]:
    if tasks:
        return prepare_all(tasks, options)
    pairs = prepare_all([PAIRS], options)
    if not any(len(item.responses) > 2 for item in pairs[0].items):
        return pairs
    return [*pairs, *prepare_all([POOLS], options)]


class _Found:
    """The records of a results folder, and those that are given by their paths."""

    def __init__(self, arguments: Sequence[str], options: EvalOptions) -> None:
        self._options, self.where = options, str(options.results)
        self.runs = runs_at(options.results) if any(options.results.rglob("*.json")) else []
        self._records = {a: runs_at(Path(a))[0] for a in arguments if a.endswith(".json")}
        self.remarks: list[str] = []

    @property
    def models(self) -> list[str]:
        return list(dict.fromkeys(run.model for run in self.runs))

    def task(self, name: str) -> str:
        """Return the task's name in place of its file, where the file is gone and a record holds it."""
        own = task_name(name)
        gone = own != name and not Path(name).is_file()
        return own if gone and own in {run.task for run in self.runs} else name

    def must_be_evaluated(self, argument: str, options: Mapping[str, str], tasks: Sequence[str]) -> bool:
        """Say whether an argument is a model of which no record is found by its name on each task."""
        if argument in self._records:
            if options:
                raise ConfigError(f"-M is for a model; {argument} is a record")
            return False
        if options or self._options.fresh or place_of(argument) is not None:
            return True
        measured = {run.task for run in self.runs if argument in (run.model, full_name(run))}
        return not measured or not (measured >= set(map(task_name, tasks)) or not _is_model(argument))

    def tasks_of_records(self) -> list[str]:
        tasks = list(dict.fromkeys(run.task for run in self._records.values()))
        if len(tasks) != 1:
            known = ", ".join(dict.fromkeys(run.task for run in self.runs)) or "none"
            raise ConfigError(
                f"on which task? Give --task NAME (records in {self.where} are of {known}), or --data FILE"
                " with pairs"
            )
        return tasks

    def pick(self, argument: str, task: str) -> Run:
        """Return the record of an argument on a task, as its name alone means it."""
        if argument in self._records:
            return self._records[argument]
        return pick_run(self.runs, argument, task, self.where, self.remarks.append)

    def on(self, argument: str, prepared: Sequence[PreparedTask]) -> list[Run] | None:
        """Return the argument's records of this data, one per task; None if it is to be evaluated."""
        if argument in self._records:
            return [self._records[argument]] * len(prepared)
        found = [self._same(argument, task) for task in prepared]
        if all(found):
            pairs = zip(found, prepared, strict=True)
            return [pick_run(runs, argument, task.spec.name, self.where) for runs, task in pairs]
        if not _is_model(argument):
            # A name of records alone, say of published results: there is no model to ask.
            return [self.pick(argument, task.spec.name) for task in prepared]
        return None

    def _same(self, argument: str, task: PreparedTask) -> list[Run]:
        """Return the argument's records with the identity that an evaluation now would have."""
        if self._options.gold is not None:
            return []
        limit = self._options.limit if len(task.items) < task.n_available else None
        identity = make_identity(
            task=task_identity(task.spec), data_hash=task.data_hash, fingerprint={}, limit=limit,
            seed=self._options.runtime.seed, votes=task.votes_hash,
        )  # fmt: skip
        wanted = _without_model(identity)
        return [
            run
            for run in self.runs
            if argument in (run.model, full_name(run)) and _without_model(run.record.identity) == wanted
        ]


def _is_model(argument: str) -> bool:
    try:
        check_spec(argument)
    except ConfigError:
        return False
    return True


def _without_model(identity: Mapping[str, Any]) -> str:
    return digest({key: value for key, value in identity.items() if key != "model"})
