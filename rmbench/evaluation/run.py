"""Evaluate a reward model on a task: items, rewards, numbers, record."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.core.identity import digest, in_part
from rmbench.errors import ConfigError, ScoringError
from rmbench.gold.source import Gold
from rmbench.metrics import measure_suite, panel_of
from rmbench.models.resolve import LoadedModel, fingerprint_of
from rmbench.results.read import complete_run
from rmbench.results.record import SELF_GOLD, make_identity, run_id
from rmbench.results.run import Run
from rmbench.results.write import (
    encode_rewards,
    primary_metric,
    provenance_of,
    reward_rows,
    task_identity,
    write_run,
)
from rmbench.scoring import Crew, Meter, Progress, Scoring, open_stores, score_items
from rmbench.tasks import ItemShelf, read_task_items
from rmbench.tasks.spec import TaskSpec
from rmbench.types import CountedModel, Item, TrainedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to run; only `limit` and `seed` are part of a run's identity."""

    results: Path
    """Where records go."""
    store: Path
    """Where the score stores are."""
    limit: int | None = None
    """Measure a seeded random sample of this many items; None: all."""
    seed: int = 0
    batch_tokens: int | None = None
    """Most tokens in one forward pass; None: what the model says it can take."""
    self_gold: bool = False
    """Measure a model against its own scores where these are the gold; the record says so."""
    command: Sequence[str] = field(default_factory=tuple)
    """The command line, for the record's provenance."""


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task with its items read and checked: everything that can be refused before a model is loaded."""

    spec: TaskSpec
    items: ItemShelf
    """In data order; the limit is applied."""
    n_available: int
    """Items before the limit."""
    dropped: Mapping[str, int]
    """Why items or responses of the data were left out -> how many."""
    data_hash: str
    source: str
    gold: Gold | None = None
    """What made the items' gold in place of the data; None: the data's own."""
    votes_hash: str | None = None
    """SHA-256 over the annotators' votes of all items of the data; None where there are none."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """A record, and how it came about."""

    run: Run
    reused: bool
    """True if the record was complete already and nothing was done."""
    n_computed: int
    """Texts the model was asked for."""


def prepare_task(
    spec: TaskSpec,
    settings: Settings,
    *,
    data: Path | None,
    on_bad: str,
    offline: bool,
    part: tuple[float, float] | None = None,
) -> PreparedTask:
    """Read the items of a task; with `part`, those of the prompts whose hash lies in it (`in_part`).

    Raises:
        ConfigError: If the data does not fit, or nothing is left of it.
    """
    item_set = read_task_items(spec, data, on_bad=on_bad, offline=offline)
    items = item_set.items
    if part is not None:
        items = items.take(k for k, item in enumerate(items) if in_part(item.cluster, part))
    if not items:
        raise ConfigError(f"task {spec.name!r}: no item left in {item_set.source}")
    n_available, data_hash, source = len(items), item_set.data_hash, item_set.source
    if part is not None:
        # Other data, as far as a number is concerned: another hash, hence another record.
        data_hash = digest(["part", data_hash, *part])
        source = f"{source}, prompts {part[0]:g} to {part[1]:g}"
    if settings.limit is not None and settings.limit < len(items):
        rng = np.random.default_rng(settings.seed)
        chosen = np.sort(rng.choice(len(items), size=settings.limit, replace=False))
        items = items.take(map(int, chosen))
    return PreparedTask(
        spec, items, n_available, item_set.dropped, data_hash, source, votes_hash=item_set.votes_hash
    )


def with_gold(task: PreparedTask, items: ItemShelf, gold: Gold) -> PreparedTask:
    """Return the task with `items`, its own with another gold."""
    return replace(task, items=items, data_hash=gold.data_hash, gold=gold)


