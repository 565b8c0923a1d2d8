"""Writing runs: what `eval`, `import` and `remeasure` put into a results folder.

`remeasure` makes the numbers
of records again from their rewards, without model, data or GPU.
"""

import json
import platform
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from math import isfinite
from pathlib import Path
from typing import Any

from rmbench.core.files import read_json, sha256_bytes, to_jsonl_gz, write_atomic
from rmbench.metrics import METRICS_VERSION, Suite, resolve_metric
from rmbench.results.influence import influence_name, write_influence
from rmbench.results.read import runs_at
from rmbench.results.record import Record, is_whole, rewards_name, to_text
from rmbench.results.run import Run
from rmbench.tasks.spec import TaskSpec
from rmbench.types import Item


def write_run(
    results: Path,
    *,
    model: str,
    identity: Mapping[str, Any],
    primary: str,
    counts: Mapping[str, Any],
    suite: Suite,
    rewards: bytes,
    provenance: Mapping[str, Any],
    task_file: str | None,
) -> Run:
    """Write a run: its rewards, its influence file, and last its record, each whole or not at all.

    Args:
        results: The results folder.
        model: Name of the model.
        identity: From `make_identity`.
        primary: The task's headline metric.
        counts: Of items, responses and what was left out; ties and the suite's counts are added.
        suite: All numbers, with those of strata.
        rewards: Bytes of the rewards file (`encode_rewards`).
        provenance: From `provenance_of`.
        task_file: Text of the task's YAML file, where it is known.
    """
    record = Record(
        model=model,
        identity=identity,
        primary=primary,
        counts={
            **counts,
            "ties": suite.counts.get("preference", {}).get("reward_ties"),
            **suite.counts,
        },
        metrics={name: s.estimate() for name, s in suite.metrics.items()},
        undefined=suite.undefined,
        strata=suite.strata,
        curves=suite.curves,
        rewards_sha256=sha256_bytes(rewards),
        provenance=provenance,
        task_file=task_file,
    )
    run = Run(record, record.path(results))
    _put(run.rewards_path, rewards)
    write_influence(run.influence_path, record, suite)
    _put(run.path, to_text(record).encode("utf-8"))
    return run


def _put(path: Path, content: bytes) -> None:
    """Write a file unless its content is there already."""
    if not path.is_file() or path.read_bytes() != content:
        write_atomic(path, content)


def reward_rows(
    items: Iterable[Item],
    rewards: Iterable[Sequence[float]],
    flips: tuple[Sequence[int], Sequence[int]] | None,
) -> Iterator[dict[str, Any]]:
    """Yield what the rewards file holds: all that metrics need, and no text of prompt or response.

    The rows are also a valid input of `scores:FILE`.
    """
    for i, (item, row) in enumerate(zip(items, rewards, strict=True)):
        entry: dict[str, Any] = {
            "id": item.id,
            "rewards": [v if isfinite(v) else None for v in row],
            "gold": [r.gold for r in item.responses],
            "lengths": [len(r.text) for r in item.responses],
            "cluster": item.cluster,
            "strata": dict(item.strata),
            "gold_kind": item.gold_kind,
        }
        if any(r.logprob is not None for r in item.responses):
            entry["logprobs"] = [r.logprob for r in item.responses]
        if item.votes is not None:
            entry["votes"] = list(item.votes)
        if flips is not None:
            entry |= {"flips": flips[0][i], "comparisons": flips[1][i]}
        yield entry


def encode_rewards(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the bytes of a rewards file; they depend on the rows alone."""
    return to_jsonl_gz(rows)


def provenance_of(*, model: str, data: str, command: Sequence[str]) -> dict[str, Any]:
    """Return when, where and from what a run is made: keys that every record has."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": model,
        "data": data,
        "command": list(command),
        "versions": package_versions(),
        "machine": platform.machine(),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of what this run has loaded, for its provenance."""
    found = {"python": platform.python_version()}
    for name in ("rmbench", "numpy", "scipy", "torch", "transformers"):
        # Only what this run has loaded: a version that played no part would mislead.
        if name in sys.modules:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
    return found


def task_identity(spec: TaskSpec) -> dict[str, Any]:
    """Return what of a task can change a number."""
    return {
        "name": spec.name,
        "version": spec.version,
        "digest": spec.digest(),
        "kinds": list(spec.kinds),
        **({"kind_files": dict(spec.kind_files)} if spec.kind_files else {}),
        "params": dict(spec.params),
        "strata": list(spec.strata),
    }


def primary_metric(spec: TaskSpec, suite: Suite) -> str:
    """Return the headline's name; where it has no value on this data, the record says why under it."""
    if spec.primary in suite.undefined or not suite.metrics:
        return spec.primary
    return resolve_metric(spec.primary, suite.metrics)


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
    removed only after the new one is complete. A removal that a kill cut short is finished first.

    Raises:
        ConfigError: If there is no record.
        StoreError: If rewards are missing or damaged.
    """
    begun = folder.rglob if folder.is_dir() else folder.parent.glob
    for path in sorted(begun(f".*{_REPLACED}")):
        _finish_removal(path)
    for run in runs_at(folder, as_written=False):
        yield _one(run, results)


_REPLACED = ".json.replaced"


def _finish_removal(path: Path) -> None:
    """Remove the files of a record that was set aside as `path`, and last that."""
    name = path.name.removeprefix(".").removesuffix(_REPLACED)
    if not path.with_name(f"{name}.json").exists():  # else somebody has put the record back
        for beside in (influence_name(name), rewards_name(name)):
            path.with_name(beside).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def _one(run: Run, results: Path | None) -> Remeasured:
    old = run.record
    edited = not is_whole(read_json(run.path))
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
        aside = run.path.with_name(f".{old.run_id}{_REPLACED}")
        run.path.replace(aside)
        _finish_removal(aside)
    first, second = (json.loads(json.dumps(record.to_json())) for record in (old, new.record))
    names = sorted({*old.metrics, *new.metrics})
    changed = [n for n in names if first["metrics"].get(n) != second["metrics"].get(n)]
    changed += [part for part in ("undefined", "strata", "curves") if first[part] != second[part]]
    return Remeasured(run, new.path, tuple(changed), edited)
