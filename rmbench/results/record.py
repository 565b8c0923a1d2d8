"""Run records: the file format, its keys and their types, and caveats.

A record is `results/<model>/<task>@<version>/<run id>.json`, with rewards and influence beside it. It is
written last, so an existing record is complete. The run id is a hash of the identity: everything that can
change a number. A second hash covers the whole record. Records are not trusted: keys and types are checked
once, when a record is read.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import floor, isfinite, isinf, log10
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

from rmbench.core.files import IDENTITY_VERSION, digest, sha256_file, slug
from rmbench.core.options import made_of
from rmbench.errors import DataError, StoreError
from rmbench.metrics import METRICS_VERSION
from rmbench.metrics.kinds import at_largest_n, headlines_of, known_kind
from rmbench.types import Estimate

FORMAT = 1
_SIGNIFICANT = 10
_MOST_NAMED = 3
SELF_GOLD = "self-gold"
"""Marks a record whose gold comes from the measured model itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One complete evaluation of one model on one task."""

    model: str
    """Display name; not part of the identity."""
    identity: Mapping[str, Any]
    """Everything that can change a number: task, data, model fingerprint, limit, seed, versions."""
    primary: str
    """The task's headline metric."""
    counts: Mapping[str, Any]
    metrics: Mapping[str, Estimate]
    undefined: Mapping[str, str]
    """Metric -> the reason why it has no value here."""
    strata: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    curves: Mapping[str, Any]
    rewards_sha256: str
    provenance: Mapping[str, Any]
    """Time, versions, device, speed, command. A leaderboard shows speed and command; no metric and no rank
    depends on it."""
    task_file: str | None = None
    """Text of the task's YAML file; None: the record does not hold it. Untrusted where the record is read."""

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
        """Return the path of the record below `results`."""
        return record_folder(results, self.model, self.task, self.task_version) / f"{self.run_id}.json"

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON values, with its hash."""
        return sealed(
            {
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
                **({} if self.task_file is None else {"task_file": self.task_file}),
            }
        )


def sealed(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record's JSON values, with their hash under `sha256`."""
    unsealed = {key: value for key, value in values.items() if key != "sha256"}
    return {**unsealed, "sha256": digest(unsealed)}


def is_whole(values: Mapping[str, Any]) -> bool:
    """Say whether a record's JSON values match the hash that they hold."""
    try:
        return sealed(values) == values
    except ValueError:  # NaN or infinity, which records never hold
        return False


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

    `gold` names the source of gold other than the data (`--gold`), `votes` is the hash of annotators' votes;
    without them, the keys are absent.
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
    """Return `value` with floats at 10 significant digits; further digits differ between processors."""
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
    """Return an estimate as JSON values; an infinite end of its interval is null."""
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
    """Return an end of an interval; null if it is infinite, for which JSON has no number."""
    return None if isinf(end) else float(rounded(end))


def to_text(record: Record) -> str:
    """Return the bytes of a record's file as text: indented, keys in their documented order."""
    return json.dumps(record.to_json(), indent=1, allow_nan=False) + "\n"


_PUT_BACK = "put the file back, or remove the record and evaluate again"


def check_rewards_file(path: Path, sha256: str) -> None:
    """Raise StoreError unless the rewards file exists and is whole and unchanged."""
    if not path.is_file():
        raise StoreError(f"{path}: the rewards of this record are missing; {_PUT_BACK}")
    if (found := sha256_file(path)) != sha256:
        raise StoreError(
            f"{path}: damaged or changed (SHA-256 {found[:12]}…, the record says {sha256[:12]}…); {_PUT_BACK}"
        )