def evaluate(
    loaded: LoadedModel,
    task: PreparedTask,
    settings: Settings,
    progress: Progress | None = None,
    crew: Crew[Any] | None = None,
) -> Outcome:
    """Evaluate one model on one task and write the record, unless the very same run is complete already.

    Args:
        loaded: The model.
        task: On what.
        settings: How.
        progress: Told of the work.
        crew: Processes that answer in this one's place, with the same model.

    Raises:
        ConfigError: If the gold is the model's own, and that was not asked for.
        ScoringError: If the model breaks its contract. Rewards obtained until then stay in the store.
        StoreError: If the store or an existing record is damaged.
    """
    fingerprint = fingerprint_of(loaded)
    identity = make_identity(
        task=task_identity(task.spec),
        data_hash=task.data_hash,
        fingerprint=fingerprint,
        limit=settings.limit if len(task.items) < task.n_available else None,
        seed=settings.seed,
        gold=task.gold.identity_for(fingerprint, self_gold=settings.self_gold) if task.gold else None,
        votes=task.votes_hash,
    )
    if identity.get("gold", {}).get("relation") == SELF_GOLD:
        loaded = replace(loaded, name=f"{loaded.name} ({SELF_GOLD})")
    done = complete_run(settings.results, loaded.name, task.spec, run_id(identity))
    if done is not None:
        return Outcome(done, reused=True, n_computed=0)
    meter = Meter(loaded.model)
    with open_stores(settings.store, loaded.model, fingerprint) as store:
        scoring = score_items(
            loaded.model,
            task.items,
            store,
            batch_tokens=settings.batch_tokens,
            progress=progress,
            crew=crew,
        )
    run = _measured(loaded, task, settings, identity, scoring, meter)
    return Outcome(run, reused=False, n_computed=scoring.n_computed)


def _measured(
    loaded: LoadedModel,
    task: PreparedTask,
    settings: Settings,
    identity: Mapping[str, Any],
    scoring: Scoring,
    meter: Meter,
) -> Run:
    """Measure the rewards and write the run."""
    spec = task.spec
    flips = None
    if scoring.flips is not None and scoring.comparisons is not None:
        flips = (scoring.flips, scoring.comparisons)
    unanswered = {**(meter.unanswered() or {}), **scoring.unanswered}
    try:
        suite = measure_suite(
            panel_of(task.items, scoring.rewards),
            spec.kinds,
            {**spec.params, "seed": settings.seed},
            spec.strata,
            flips=flips,
        )
    except ScoringError as error:  # rewards that are not finite, and the task's rule is to stop
        why = ", ".join(f"{n:,} for {reason}" for reason, n in unanswered.items() if n)
        raise ScoringError(f"{error} (without an answer: {why})" if why else str(error)) from None
    return write_run(
        settings.results,
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
            "trained_on": _trained_on(loaded, task.items),
            **({} if task.gold is None else {"gold": dict(task.gold.counts)}),
        },
        suite=suite,
        rewards=encode_rewards(reward_rows(task.items, scoring.rewards, flips)),
        provenance=_provenance(loaded, task, settings, scoring) | _if_any("used", meter.used()),
        task_file=spec.text,
    )


def _n_empty(items: Iterable[Item]) -> int:
    """Return how many responses hold no text, or white space alone; they are measured like any other."""
    return sum(not r.text.strip() for item in items for r in item.responses)


def _if_any(key: str, value: Mapping[str, float] | None) -> dict[str, Any]:
    """Return the entry of a model that is metered, and none for the others."""
    return {} if value is None else {key: dict(value)}


def _trained_on(loaded: LoadedModel, items: Iterable[Item]) -> dict[str, int] | None:
    """Return how many prompts of the task the model was trained on, where it knows."""
    found = (
        loaded.model.overlap(item.prompt for item in items)
        if isinstance(loaded.model, TrainedModel)
        else None
    )
    return None if found is None else dict(found)


def _provenance(
    loaded: LoadedModel, task: PreparedTask, settings: Settings, scoring: Scoring
) -> dict[str, Any]:
    wall_s = scoring.wall_s
    return {
        **provenance_of(model=loaded.spec, data=task.source, command=settings.command),
        "computed": scoring.n_computed,
        "reused": scoring.n_units - scoring.n_computed,
        **({} if task.gold is None else {"gold_computed": task.gold.n_computed}),
        "wall_s": round(wall_s, 3),
        "tokens": scoring.n_tokens or None,
        "parameters": loaded.model.n_parameters() if isinstance(loaded.model, CountedModel) else None,
        "tokens_per_s": round(scoring.n_tokens / wall_s, 1) if scoring.n_tokens and wall_s > 0 else None,
    }
