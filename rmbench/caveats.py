"""What a reader of a record's numbers must know: what was cut, invalid, tied, too small or trained on."""

from rmbench.metrics.selection import rule_of
from rmbench.records import Record


def caveats(record: Record) -> list[str]:
    """Return what was not as it should be, each with its count; nothing for a record without any of it."""
    counts, parts = record.counts, []
    if counts["truncated"]:
        parts.append(f"{counts['truncated']:,} truncated")
    if counts["invalid"]:
        parts.append(f"{counts['invalid']:,} invalid")
    parts += [f"{n:,} without an answer ({why})" for why, n in counts.get("unanswered", {}).items() if n]
    if counts["ties"]:
        parts.append(f"{counts['ties']:,} tied pairs")
    too_small = counts.get("best_of_n", {}).get("pools_too_small")
    if too_small:
        parts.append(f"{too_small:,} pools too small for the largest n")
    if trained := counts.get("trained_on"):
        parts += [f"{n:,} prompts trained on ({how})" for how, n in trained.items() if n]
    return parts


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
