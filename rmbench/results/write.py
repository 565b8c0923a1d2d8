"""Writes runs into a results folder, for `eval`, `import` and `remeasure`.

`remeasure` computes the metrics of records again from their rewards, without model, data or GPU.
"""

import json
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from rmbench.core.address import without_secrets
from rmbench.core.files import read_json, sha256_bytes, to_jsonl_gz, write_atomic
from rmbench.core.versions import LIBRARIES, loaded_versions
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
    """Write a run: its rewards, its influence file, then its record, each whole or not at all.

    Args:
        results: The results folder.
        model: Name of the model.
        identity: From `make_identity`.
        primary: The task's headline metric.
        counts: Counts of items, responses and left-out items; ties and the suite's counts are added.
        suite: All metrics, with those of strata.
        rewards: Bytes of the rewards file (`encode_rewards`).
        provenance: From `provenance_of`.
        task_file: Text of the task's YAML file, if known.
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
    contradictions: Sequence[tuple[int, int]] | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield the rows of the rewards file: everything that metrics need, and no text of prompt or response.

    The rows are also valid input for `scores:FILE`.
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
        if contradictions is not None:
            entry["contradictions"] = [int(n) for n in contradictions[i]]
        yield entry


def encode_rewards(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the bytes of a rewards file; they depend only on the rows."""
    return to_jsonl_gz(rows)


def provenance_of(*, model: str, data: str, command: Sequence[str]) -> dict[str, Any]:
    """Return the provenance keys that every record has: time, machine, versions, data; no secret."""
    return {
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": without_secrets(model),
        "data": data,
        "command": [without_secrets(word) for word in command],
        "versions": package_versions(),
        "machine": platform.machine(),
    }


def package_versions() -> dict[str, str]:
    """Return the versions of the libraries that this run has loaded, for its provenance."""
    return {
        "python": platform.python_version(),
        **loaded_versions(("rmbench", "numpy", "scipy", *LIBRARIES)),
    }


def task_identity(spec: TaskSpec) -> dict[str, Any]:
    """Return the parts of a task that can change a number."""
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
    """Return the headline's name; if it has no value on this data, the record gives the reason under it."""
    if spec.primary in suite.undefined or not suite.metrics:
        return spec.primary
    return resolve_metric(spec.primary, suite.metrics)


@dataclass(frozen=True, slots=True)
class Remeasured:
    """One record that was measured again."""

    run: Run
    """The record before."""
    path: Path
    """Its new path."""
    changed: tuple[str, ...]
    """Metrics whose value or interval changed, and `undefined`, `strata` or `curves` if they changed."""
    edited: bool
    """True if the record was edited or damaged."""


def remeasure(folder: Path, *, results: Path | None = None) -> Iterator[Remeasured]:
    """Measure every record at or below `folder` again, and write the changed ones.

    A record from an older version of the metrics gets a new identity, hence a new file; the old file is
    removed after the new one is complete. A removal that a kill cut short is finished first.

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
