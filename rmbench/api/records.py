"""A list of run records: filter, show, save, or convert to pandas."""

import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from rmbench.core.files import read_whole, write_atomic
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.format.tables import Block, as_html, value_low_high
from rmbench.report.tables import record_blocks, record_tables
from rmbench.results.read import pick_run
from rmbench.results.record import check_rewards_file
from rmbench.results.run import Run, full_name, shown_name

if TYPE_CHECKING:
    import pandas

Names = str | Iterable[str]


class Records(Sequence[Run]):
    """Records of models on tasks, each with its numbers and its place.

    A notebook and `print` show the tables of `rmbench eval`.

    Args:
        runs: Runs in the order to show. A run that comes twice is taken once.
        convention: Numbers that are shown, `official`, `clean` or `both`. Every record holds both.
    """

    def __init__(self, runs: Iterable[Run], *, convention: str = "both") -> None:
        unique: dict[tuple[str, str], Run] = {}
        for run in runs:
            unique.setdefault((run.model, run.record.run_id), run)
        self._runs = tuple(unique.values())
        self._convention = convention

    @overload
    def __getitem__(self, index: int) -> Run: ...

    @overload
    def __getitem__(self, index: slice) -> "Records": ...

    def __getitem__(self, index: int | slice) -> "Run | Records":
        return self._like(self._runs[index]) if isinstance(index, slice) else self._runs[index]

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs)

    def __add__(self, other: Iterable[Run]) -> "Records":
        return self._like([*self, *other])

    @property
    def models(self) -> list[str]:
        """Names of the models, each once, in order; with a hash where two models share a name."""
        return list(dict.fromkeys(shown_name(run, self) for run in self))

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, each once, in order."""
        return list(dict.fromkeys(run.task for run in self))

    def filter(self, *, model: Names | None = None, task: Names | None = None) -> "Records":
        """Return the records of some models, of some tasks, or of both.

        Raises:
            UnknownNameError: If no record is of a model or task that was asked for.
        """
        names = {name: run for run in self for name in (shown_name(run, self), full_name(run), run.model)}
        models = _known(model, list(names), "model")
        tasks = _known(task, self.tasks, "task")
        return self._like(run for run in self if {run.model, full_name(run)} & models and run.task in tasks)

    def one(self, model: str, task: str) -> Run:
        """Return the one record of a model on a task.

        Raises:
            ConfigError: If no record, or more than one, fits.
        """
        return pick_run(self._runs, model, task, "records")

    def to_rows(self, *, strata: bool = False) -> list[dict[str, Any]]:
        """Return one mapping per record and metric: the rows of `to_pandas`, without pandas.

        Args:
            strata: Add the numbers of each stratum, with the keys `stratum` and `part`.
        """
        rows = []
        for run in self:
            parts = [("", "", run.metrics)]
            if strata:
                parts += [(key, v, m) for key, vs in run.record.strata.items() for v, m in vs.items()]
            about = _about(run, shown_name(run, self))
            for key, value, metrics in parts:
                where = {"stratum": key, "part": value} if strata else {}
                rows += [{**about, **where, **_row(name, e)} for name, e in metrics.items()]
        return rows

    def to_pandas(self, *, strata: bool = False) -> "pandas.DataFrame":
        """Return a data frame with one row per record and metric.

        Columns: model, task, version, metric, value, low and high (95% interval, missing without one),
        stderr, n, n_clusters, unit, higher_is_better, run_id.

        Args:
            strata: Add a row per metric of each stratum, with the columns stratum and part.

        Raises:
            ConfigError: If pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise ConfigError(f"to_pandas: {error}; pip install pandas, or use to_rows()") from None
        # Named here, so that a frame of no records has the same columns.
        columns = ["model", "task", "version", *(("stratum", "part") if strata else ()), *_COLUMNS]
        return pandas.DataFrame(self.to_rows(strata=strata), columns=columns)

    def save(self, results: Path | str) -> "Records":
        """Copy the records and their rewards into a results folder; return the copies.

        Raises:
            StoreError: If the rewards of a record are missing or damaged.
        """
        copies = []
        for run in self:
            check_rewards_file(run.rewards_path, run.record.rewards_sha256)
            copy = Run(run.record, run.record.path(Path(results)))
            if copy.path.resolve() != run.path.resolve():
                copy.path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(run.rewards_path, copy.rewards_path)
                if run.influence_path.is_file():
                    shutil.copyfile(run.influence_path, copy.influence_path)
                write_atomic(copy.path, read_whole(run.path))
            copies.append(copy)
        return self._like(copies)

    def _like(self, runs: Iterable[Run]) -> "Records":
        return Records(runs, convention=self._convention)

    def __repr__(self) -> str:
        if not self:
            return "<Records: none>"
        models = "one model" if len(self.models) == 1 else f"{len(self.models)} models"
        return f"<Records: {len(self)}, of {models} on {', '.join(self.tasks)}>"

    def __str__(self) -> str:
        return record_tables(self, self._convention) or repr(self)

    def _repr_html_(self) -> str:
        """Return the tables as notebooks show them."""
        blocks = record_blocks(self, self._convention)
        return as_html(blocks or [Block("", ("no record",), None)])


_COLUMNS = (
    "metric", "value", "low", "high", "stderr", "n", "n_clusters", "unit", "higher_is_better", "run_id",
)  # fmt: skip


def _known(asked: Names | None, known: Sequence[str], kind: str) -> set[str]:
    if asked is None:
        return set(known)
    names = {asked} if isinstance(asked, str) else set(asked)
    for name in sorted(names):
        if name not in known:
            raise UnknownNameError(kind, name, known, "records")
    return names


def _about(run: Run, model: str) -> dict[str, Any]:
    return {
        "model": model,
        "task": run.task,
        "version": run.record.task_version,
        "run_id": run.record.run_id,
    }


def _row(name: str, estimate: Any) -> dict[str, Any]:
    value, low, high = value_low_high(estimate)
    return {
        "metric": name,
        "value": value,
        "low": low,
        "high": high,
        "stderr": estimate.stderr,
        "n": estimate.n,
        "n_clusters": estimate.n_clusters,
        "unit": estimate.unit,
        "higher_is_better": estimate.higher_is_better,
    }