def bad_record(path: Path, problem: str) -> DataError:
    """Return the error for a file that is not a record."""
    return DataError(f"not a run record: {problem}", path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskPart:
    """What of a task can change a number."""

    MORE_KEYS: ClassVar[bool] = True
    name: str
    version: int
    digest: str
    kinds: tuple[str, ...]
    params: Mapping[str, Any]
    strata: tuple[str, ...]
    """Stratum keys that the task reports on."""
    kind_files: Mapping[str, str] | None = None
    """Task kind in a file -> the file's SHA-256."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """All that can change a number."""

    MORE_KEYS: ClassVar[bool] = True
    task: TaskPart
    data: str
    """Hash of the items."""
    model: Mapping[str, Any]
    """Fingerprint of the model."""
    limit: int | None
    """Size of the random sample; null: all items."""
    seed: int
    gold: Mapping[str, Any] | None = None
    """What made the gold in place of the data (`--gold`)."""
    votes: str | None = None
    """Hash of annotators' votes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """Counts of one run. Each task kind adds its own under its name."""

    MORE_KEYS: ClassVar[Any] = Mapping[str, int]
    items: int
    items_available: int
    responses: int
    dropped: Mapping[str, int]
    """Reason -> number of items left out of the data."""
    invalid: int
    distinct_texts: int | None = None
    empty: int | None = None
    truncated: int | None = None
    ties: int | None = None
    trained_on: Mapping[str, int] | None = None
    preference: Mapping[str, int] | None = None
    best_of_n: Mapping[str, int] | None = None
    unanswered: Mapping[str, int] | None = None
    """Reason -> number of judgements of a metered model that gave no reward."""
    pairs: Mapping[str, int] | None = None
    """Of a pairwise model under a schedule: pairs `asked` in both orders, and the pairs `of` all items."""
    steps: Mapping[str, int] | None = None
    """Of a model that rates steps: how many there are, and responses that nothing divides into steps."""
    changed_by_template: Mapping[str, int] | None = None
    """`replies` that the chat template does not write as they are, and `pairs_made_equal` by that."""
    special_tokens: Mapping[str, int] | None = None
    """Control token of the model's tokenizer -> prompts and replies that have its text, and are read so."""
    gold: Mapping[str, int] | None = None
    """What `--gold` found -> number of responses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Time, versions and speed of a run. No metric depends on it."""

    MORE_KEYS: ClassVar[bool] = True
    time: str | None = None
    model: str | None = None
    data: str | None = None
    command: tuple[str, ...] | None = None
    versions: Mapping[str, Any] | None = None
    tokens: float | None = None
    parameters: int | None = None
    tokens_per_s: float | None = None
    wall_s: float | None = None
    used: Mapping[str, Any] | None = None
    """Requests, tokens and cost of a metered model."""
    remarks: tuple[str, ...] | None = None
    """Of the model on itself: its recipe and why, its text format, what it fell back to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenth:
    """Accuracy in one tenth of |margin|."""

    MORE_KEYS: ClassVar[bool] = True
    accuracy: float
    ci95: tuple[float, float] | None = None


_Styles: TypeAlias = tuple[float, float, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """Tables for plots; those that a page or a figure reads."""

    MORE_KEYS: ClassVar[bool] = True
    margin_deciles: tuple[Tenth, ...] | None = None
    margin_quantiles: Mapping[str, float] | None = None
    style_matrix: Mapping[str, tuple[_Styles, _Styles, _Styles]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RewardsFile:
    """The rewards file of a record."""

    MORE_KEYS: ClassVar[bool] = True
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Files:
    """The files beside a record."""

    MORE_KEYS: ClassVar[bool] = True
    rewards: RewardsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordFile:
    """The keys of a record's file. Numbers with intervals are checked where they are read."""

    MORE_KEYS: ClassVar[bool] = True
    model: str
    """Display name."""
    task: str
    primary: str
    """The task's headline metric."""
    identity: Identity
    """Everything that can change a number; the run id is its hash."""
    counts: Counts
    metrics: Mapping[str, Any]
    """Metric -> value, ci95, stderr, n, n_clusters, unit, higher_is_better."""
    undefined: Mapping[str, str]
    """Metric -> the reason why it has no value here."""
    strata: Mapping[str, Any]
    """Stratum key -> its value -> metrics."""
    curves: Curves
    files: Files
    """The rewards file and its SHA-256."""
    provenance: Provenance
    task_file: str | None = None
    """The text of the task's file."""


ENOUGH = 20
"""With fewer prompts near equal length on a side, records get a caveat. The interval of an accuracy from 20
prompts is about 0.4 wide."""


def caveats(record: Record) -> list[str]:
    """Return the caveats of a record, each with its count; empty without any."""
    counts, parts = record.counts, list[str]()
    if (version := record.identity.get("metrics_version")) != METRICS_VERSION:
        parts.append(
            f"numbers of metrics version {version}; rmbench remeasure makes them version {METRICS_VERSION}"
        )
    if counts.get("truncated"):
        parts.append(f"{counts['truncated']:,} truncated")
    if counts["invalid"]:
        parts.append(f"{counts['invalid']:,} invalid")
    parts += [f"{n:,} without an answer ({why})" for why, n in (counts.get("unanswered") or {}).items() if n]
    if pairs := counts.get("pairs"):
        stderr = record.provenance.get("reward_stderr_nats")
        known = "unknown" if stderr is None else f"{stderr:.2g} nats"
        parts.append(
            f"{pairs['asked']:,} of {pairs['of']:,} pairs of responses asked; standard error of a reward"
            f" {known}"
        )
    if n := (counts.get("steps") or {}).get("responses_without_separator"):
        what = "response has" if n == 1 else "responses have"
        parts.append(f"{n:,} {what} no separator of steps, so one step each (-M step_token= names another)")
    if changed := counts.get("changed_by_template"):
        parts.append(
            f"the chat template drops part of {changed.get('replies', 0):,} replies, which makes"
            f" {changed.get('pairs_made_equal', 0):,} pairs of replies equal"
        )
    if special := counts.get("special_tokens"):
        most = sorted(special.items(), key=lambda pair: -pair[1])
        told = ", ".join(f"{token!r} in {n:,}" for token, n in most[:_MOST_NAMED])
        more = ", ..." if len(special) > _MOST_NAMED else ""
        parts.append(
            f"prompts and replies with the text of a special token, read as that token: {told}{more}"
        )
    if counts.get("ties"):
        parts.append(f"{counts['ties']:,} tied {'pair' if counts['ties'] == 1 else 'pairs'}")
    too_small = (counts.get("best_of_n") or {}).get("pools_too_small")
    if too_small:
        parts.append(f"{too_small:,} pools too small for the largest n")
    if few := _few_near_equal_length(record):
        parts.append(few)
    if trained := counts.get("trained_on"):
        parts += [f"{n:,} prompts trained on ({how})" for how, n in trained.items() if n]
    return parts


def remarks(record: Record, is_shown: Callable[[str], bool] = lambda _: True) -> list[str]:
    """Return the remarks of headline metrics, a line per remark with the names of the metrics.

    Args:
        record: The record.
        is_shown: Says whether a metric of this name is shown.
    """
    held = [record.metrics]
    shown = {
        at_largest_n(name, held) for kind in record.identity["task"]["kinds"] for name in headlines_of(kind)
    }
    found: dict[str, list[str]] = {}
    for name in filter(is_shown, sorted(shown & record.metrics.keys())):
        if remark := record.metrics[name].remark:
            found.setdefault(remark, []).append(name)
    return [f"{', '.join(names)}: {remark}" for remark, names in found.items()]


def _few_near_equal_length(record: Record) -> str:
    """Return a caveat if length control has few pairs near equal length; else an empty text."""
    found = record.counts.get("preference") or {}
    sides = {side: found.get(f"prompts_near_equal_chosen_{side}") for side in ("longer", "shorter")}
    known = {side: n for side, n in sides.items() if n is not None}
    if "accuracy_length_controlled" not in record.metrics or min(known.values(), default=ENOUGH) >= ENOUGH:
        return ""
    text = ", ".join(f"{n:,} with chosen {side}" for side, n in known.items())
    return f"few prompts near equal length ({text}), so length control is uncertain"


def kept_empty(record: Record) -> str:
    """Return a text with the number of empty responses that are measured; an empty text for 0."""
    n = record.counts.get("empty")
    return f"{n:,} of {record.counts['responses']:,} responses are empty: they keep their gold" if n else ""


def dropped(record: Record) -> str:
    """Return a text with the items left out of the data, by reason; empty if none."""
    return ", ".join(f"{count:,} for {reason}" for reason, count in record.counts["dropped"].items())


def items_left_out(record: Record) -> dict[str, int]:
    """Return, per task kind, the number of items left out because of the model's rewards, or 0."""
    task = record.identity["task"]
    rule = str(task["params"].get("invalid", "fail"))
    found = dict.fromkeys(task["kinds"], 0)
    for name in found:
        kind = known_kind(name)
        scaled = kind is not None and kind.needs_scale(made_of(kind.params, task["params"]))
        if rule == "drop" or (rule == "wrong" and scaled):
            found[name] = (record.counts.get(name) or {}).get("invalid_items", 0)
    return found
