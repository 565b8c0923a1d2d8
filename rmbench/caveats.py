"""What a reader of a record's numbers must know: what was cut, invalid, tied, too small or trained on."""

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


def kept_empty(record: Record) -> str:
    """Return how many responses are empty and measured all the same; empty where none is."""
    n = record.counts.get("empty")
    return f"{n:,} of {record.counts['responses']:,} responses are empty: they keep their gold" if n else ""


def dropped(record: Record) -> str:
    """Return what was left out of the data, by reason; empty where nothing was."""
    return ", ".join(f"{count:,} for {reason}" for reason, count in record.counts["dropped"].items())
