"""Evaluate one reward model on one task: items, rewards, numbers, record."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from rmbench.core.versions import LIBRARIES, reuse_note, uses_libraries
from rmbench.errors import ScoringError
from rmbench.evaluation.options import EvalOptions
from rmbench.evaluation.task import PreparedTask
from rmbench.evaluation.written import changed_by_template, with_special_tokens, without_unwritable
from rmbench.metrics import measure_suite, panel_of
from rmbench.models.messages import is_blank
from rmbench.models.resolve import LoadedModel, fingerprint_of, run_fingerprint_of
from rmbench.results.read import complete_run
from rmbench.results.record import SELF_GOLD, make_identity, rounded, run_id
from rmbench.results.run import Run
from rmbench.results.texts import keep_texts
from rmbench.results.write import (
    encode_rewards,
    primary_metric,
    provenance_of,
    reward_rows,
    task_identity,
    write_run,
)
from rmbench.scoring import (
    Executor,
    Meter,
    PartStores,
    Progress,
    ScoreStore,
    Scoring,
    open_stores,
    score_items,
)
from rmbench.tasks.spec import check_kinds
from rmbench.types import CountedModel, Item, NotingModel, SteppingModel, TrainedModel


@dataclass(frozen=True, slots=True)
class Outcome:
    """A record, and the work that it took."""

    run: Run
    reused: bool
    """True if the record existed and no work was done."""
    n_computed: int
    """Texts that the model scored."""


def evaluate(
    loaded: LoadedModel,
    task: PreparedTask,
    options: EvalOptions,
    progress: Progress | None = None,
    executor: Executor[Any] | None = None,
    tell: Callable[[str], None] | None = None,
) -> Outcome:
    """Evaluate one model on one task and write the record.

    A complete record of the same run is returned, unless `options.fresh` has all of it computed again.

    Args:
        loaded: The model.
        task: The prepared task.
        options: Options of the evaluation.
        progress: Shows the work.
        executor: Processes that score with the same model in place of this one.
        tell: Gets a line each about stored rewards that were damaged, or that other library versions made.

    Raises:
        ConfigError: If the gold is the model's own and `self_gold` is False.
        UnwritableError: If the model's text format cannot write an item, unless `options.on_bad` is `skip`.
        ScoringError: If the model breaks its contract. Rewards that it gave before stay in the store.
        StoreError: If the store or an existing record is damaged.
    """
    if options.on_bad == "skip":
        task = without_unwritable(task, loaded.model)
    fingerprint = fingerprint_of(loaded)
    identity = make_identity(
        task=task_identity(task.spec),
        data_hash=task.data_hash,
        fingerprint=run_fingerprint_of(loaded),
        limit=options.limit if len(task.items) < task.n_available else None,
        seed=options.runtime.seed,
        gold=task.gold.identity_for(fingerprint, self_gold=options.self_gold) if task.gold else None,
        votes=task.votes_hash,
    )
    if identity.get("gold", {}).get("relation") == SELF_GOLD:
        loaded = replace(loaded, name=f"{loaded.name} ({SELF_GOLD})")
    if options.keep_texts:
        keep_texts(options.results, task.spec.name, task.data_hash, task.items)
    done = None
    if not options.fresh:
        done = complete_run(options.results, loaded.name, task.spec, run_id(identity))
    if done is not None:
        if tell and uses_libraries(loaded.model):
            for note in _reuse_notes(done):
                tell(note)
        return Outcome(done, reused=True, n_computed=0)
    meter = Meter(loaded.model)
    stores, fresh = options.store_folder, options.fresh_name
    with open_stores(stores, loaded.model, fingerprint, fresh=fresh, tell=tell) as store:
        scoring = score_items(
            loaded.model,
            task.items,
            store,
            batch_tokens=options.batch_tokens,
            progress=progress,
            executor=executor,
            schedule=loaded.schedule,
        )
    run = _measured(loaded, task, options, identity, scoring, meter, _served(store))
    return Outcome(run, reused=False, n_computed=scoring.n_computed)


def _reuse_notes(run: Run) -> list[str]:
    """Return a line for each other version of a library that made the rewards of a complete record."""
    provenance = run.record.provenance
    reused = provenance.get("reused_from")
    made = [provenance.get("versions"), *(reused if isinstance(reused, list) else ())]
    found = [each.get("versions", each) for each in made if isinstance(each, Mapping)]
    known = [
        {name: each[name] for name in LIBRARIES if isinstance(each.get(name), str)}
        for each in found
        if isinstance(each, Mapping)
    ]
    notes = [reuse_note("a complete record's rewards", versions) for versions in known]
    return [note for note in dict.fromkeys(notes) if note]


def _served(store: ScoreStore | PartStores) -> dict[str, Any]:
    """Return what the provenance says of damaged rewards, and of those that other versions made."""
    reused = [{"rewards": n, "versions": versions} for versions, n in store.reused_from()]
    return {
        **({"damaged": store.n_damaged} if store.n_damaged else {}),
        **({"reused_from": reused} if reused else {}),
    }


def _measured(
    loaded: LoadedModel,
    task: PreparedTask,
    options: EvalOptions,
    identity: Mapping[str, Any],
    scoring: Scoring,
    meter: Meter,
    served: Mapping[str, Any],
) -> Run:
    """Measure the rewards and write the run."""
    spec = task.spec
    check_kinds(spec)
    flips = None
    if scoring.flips is not None and scoring.comparisons is not None:
        flips = (scoring.flips, scoring.comparisons)
    unanswered = {**(meter.unanswered() or {}), **scoring.unanswered}
    try:
        suite = measure_suite(
            panel_of(task.items, scoring.rewards),
            spec.kinds,
            {**spec.params, "seed": options.runtime.seed},
            spec.strata,
            flips=flips,
            contradictions=scoring.contradictions,
        )
    except ScoringError as error:  # rewards that are not finite, and the task's rule is to stop
        why = ", ".join(f"{n:,} for {reason}" for reason, n in unanswered.items() if n)
        raise ScoringError(f"{error} (without an answer: {why})" if why else str(error)) from None
    return write_run(
        options.results,
        model=loaded.name,
        identity=identity,
        primary=primary_metric(spec, suite),
        counts={
            "items": len(task.items),
            "items_available": task.n_available,
            "responses": scoring.rewards.n_rewards,
            **({"empty": n_empty} if (n_empty := _n_empty(task.items)) else {}),
            "distinct_texts": scoring.n_units,
            "dropped": dict(task.dropped),
            "truncated": scoring.n_truncated,
            "invalid": scoring.n_invalid,
            **_if_any("unanswered", unanswered or meter.unanswered()),
            **_if_any("pairs", _pairs(scoring)),
            **_if_any("special_tokens", with_special_tokens(task.items, loaded.model) or None),
            **_if_any("changed_by_template", changed_by_template(task.items, loaded.model) or None),
            "trained_on": _trained_on(loaded, task.items),
            **_if_any("steps", _steps(loaded, task.items)),
            **({} if task.gold is None else {"gold": dict(task.gold.counts)}),
        },
        suite=suite,
        rewards=encode_rewards(reward_rows(task.items, scoring.rewards, flips)),
        provenance={**_provenance(loaded, task, options, scoring), **served, **_if_any("used", meter.used())},
        task_file=spec.text,
    )


def _pairs(scoring: Scoring) -> dict[str, int] | None:
    """Return what a schedule asked of the pairs; None without one."""
    pairs = scoring.pairs
    return None if pairs is None else {"asked": pairs.asked, "of": pairs.of}


def _n_empty(items: Iterable[Item]) -> int:
    """Return how many responses are empty or white space. They are measured like any other."""
    return sum(is_blank(r.turn) for item in items for r in item.responses)


def _if_any(key: str, value: Mapping[str, float] | None) -> dict[str, Any]:
    """Return the entry of a metered model; empty for another."""
    return {} if value is None else {key: dict(value)}


def _trained_on(loaded: LoadedModel, items: Iterable[Item]) -> dict[str, int] | None:
    """Return how many prompts of the task the model was trained on, if it knows."""
    found = (
        loaded.model.overlap(item.prompt for item in items)
        if isinstance(loaded.model, TrainedModel)
        else None
    )
    return None if found is None else dict(found)


def _steps(loaded: LoadedModel, items: Iterable[Item]) -> Mapping[str, int] | None:
    """Return how many steps the responses have, for a model that rates steps."""
    if not isinstance(loaded.model, SteppingModel):
        return None
    return loaded.model.step_counts(
        item.conversation(k) for item in items for k in range(len(item.responses))
    )


def _provenance(
    loaded: LoadedModel, task: PreparedTask, options: EvalOptions, scoring: Scoring
) -> dict[str, Any]:
    wall_s = scoring.wall_s
    said = loaded.model.notes() if isinstance(loaded.model, NotingModel) else ()
    return {
        **provenance_of(model=loaded.spec, data=task.source, command=options.command),
        **({"read_as": list(task.remarks)} if task.remarks else {}),
        "computed": scoring.n_computed,
        "reused": scoring.n_units - scoring.n_computed,
        **({} if task.gold is None else {"gold_computed": task.gold.n_computed}),
        **({"gold": dict(task.gold.provenance)} if task.gold and task.gold.provenance else {}),
        **({"remarks": list(said)} if said else {}),
        **({} if scoring.pairs is None else {"reward_stderr_nats": rounded(scoring.pairs.stderr)}),
        "wall_s": round(wall_s, 3),
        "tokens": scoring.n_tokens or None,
        "parameters": loaded.model.n_parameters() if isinstance(loaded.model, CountedModel) else None,
        "tokens_per_s": round(scoring.n_tokens / wall_s, 1) if scoring.n_tokens and wall_s > 0 else None,
    }
