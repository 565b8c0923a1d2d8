"""Make the numbers of records again from their stored rewards: no model, no data set, no GPU."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from rmbench.errors import ConfigError
from rmbench.metrics import METRICS_VERSION
from rmbench.results.read import find_records
from rmbench.results.record import suite_fields, to_text, write_record
from rmbench.results.run import Run


@dataclass(frozen=True, slots=True)
class Remeasured:
    """One record, measured again."""

    run: Run
    """As it was found."""
    path: Path
    """Where it is now."""
    changed: tuple[str, ...]
    """Metrics whose value or interval differs."""


def remeasure(folder: Path, *, results: Path | None = None) -> Iterator[Remeasured]:
    """Measure every record at or below `folder` again, and write those that changed.

    A record made by an older version of the metrics gets a new identity, hence a new file; the old one is
    removed only after the new one is complete.

    Raises:
        ConfigError: If there is no record.
        StoreError: If rewards are missing or damaged.
    """
    if not folder.exists():
        raise ConfigError(f"there is no file or folder {folder}")
    runs = list(find_records(folder))
    if not runs:
        raise ConfigError(f"no record in {folder}")
    for run in runs:
        yield _one(run, results)


def _one(run: Run, results: Path | None) -> Remeasured:
    old = run.record
    suite = run.measure(strata=True)
    new = replace(
        old,
        identity={**old.identity, "metrics_version": METRICS_VERSION},
        counts={**old.counts, **suite.counts},
        **suite_fields(suite),
    )
    before, after = old.to_json()["metrics"], new.to_json()["metrics"]
    changed = tuple(n for n in sorted({*before, *after}) if before.get(n) != after.get(n))
    # <results>/<model>/<task>@<version>/<run id>.json
    root = results or run.path.parent.parent.parent
    if run.path.read_text(encoding="utf-8") == to_text(new):
        return Remeasured(run, run.path, changed)
    path = write_record(root, new, run.rewards_path.read_bytes())
    if path != run.path and results is None:
        run.path.unlink()
        run.rewards_path.unlink()
    return Remeasured(run, path, changed)
