"""Sources of figures: stored records, each with a name, and what is read or measured again."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from rmbench.errors import ConfigError
from rmbench.metrics import Panel, Suite
from rmbench.metrics.calibration import Claims, claims_of
from rmbench.results.read import StoredRun, find_records, stored_panel, stored_suite
from rmbench.types import Estimate

AnyRecord: TypeAlias = StoredRun | Path | str


Records: TypeAlias = AnyRecord | Sequence[AnyRecord]
"""One record or several: each a `StoredRun` or the path of one."""


class Source:
    """A record; what its file does not hold is measured from the stored rewards, once."""

    def __init__(self, run: StoredRun, label: str | None = None) -> None:
        self.run, self.record = run, run.record
        self.label = run.record.model if label is None else label

    @property
    def kinds(self) -> list[str]:
        """The kinds of the record's task."""
        return list(self.record.identity["task"]["kinds"])

    @property
    def params(self) -> Mapping[str, Any]:
        """What the metrics were told."""
        return {**self.record.identity["task"]["params"], "seed": self.record.identity["seed"]}

    @cached_property
    def panel(self) -> Panel:
        """Items and rewards."""
        return stored_panel(self.run.rows())

    @cached_property
    def claims(self) -> Claims:
        """What the margins claim, before and after a temperature."""
        return claims_of(self.panel, self.params)

    @cached_property
    def _suite(self) -> Suite:
        return stored_suite(self.run)[0]

    def curve(self, name: str) -> Any:
        """Return a table of the record; of an older version that does not hold it, from the rewards."""
        found = self.record.curves.get(name)
        return self._suite.curves.get(name) if found is None else found

    def metrics(self, stem: str) -> dict[int, Estimate]:
        """Return n -> `stem@n`, by n."""
        found = [m.partition("@")[2] for m in self.record.metrics if m.startswith(f"{stem}@")]
        return {n: self.record.metrics[f"{stem}@{n}"] for n in sorted(int(n) for n in found if n.isdecimal())}

    def lacks(self, kind: str) -> str | None:
        """Return why there is nothing of a task kind here; None if there is."""
        return None if kind in self.kinds else f"the task {self.record.task} measures no {kind}"


def sources_of(records: Records) -> list[Source]:
    """Return the records with names that tell them apart: model, else task too, else the run too.

    Raises:
        DataError: If a path is no record.
        ConfigError: If there is none.
    """
    several = [records] if isinstance(records, StoredRun | Path | str) else list(records)
    runs = [r if isinstance(r, StoredRun) else _read(Path(r)) for r in several]
    if not runs:
        raise ConfigError("no record to draw")
    return name_sources(runs)


def name_sources(runs: Sequence[StoredRun]) -> list[Source]:
    """Return runs as sources whose labels differ: model, else task too, else the run too."""
    parts: list[Callable[[StoredRun], str]] = [
        lambda r: r.record.model,
        lambda r: f"{r.record.model}, {r.record.task}",
        lambda r: f"{r.record.model}, {r.record.run_id[:6]}",
    ]
    labels = [parts[0](r) for r in runs]
    for part in parts[1:]:
        seen = Counter(labels)
        if max(seen.values()) == 1:
            break
        labels = [part(r) if seen[label] > 1 else label for r, label in zip(runs, labels, strict=True)]
    return [Source(run, label) for run, label in zip(runs, labels, strict=True)]


def _read(path: Path) -> StoredRun:
    if not path.is_file():
        raise ConfigError(f"there is no record {path}; a figure is drawn of the .json file of a run")
    return next(find_records(path))
