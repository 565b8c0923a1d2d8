"""One stored evaluation: its record, its path, and the metrics of its rewards.

Other facts (speed, size, command) are untrusted input, and checked here.
"""

import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from math import nan
from pathlib import Path
from typing import Any

from rmbench.core.files import digest
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.metrics import (
    KINDS,
    Panel,
    PanelRow,
    Suite,
    build_panel,
    measure_suite,
    resolve_metric,
    with_contradictions,
    with_flips,
)
from rmbench.results.influence import influence_name, read_influence, write_influence
from rmbench.results.record import SELF_GOLD, Record, check_rewards_file, rewards_name
from rmbench.results.rewards import read_rewards
from rmbench.tasks.spec import TaskSpec, list_tasks, load_task, parse_recorded
from rmbench.types import Estimate


@dataclass(frozen=True)
class Run:
    """A stored evaluation of one model on one task. Panel and suite are made at their first use."""

    record: Record
    """Content of the record's file."""
    path: Path
    """Path of the record's file."""
    keeps_influence: bool = field(default=True, kw_only=True)
    """True: metrics that are measured again are written to the influence file."""

    @property
    def model(self) -> str:
        """Name of the model."""
        return self.record.model

    @property
    def fingerprint(self) -> Mapping[str, Any]:
        """Identity of the model: weights, template, dtype and everything else that can change a reward."""
        found: Mapping[str, Any] = self.record.identity["model"]
        return found

    @property
    def task(self) -> str:
        """Name of the task."""
        return self.record.task

    @property
    def version(self) -> int:
        """Version of the task."""
        return self.record.task_version

    @property
    def task_digest(self) -> str:
        """Hash of all parts of the task that can change a number: `TaskSpec.digest`."""
        return str(self._task["digest"])

    @property
    def kinds(self) -> tuple[str, ...]:
        """Measured task kinds."""
        return tuple(self._task["kinds"])

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters of the task."""
        found: Mapping[str, Any] = self._task["params"]
        return found

    @property
    def settings(self) -> dict[str, Any]:
        """Parameters and seed: the arguments of the metrics."""
        return {**self.params, "seed": self.seed}

    @property
    def strata(self) -> tuple[str, ...]:
        """Stratum keys that the task reports on."""
        return tuple(self._task["strata"])

    @property
    def data(self) -> str:
        """Hash of the items."""
        return str(self.record.identity["data"])

    @property
    def gold(self) -> Mapping[str, Any] | None:
        """The model or verifier that made the gold (`--gold`); None: gold of the data."""
        found: Mapping[str, Any] | None = self.record.identity.get("gold")
        return found

    @property
    def limit(self) -> int | None:
        """Size of the random sample (`--limit`); None: all items."""
        found: int | None = self.record.identity["limit"]
        return found

    @property
    def seed(self) -> int:
        """Seed of all random draws."""
        return int(self.record.identity["seed"])

    def spec(self) -> TaskSpec:
        """Return the task, from its file if it is found, else from the text in the record.

        Raises:
            UnknownNameError: If there is neither.
            ConfigError: If the text in the record is wrong, or is not the task that was measured.
        """
        try:
            return load_task(self.task)
        except UnknownNameError:
            if self.record.task_file is None:
                raise
        return self.recorded_spec()

    def recorded_spec(self) -> TaskSpec:
        """Return the task from the text that the record holds. Raises ConfigError as `spec` does."""
        if self.record.task_file is None:
            raise ConfigError(f"{self.path}: the record does not hold its task file")
        spec = parse_recorded(self.record.task_file, self.task)
        if replace(spec, params=self.params).digest() != self.task_digest:
            raise ConfigError(f"{self.path}: the task file in the record is not what was measured")
        return spec

    @property
    def metrics(self) -> Mapping[str, Estimate]:
        """Every metric of the record, with its interval."""
        return self.record.metrics

    def size(self) -> str:
        """Return a text with the numbers of measured items and responses."""
        counts = self.record.counts
        some = counts["items"] != counts["items_available"]
        sample = f" (a sample of {counts['items_available']:,})" if some else ""
        return f"{counts['items']:,} items{sample}, {counts['responses']:,} responses"

    @property
    def rewards_path(self) -> Path:
        """Path of the rewards file beside the record."""
        return self.path.with_name(rewards_name(self.record.run_id))

    @property
    def influence_path(self) -> Path:
        """Path of the influence file beside the record."""
        return self.path.with_name(influence_name(self.record.run_id))

    def check_rewards(self) -> None:
        """Raise StoreError if the rewards file is missing or does not match the record's hash."""
        check_rewards_file(self.rewards_path, self.record.rewards_sha256)

    def rows(self) -> list[dict[str, Any]]:
        """Return the stored rows of the rewards file.

        Raises:
            StoreError: If the file is missing or does not match the record's hash.
            DataError: If a row is not as `rmbench eval` writes it.
        """
        self.check_rewards()
        return read_rewards(self.rewards_path)

    @cached_property
    def panel(self) -> Panel:
        """Items and rewards, from the rewards file. Raises StoreError as `rows` does."""
        rows = self.rows()
        panel = stored_panel(rows)
        if rows and "flips" in rows[0]:
            panel = with_flips(panel, ([r["flips"] for r in rows], [r["comparisons"] for r in rows]))
        if rows and "contradictions" in rows[0]:
            panel = with_contradictions(panel, [r.get("contradictions", (0, 0)) for r in rows])
        return panel

    @cached_property
    def suite(self) -> Suite:
        """All metrics with their influence: read from the influence file, else measured and kept there.

        Raises:
            StoreError: If the rewards are missing or damaged.
        """
        self.check_rewards()
        found = read_influence(self.influence_path, self.record)
        if found is None:
            found = self.measure(strata=False)
            if self.keeps_influence:
                with suppress(OSError):  # a folder that cannot be written to: the numbers are the same
                    write_influence(self.influence_path, self.record, found)
        return found

    def measure(self, *, strata: bool = True) -> Suite:
        """Measure the run from its rewards; without `strata`, leave out the metrics of each stratum."""
        find_own_kinds(self.record)
        return measure_suite(self.panel, self.kinds, self.settings, self.strata, report_strata=strata)

    def measure_on(self, panel: Panel, kinds: Sequence[str], *, short: bool = False) -> Suite:
        """Measure some task kinds of the run on some of its items, `panel`, without strata.

        `short` leaves out the metrics that no stratum has.
        """
        find_own_kinds(self.record)
        settings = {**self.settings, "short": True} if short else self.settings
        return measure_suite(panel, kinds, settings, self.strata, report_strata=False)

    def leaves_out(self, metric: str) -> bool:
        """Return whether a metric (or `win_rate@max`) leaves items out because of the rewards."""
        name = named(metric, self.suite)
        return name is not None and self.suite.without(name) is not None

    def n_answered(self, metric: str) -> int:
        """Return the number of items that a metric does not leave out because of the model's rewards."""
        without = self.suite.without(metric)
        return self.suite.n_items - (0 if without is None else int(without.sum()))

    @property
    def _task(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.record.identity["task"]
        return found

    def __getstate__(self) -> dict[str, Any]:
        """Return the fields without panel and suite: another process makes them itself."""
        return {f.name: getattr(self, f.name) for f in fields(self)}


def full_name(run: Run) -> str:
    """Return the model's name with a hash of its fingerprint, 6 hex digits: `model (a1b2c3)`."""
    return f"{run.model} ({digest(run.fingerprint, 6)})"


def shown_name(run: Run, runs: Iterable[Run]) -> str:
    """Return the model's name; its full one if another model among `runs` has the same name."""
    alike = (r for r in runs if r.model == run.model)
    if run.fingerprint.get("kind") == "published":  # its identity is its rewards: another on each task
        alike = (r for r in alike if r.task == run.task or r.fingerprint.get("kind") != "published")
    prints = {digest(r.fingerprint, 6) for r in alike}
    return full_name(run) if len(prints) > 1 else run.model


def stored_panel(rows: Iterable[Mapping[str, Any]]) -> Panel:
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


def named(metric: str, suite: Suite) -> str | None:
    """Return the name of a metric that has a value; `win_rate@max` is the one with the largest n."""
    try:
        return resolve_metric(metric, suite.metrics)
    except UnknownNameError:
        return None


def find_own_kinds(record: Record) -> None:
    """Make sure that the record's task kinds from users' files are known, with unchanged files.

    A record never causes code to run: the user must have named the task file before, or it must be in a
    folder of RMBENCH_TASKS_DIR.

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


_LEAST, _MOST = 1e-6, 1e15
_DATE = re.compile(r"\d{4}-\d\d-\d\d(?=T|$)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about one run; no metric and no rank depends on them."""

    command: str
    """Command that made the record, quoted for a shell; empty if not recorded."""
    tokens_per_s: float | None
    """Tokens per second of the machine that made the record; None if no token was read or counted."""
    tokens: int
    """Number of tokens of that speed; 0 without a speed."""
    machine: str
    """Kind of the machine's processor, if recorded."""
    parameters: int | None
    """Parameters of the model; None if not recorded."""
    self_gold: bool
    """True if the gold comes from the measured model: its verdicts (`import`) or scores (`--self-gold`)."""
    date: str = ""
    """Day on which the record was made, such as 2026-05-01; empty if not recorded."""
    untrained: bool = False
    """True if the model's head is random, a control: it was never trained."""


def facts_of(run: Run) -> Facts:
    """Return the facts of a run; a missing or invalid fact is None or empty, never a guess."""
    found = run.record.provenance
    command = found.get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    speed = _positive(found.get("tokens_per_s"))
    tokens, parameters = _positive(found.get("tokens")), _positive(found.get("parameters"))
    machine, date = found.get("machine"), _DATE.match(str(found.get("time") or ""))
    return Facts(
        command=shlex.join(words),
        tokens_per_s=speed,
        tokens=int(tokens) if speed and tokens else 0,
        machine=machine if isinstance(machine, str) else "",
        parameters=int(parameters) if parameters else None,
        self_gold=SELF_GOLD in (run.fingerprint.get("gold"), (run.gold or {}).get("relation")),
        date=date[0] if date else "",
        untrained=run.fingerprint.get("fresh_head") is not None,
    )


def _positive(value: Any) -> float | None:
    """Return a number that is a valid speed or count, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if _LEAST <= value <= _MOST else None  # NaN is neither
