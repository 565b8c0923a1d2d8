"""Run records: what was measured, of what, and all that is needed to measure it again.

A record is `results/<model>/<task>@<version>/<run id>.json` with the rewards beside it. The rewards file is
written first and the record last, both atomically, so a record that exists is complete. The run id is a
hash of the identity, computed the same way before the run and from the record.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor, isfinite, isinf, log10
from pathlib import Path
from typing import Any

from rmbench.canon import IDENTITY_VERSION, digest, slug
from rmbench.errors import DataError, StoreError
from rmbench.files import sha256_file, to_jsonl_gz, write_atomic
from rmbench.metrics import METRICS_VERSION, Suite
from rmbench.types import Estimate, Item

FORMAT = 1
_SIGNIFICANT = 10
SELF_GOLD = "self-gold"
"""What a record says whose gold was made by the model that it measures."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One complete evaluation of one model on one task."""

    model: str
    """Display name; not part of the identity."""
    identity: Mapping[str, Any]
    """Whatever can change a number: task, data, model fingerprint, limit, seed, versions."""
    primary: str
    """The task's headline metric."""
    counts: Mapping[str, Any]
    metrics: Mapping[str, Estimate]
    undefined: Mapping[str, str]
    """Metric -> why it has no value here."""
    strata: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    curves: Mapping[str, Any]
    rewards_sha256: str
    provenance: Mapping[str, Any]
    """Time, versions, device, speed, command. A leaderboard shows speed and command of it; no number and no
    rank depends on it."""

    @property
    def run_id(self) -> str:
        """16 hex digits of the identity's hash."""
        return run_id(self.identity)

    @property
    def task(self) -> str:
        """Name of the task."""
        return str(self.identity["task"]["name"])

    @property
    def task_version(self) -> int:
        """Version of the task."""
        return int(self.identity["task"]["version"])

    def path(self, results: Path) -> Path:
        """Return where the record belongs below `results`."""
        return record_folder(results, self.model, self.task, self.task_version) / f"{self.run_id}.json"

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values."""
        return {
            "rmbench_record": FORMAT,
            "run_id": self.run_id,
            "model": self.model,
            "task": self.task,
            "primary": self.primary,
            "identity": dict(self.identity),
            "counts": dict(self.counts),
            "metrics": {name: estimate_to_json(e) for name, e in self.metrics.items()},
            "undefined": dict(self.undefined),
            "strata": {
                key: {
                    value: {name: estimate_to_json(e) for name, e in metrics.items()}
                    for value, metrics in values.items()
                }
                for key, values in self.strata.items()
            },
            "curves": rounded(dict(self.curves)),
            "files": {"rewards": {"name": rewards_name(self.run_id), "sha256": self.rewards_sha256}},
            "provenance": dict(self.provenance),
        }


def run_id(identity: Mapping[str, Any]) -> str:
    """Return the id of the run with this identity, 16 hex digits."""
    return digest(dict(identity), 16)


def rewards_name(run: str) -> str:
    """Return the name of the rewards file beside the record of `run`."""
    return f"{run}.rewards.jsonl.gz"


def record_folder(results: Path, model: str, task: str, version: int) -> Path:
    """Return the folder of a model's records of one task version."""
    return results / slug(model) / f"{slug(task)}@{version}"


def make_identity(
    *,
    task: Mapping[str, Any],
    data_hash: str,
    fingerprint: Mapping[str, str],
    limit: int | None,
    seed: int,
    gold: Mapping[str, Any] | None = None,
    votes: str | None = None,
) -> dict[str, Any]:
    """Return the identity of a run; the same before it starts and in its record.

    `gold` says what made the gold in place of the data (`--gold`), `votes` is the hash of annotators' votes;
    without them, the keys are not there.
    """
    return {
        "identity_version": IDENTITY_VERSION,
        "metrics_version": METRICS_VERSION,
        "task": dict(task),
        "data": data_hash,
        "model": dict(fingerprint),
        "limit": limit,
        "seed": seed,
        **({} if gold is None else {"gold": dict(gold)}),
        **({} if votes is None else {"votes": votes}),
    }


def rounded(value: Any) -> Any:
    """Return `value` with floats at 10 significant digits: below that, processors differ."""
    if isinstance(value, float):
        if value == 0.0 or not isfinite(value):
            return value
        return round(value, _SIGNIFICANT - 1 - floor(log10(abs(value))))
    if isinstance(value, Mapping):
        return {k: rounded(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [rounded(v) for v in value]
    return value


def estimate_to_json(estimate: Estimate) -> dict[str, Any]:
    """Return an estimate as JSON values; an end of its interval that is infinite is null."""
    return {
        "value": rounded(estimate.value),
        "ci95": [_end(end) for end in estimate.ci95] if estimate.ci95 else None,
        "stderr": rounded(estimate.stderr),
        "n": estimate.n,
        "n_clusters": estimate.n_clusters,
        "unit": estimate.unit,
        "higher_is_better": estimate.higher_is_better,
        **({"remark": estimate.remark} if estimate.remark else {}),
    }


def _end(end: float) -> float | None:
    """Return an end of an interval; null for one that is infinite, which JSON has no number for."""
    return None if isinf(end) else float(rounded(end))


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


def write_record(results: Path, record: Record, rewards: bytes) -> Path:
    """Write the rewards, then the record; return the record's path."""
    path = record.path(results)
    write_atomic(path.with_name(rewards_name(record.run_id)), rewards)
    write_atomic(path, to_text(record))
    return path


def to_text(record: Record) -> str:
    """Return the bytes of a record's file as text: indented, keys in their documented order."""
    return json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n"


def encode_rewards(rows: Iterable[Mapping[str, Any]]) -> bytes:
    """Return the bytes of a rewards file; they depend on the rows alone."""
    return to_jsonl_gz(rows)


def suite_fields(suite: Suite) -> dict[str, Any]:
    """Return a suite's numbers as the fields of a record."""
    return {
        "metrics": {name: s.estimate() for name, s in suite.metrics.items()},
        "undefined": suite.undefined,
        "strata": suite.strata,
        "curves": suite.curves,
    }


def check_rewards_file(path: Path, sha256: str) -> None:
    """Raise StoreError unless the rewards file is there, whole and unchanged."""
    if not path.is_file():
        raise StoreError(f"{path}: the rewards of this record are missing")
    if (found := sha256_file(path)) != sha256:
        raise StoreError(
            f"{path}: damaged or changed (SHA-256 {found[:12]}…, the record says {sha256[:12]}…)"
        )


def bad_record(path: Path, problem: str) -> DataError:
    """Return the error for a file that is not a record."""
    return DataError(f"not a run record: {problem}", path=path)
