"""Runs with labels, for figures and reports."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from rmbench.errors import ConfigError
from rmbench.metrics import Suite
from rmbench.metrics.calibration import Claims, claims_of
from rmbench.metrics.kinds import sizes_of
from rmbench.results.read import runs_at
from rmbench.results.run import Run, shown_name
from rmbench.types import Estimate

RecordLike: TypeAlias = Run | Path | str


RecordsLike: TypeAlias = RecordLike | Sequence[RecordLike]
"""One record or several: each a `Run` or the path of one."""


@dataclass(frozen=True)
class Source(Run):
    """A run with a name in figures."""

    label: str = field(kw_only=True)
    """Name in legends and pages."""

    @cached_property
    def claims(self) -> Claims:
        """Probabilities that the margins claim, before and after a temperature."""
        return claims_of(self.panel, self.settings)

    @cached_property
    def _measured(self) -> Suite:
        return self.measure(strata=False)

    def curve(self, name: str) -> Any:
        """Return a curve of the record; if an older record lacks it, from the rewards."""
        found = self.record.curves.get(name)
        return self._measured.curves.get(name) if found is None else found

    def by_n(self, stem: str) -> dict[int, Estimate]:
        """Return n -> `stem@n`, by n."""
        metrics = self.record.metrics
        return {n: metrics[f"{stem}@{n}"] for n in sizes_of(stem, metrics)}

    def lacks(self, kind: str) -> str | None:
        """Return why the run has no task kind `kind`; None if it has."""
        return None if kind in self.kinds else f"the task {self.record.task} measures no {kind}"


def sources_of(records: RecordsLike) -> list[Source]:
    """Return records with distinct labels: model, if needed with task, else with run id.

    Raises:
        DataError: If a path is no record.
        StoreError: If the rewards of a record are missing or damaged.
        ConfigError: If there is none.
    """
    several = [records] if isinstance(records, Run | Path | str) else list(records)
    runs = [r if isinstance(r, Run) else _read(Path(r)) for r in several]
    if not runs:
        raise ConfigError("no record to draw")
    return name_sources(runs)


def name_sources(runs: Sequence[Run]) -> list[Source]:
    """Return runs with distinct labels: model, if needed with task, else with run id.

    Raises:
        StoreError: If the rewards of one are missing or damaged, also where only its record is shown.
    """
    for run in runs:
        run.check_rewards()
    parts: list[Callable[[Run], str]] = [
        lambda r: shown_name(r, runs),
        lambda r: f"{shown_name(r, runs)}, {r.task}",
        lambda r: f"{r.model}, {r.record.run_id[:6]}",
    ]
    labels = [parts[0](r) for r in runs]
    for part in parts[1:]:
        seen = Counter(labels)
        if max(seen.values()) == 1:
            break
        labels = [part(r) if seen[label] > 1 else label for r, label in zip(runs, labels, strict=True)]
    return [
        Source(run.record, run.path, keeps_influence=run.keeps_influence, label=label)
        for run, label in zip(runs, labels, strict=True)
    ]


def _read(path: Path) -> Run:
    if not path.is_file():
        raise ConfigError(f"there is no record {path}; a figure is drawn of the .json file of a run")
    return runs_at(path)[0]
