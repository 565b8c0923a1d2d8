"""Reading run records back, whole and checked: they are input like any other."""

import json
from collections.abc import Iterator, Mapping
from math import inf
from pathlib import Path
from typing import Any

from rmbench.errors import first_line
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
from rmbench.results.run import Run
from rmbench.tasks.spec import TaskSpec
from rmbench.types import Estimate


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
    return record


def find_records(folder: Path) -> Iterator[Run]:
    """Yield every record at or below `folder` (a results folder, a subfolder, or one file), in path order."""
    if folder.is_file():
        yield Run(read_record(folder), folder)
        return
    for path in sorted(folder.rglob("*.json"), key=lambda p: p.as_posix()):
        if not path.name.startswith("."):
            yield Run(read_record(path), path)


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


def complete_run(results: Path, model: str, spec: TaskSpec, run: str) -> Run | None:
    """Return the record of a run that is complete already, checked; None where there is none."""
    path = record_folder(results, model, spec.name, spec.version) / f"{run}.json"
    if not path.exists():
        return None
    record = read_record(path)
    check_rewards_file(path.with_name(rewards_name(run)), record.rewards_sha256)
    return Run(record, path)
