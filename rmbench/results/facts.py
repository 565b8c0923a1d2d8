"""Facts of a run beside its numbers: speed, size, command. They are untrusted input, and checked here."""

import shlex
from dataclasses import dataclass
from typing import Any

from rmbench.results.record import SELF_GOLD
from rmbench.results.run import Run

_LEAST, _MOST = 1e-6, 1e15


@dataclass(frozen=True, slots=True)
class Facts:
    """Facts about one run that no number and no rank depends on."""

    command: str
    """What made the record, quoted for a shell; empty where it does not say."""
    tokens_per_s: float | None
    """Of the machine that made the record; None where no token was read or counted."""
    tokens: int
    """Tokens behind that speed; 0 without one."""
    machine: str
    """Its processor's kind, as far as the record says."""
    parameters: int | None
    """Of the model; None where the record does not say."""
    self_gold: bool
    """The gold was made by the model that is measured: its verdicts (`import`) or scores (`--self-gold`)."""


def facts_of(run: Run) -> Facts:
    """Return the facts of a run; what is missing or makes no sense is None or empty, never a guess."""
    found = run.record.provenance
    command = found.get("command")
    words = [str(word) for word in command] if isinstance(command, list) else []
    speed = _positive(found.get("tokens_per_s"))
    tokens, parameters = _positive(found.get("tokens")), _positive(found.get("parameters"))
    machine = found.get("machine")
    return Facts(
        command=shlex.join(words),
        tokens_per_s=speed,
        tokens=int(tokens) if speed and tokens else 0,
        machine=machine if isinstance(machine, str) else "",
        parameters=int(parameters) if parameters else None,
        self_gold=SELF_GOLD in (run.fingerprint.get("gold"), (run.gold or {}).get("relation")),
    )


def _positive(value: Any) -> float | None:
    """Return a number that a speed or a count can be, or None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if _LEAST <= value <= _MOST else None  # NaN is neither
