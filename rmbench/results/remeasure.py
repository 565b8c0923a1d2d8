"""Make the numbers of records again from their stored rewards: no model, no data set, no GPU."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rmbench.metrics import METRICS_VERSION
from rmbench.results.read import runs_at
from rmbench.results.record import is_whole
from rmbench.results.run import Run
from rmbench.results.write import write_run


@dataclass(frozen=True, slots=True)
class Remeasured:
    """One record, measured again."""

    run: Run
    """As it was found."""
    path: Path
    """Where it is now."""
    changed: tuple[str, ...]
    """Metrics whose value or interval differs, and `undefined`, `strata` or `curves` where those do."""
    edited: bool
    """The record was not as it was written: edited by hand, or damaged."""


def remeasure(folder: Path, *, results: Path | None = None) -> Iterator[Remeasured]:
    """Measure every record at or below `folder` again, and write those that changed.

    A record made by an older version of the metrics gets a new identity, hence a new file; the old one is
    removed only after the new one is complete.

    Raises:
        ConfigError: If there is no record.
        StoreError: If rewards are missing or damaged.
    """
    for run in runs_at(folder, as_written=False):
        yield _one(run, results)


def _one(run: Run, results: Path | None) -> Remeasured:
    old = run.record
    edited = not is_whole(json.loads(run.path.read_text(encoding="utf-8")))
    # <results>/<model>/<task>@<version>/<run id>.json
    root = results or run.path.parent.parent.parent
    new = write_run(
        root,
        model=old.model,
        identity={**old.identity, "metrics_version": METRICS_VERSION},
        primary=old.primary,
        counts=old.counts,
        suite=run.measure(),
        rewards=run.rewards_path.read_bytes(),
        provenance=old.provenance,
        task_file=old.task_file,
    )
    if new.path != run.path and results is None:
        for path in (run.path, run.influence_path, run.rewards_path):
            path.unlink(missing_ok=True)
    first, second = (json.loads(json.dumps(record.to_json())) for record in (old, new.record))
    names = sorted({*old.metrics, *new.metrics})
    changed = [n for n in names if first["metrics"].get(n) != second["metrics"].get(n)]
    changed += [part for part in ("undefined", "strata", "curves") if first[part] != second[part]]
    return Remeasured(run, new.path, tuple(changed), edited)
