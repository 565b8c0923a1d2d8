"""Reading run records back, whole and checked: they are input like any other."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf, nan
from pathlib import Path
from typing import Any

from rmbench.core.files import iter_jsonl
from rmbench.errors import ConfigError, first_line
from rmbench.metrics import KINDS, Panel, PanelRow, Suite, build_panel, measure_suite, with_flips
from rmbench.results.record import (
    FORMAT,
    Record,
    bad_record,
    check_rewards_file,
    misshapen,
    record_folder,
    rewards_name,
    run_id,
)
from rmbench.tasks.spec import TaskSpec, list_tasks, load_task
from rmbench.types import Estimate


@dataclass(frozen=True, slots=True)
class StoredRun:
    """A record with where it was found."""

    record: Record
    path: Path

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.record.model

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.record.task

    @property
    def metrics(self) -> Mapping[str, Estimate]:
        """Every number of the record, with its interval."""
        return self.record.metrics

    @property
    def rewards_path(self) -> Path:
        """The rewards file beside the record."""
        return self.path.with_name(rewards_name(self.record.run_id))

    def rows(self) -> list[dict[str, Any]]:
        """Return the stored rows of the rewards file.

        Raises:
            StoreError: If the file is missing or does not match the record's hash.
        """
        check_rewards_file(self.rewards_path, self.record.rewards_sha256)
        return [row for _, row in iter_jsonl(self.rewards_path)]


def read_record(path: Path) -> Record:
    """Return the record in `path`.

    Raises:
        DataError: If it is not a record, or its id does not follow from its identity.
    """
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise bad_record(path, str(error)) from None
    if not isinstance(raw, dict) or raw.get("rmbench_record") != FORMAT:
        raise bad_record(path, f"expected an object with rmbench_record = {FORMAT}")
    if problem := misshapen(raw):
        raise bad_record(path, problem)
    try:
        record = Record(
            model=raw["model"],
            identity=raw["identity"],
            primary=raw["primary"],
            counts=raw["counts"],
            metrics=_estimates(raw["metrics"]),
            undefined=raw["undefined"],
            strata={k: {v: _estimates(m) for v, m in vs.items()} for k, vs in raw["strata"].items()},
            curves=raw["curves"],
            rewards_sha256=raw["files"]["rewards"]["sha256"],
            provenance=raw["provenance"],
        )
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        told = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise bad_record(path, told) from None
    if raw.get("run_id") != run_id(record.identity):
        raise bad_record(path, "run_id does not follow from the identity; the file was edited by hand")
    with suppress(ConfigError):  # the record can be shown without its kinds, not measured
        find_own_kinds(record)
    return record


def find_own_kinds(record: Record) -> None:
    """Make sure that the kinds that a record's task has in files are known, as they were for the record.

    No code is run because a record names it. The task file has to be one that the user named before, or be in
    a folder of RMBENCH_TASKS_DIR.

    Raises:
        ConfigError: If a kind is not known, or its file has changed since.
    """
    files: Mapping[str, str] = record.identity["task"].get("kind_files", {})
    for kind, sha256 in files.items():
        if KINDS.file_hash(kind) is None and record.task in list_tasks():
            load_task(record.task)
        if (found := KINDS.file_hash(kind)) != sha256:
            problem = "is defined in a file that is not known here" if found is None else "has changed since"
            raise ConfigError(
                f"{record.model} on {record.task}: its task kind {kind} {problem}; name the folder of"
                f" {record.task}.yaml in RMBENCH_TASKS_DIR, or evaluate again"
            )


def find_records(folder: Path) -> Iterator[StoredRun]:
    """Yield every record at or below `folder` (a results folder, a subfolder, or one file), in path order."""
    if folder.is_file():
        yield StoredRun(read_record(folder), folder)
        return
    for path in sorted(folder.rglob("*.json"), key=lambda p: p.as_posix()):
        if not path.name.startswith("."):
            yield StoredRun(read_record(path), path)


def stored_panel(rows: list[dict[str, Any]]) -> Panel:
    """Return the panel of stored rows; no model, task file or data set is needed."""
    return build_panel(
        PanelRow(
            id=row["id"],
            rewards=[nan if v is None else v for v in row["rewards"]],
            gold=row["gold"],
            lengths=row["lengths"],
            cluster=row["cluster"],
            strata=row["strata"],
            gold_kind=row["gold_kind"],
            logprobs=row.get("logprobs"),
            votes=row.get("votes"),
        )
        for row in rows
    )


def stored_suite(run: StoredRun, *, strata: bool = True) -> tuple[Suite, Panel]:
    """Measure a stored run again from its rewards, as its identity says; return the numbers and the panel."""
    rows = run.rows()
    panel = stored_panel(rows)
    if rows and "flips" in rows[0]:
        panel = with_flips(panel, ([row["flips"] for row in rows], [row["comparisons"] for row in rows]))
    return measure_as(run, panel, run.record.identity["task"]["kinds"], strata=strata), panel


def measure_as(run: StoredRun, panel: Panel, kinds: Sequence[str], *, strata: bool = True) -> Suite:
    """Measure task kinds on a panel with the parameters and the seed of a stored run.

    Raises:
        ConfigError: If one of the kinds is not known here (see `find_own_kinds`).
    """
    find_own_kinds(run.record)
    task: Mapping[str, Any] = run.record.identity["task"]
    params = {**task["params"], "seed": run.record.identity["seed"]}
    return measure_suite(panel, kinds, params, task["strata"], report_strata=strata)


def _estimates(raw: Mapping[str, Mapping[str, Any]]) -> dict[str, Estimate]:
    return {name: _estimate(name, e) for name, e in raw.items()}


def _end(value: Any, infinite: float) -> float:
    """Return an end of an interval; null stands for one that is infinite."""
    return infinite if value is None else float(value)


def _estimate(name: str, e: Mapping[str, Any]) -> Estimate:
    try:
        return Estimate(
            value=float(e["value"]),
            ci95=(_end(e["ci95"][0], -inf), _end(e["ci95"][1], inf)) if e["ci95"] else None,
            stderr=None if e["stderr"] is None else float(e["stderr"]),
            n=int(e["n"]),
            n_clusters=int(e["n_clusters"]),
            unit=e["unit"],
            higher_is_better=e["higher_is_better"],
            remark=str(e.get("remark", "")),
        )
    except (KeyError, TypeError, ValueError, IndexError, OverflowError) as error:
        raise ValueError(
            f"the metric {name!r}: {first_line(error)}; expected a number with its interval"
        ) from None


def complete_run(results: Path, model: str, spec: TaskSpec, run: str) -> StoredRun | None:
    """Return the record of a run that is complete already, checked; None where there is none."""
    path = record_folder(results, model, spec.name, spec.version) / f"{run}.json"
    if not path.exists():
        return None
    record = read_record(path)
    check_rewards_file(path.with_name(rewards_name(run)), record.rewards_sha256)
    return StoredRun(record, path)
