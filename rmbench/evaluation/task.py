"""A task, prepared: its items read and checked, before a model is loaded."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from rmbench.core.files import digest, in_part
from rmbench.errors import ConfigError
from rmbench.evaluation.options import EvalOptions
from rmbench.gold.source import Gold
from rmbench.tasks import ItemShelf, read_task_items
from rmbench.tasks.items import ItemSet
from rmbench.tasks.spec import TaskSpec, check_kinds


@dataclass(frozen=True, slots=True)
class PreparedTask:
    """A task with its items read and checked, before a model is loaded."""

    spec: TaskSpec
    items: ItemShelf
    """In data order; the limit is applied."""
    n_available: int
    """Items before the limit."""
    dropped: Mapping[str, int]
    """Reason why items or responses of the data were left out -> count."""
    data_hash: str
    source: str
    gold: Gold | None = None
    """Source of the items' gold; None: the data."""
    votes_hash: str | None = None
    """SHA-256 over the annotators' votes of all items of the data; None without votes."""
    remarks: tuple[str, ...] = ()
    """How the files were read."""


def prepare_task(spec: TaskSpec, options: EvalOptions) -> PreparedTask:
    """Read the items of a task: those of `options.part` (`in_part`), at most `options.limit`.

    Raises:
        ConfigError: If the data does not fit, nothing is left of it, or its kinds have changed since it was
            loaded.
    """
    check_kinds(spec)
    part = options.part
    item_set = read_task_items(spec, options.data, on_bad=options.on_bad, offline=options.runtime.offline)
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
    if options.limit is not None and options.limit < len(items):
        rng = np.random.default_rng(options.runtime.seed)
        chosen = np.sort(rng.choice(len(items), size=options.limit, replace=False))
        items = items.take(map(int, chosen))
    spec = replace(spec, strata=(*spec.strata, *item_set.strata))
    return PreparedTask(
        spec, items, n_available, item_set.dropped, data_hash, source, votes_hash=item_set.votes_hash,
        remarks=(*item_set.remarks, *(_sizes_told(spec, item_set) if options.data else ())),
    )  # fmt: skip


def _sizes_told(spec: TaskSpec, data: ItemSet) -> list[str]:
    """Return what the task makes of pairs where it is about pools, and of pools where it is about pairs."""
    told = []
    if "best_of_n" in spec.kinds and data.most_responses == 2:
        told.append(
            f"{spec.name}: the items are pairs, so best-of-N is measured at N = 2 alone, one of two replies;"
            " larger N need pools of more responses to a prompt, such as `rmbench sample` writes"
        )
    if "preference" in spec.kinds and data.most_responses > 2:
        told.append(
            f"{spec.name}: items have up to {data.most_responses:,} replies; any two of different gold are a"
            " pair"
        )
    return told


def with_gold(task: PreparedTask, items: ItemShelf, gold: Gold) -> PreparedTask:
    """Return the task with `items`: its own, with another gold."""
    return replace(task, items=items, data_hash=gold.data_hash, gold=gold)
