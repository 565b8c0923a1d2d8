"""Caveats of a record: an older metrics version, texts cut, rewards invalid or tied, prompts trained on."""

from collections.abc import Callable

from rmbench.metrics import METRICS_VERSION
from rmbench.metrics.headlines import HEADLINES, at_largest_n
from rmbench.metrics.selection import rule_of
from rmbench.records import Record

ENOUGH = 20
"""Prompts near equal length on each side, below which a reader is told. The interval of an accuracy from 20
prompts is about 0.4 wide."""


def caveats(record: Record) -> list[str]:
    """Return what was not as it should be, each with its count; nothing for a record without any of it."""
    counts, parts = record.counts, list[str]()
    if (version := record.identity.get("metrics_version")) != METRICS_VERSION:
        parts.append(
            f"numbers of metrics version {version}; rmbench remeasure makes them version {METRICS_VERSION}"
        )
    if counts["truncated"]:
        parts.append(f"{counts['truncated']:,} truncated")
    if counts["invalid"]:
        parts.append(f"{counts['invalid']:,} invalid")
    parts += [f"{n:,} without an answer ({why})" for why, n in counts.get("unanswered", {}).items() if n]
    if counts["ties"]:
        parts.append(f"{counts['ties']:,} tied {'pair' if counts['ties'] == 1 else 'pairs'}")
    too_small = counts.get("best_of_n", {}).get("pools_too_small")
    if too_small:
        parts.append(f"{too_small:,} pools too small for the largest n")
    if few := _few_near_equal_length(record):
        parts.append(few)
    if trained := counts.get("trained_on"):
        parts += [f"{n:,} prompts trained on ({how})" for how, n in trained.items() if n]
    return parts


def remarks(record: Record, is_shown: Callable[[str], bool] = lambda _: True) -> list[str]:
    """Return what headline numbers say of themselves, a line each with their names.

    Args:
        record: Whose numbers.
        is_shown: Says of a metric's name whether it is shown.
    """
    held = [record.metrics]
    shown = {at_largest_n(name, held) for names in HEADLINES.values() for name in names}
    found: dict[str, list[str]] = {}
    for name in filter(is_shown, sorted(shown & record.metrics.keys())):
        if remark := record.metrics[name].remark:
            found.setdefault(remark, []).append(name)
    return [f"{', '.join(names)}: {remark}" for remark, names in found.items()]


def _few_near_equal_length(record: Record) -> str:
    """Say so if length control rests on few pairs near equal length; empty where it does not."""
    found = record.counts.get("preference", {})
    sides = {side: found.get(f"prompts_near_equal_chosen_{side}") for side in ("longer", "shorter")}
    known = {side: n for side, n in sides.items() if n is not None}
    if "accuracy_length_controlled" not in record.metrics or min(known.values(), default=ENOUGH) >= ENOUGH:
        return ""
    text = ", ".join(f"{n:,} with chosen {side}" for side, n in known.items())
    return f"few prompts near equal length ({text}), so length control is uncertain"


def kept_empty(record: Record) -> str:
    """Return how many responses are empty and measured all the same; empty where none is."""
    n = record.counts.get("empty")
    return f"{n:,} of {record.counts['responses']:,} responses are empty: they keep their gold" if n else ""


def dropped(record: Record) -> str:
    """Return what was left out of the data, by reason; empty where nothing was."""
    return ", ".join(f"{count:,} for {reason}" for reason, count in record.counts["dropped"].items())


def items_left_out(record: Record) -> dict[str, int]:
    """Return the items that each task kind left out because of the model's own rewards; kinds without: 0."""
    task = record.identity["task"]
    rule = str(task["params"].get("invalid", "fail"))
    scaled = {"calibration": True, "best_of_n": rule_of(task["params"]).needs_scale}
    return {
        kind: record.counts.get(kind, {}).get("invalid_items", 0)
        if rule == "drop" or (rule == "wrong" and scaled.get(kind))
        else 0
        for kind in task["kinds"]
    }
