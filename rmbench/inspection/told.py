"""An inspection as tables and as JSON values."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from rmbench.core.escape import one_line
from rmbench.format.tables import Block, Cell, Column, Table
from rmbench.inspection.counts import Lengths, lengths_of
from rmbench.inspection.run import Inspection, Split
from rmbench.inspection.seen import Seen, Shown

_HEAD, _TAIL = 360, 160
"""Characters shown of the beginning and of the end of what a model reads."""


def as_json_values(found: Inspection) -> dict[str, Any]:
    """Return the inspection as JSON values."""
    seen = found.seen
    return {
        "data": found.source,
        "splits": [_split_values(split) for split in found.splits],
        "overlaps": [asdict(overlap) for overlap in found.overlaps],
        "scripts": dict(found.spoilers.scripts.most_common()),
        "warnings": [asdict(s) | {"advice": s.advice} for s in found.spoilers.in_order()],
        "model": None if seen is None else _model_values(seen),
    }


def blocks_of(found: Inspection) -> list[Block]:
    """Return the tables: what was read, lengths, what spoils numbers, and items as the model reads them."""
    blocks = [_counts(found), _lengths(found), _spoilers(found)]
    if found.seen is not None:
        blocks.append(_seen(found.seen))
    return blocks


def shown_lines(found: Inspection) -> list[str]:
    """Return the lines of the first items as the model reads them."""
    lines: list[str] = []
    for shown in found.seen.shown if found.seen else ():
        told, cut = f"{shown.n_tokens:,} tokens", ", cut" if shown.is_cut else ""
        read = f", the reward is read at {shown.read_at!r}" if shown.read_at is not None else ""
        lines += [
            "",
            one_line(f"{shown.item}, response {shown.response}, gold {shown.gold}: {told}{cut}{read}"),
            *(f"  | {one_line(line)}" for line in _shortened(shown).splitlines()),
        ]
    return lines


def _shortened(shown: Shown) -> str:
    text = shown.text
    if len(text) <= _HEAD + _TAIL:
        return text
    left_out = len(text) - _HEAD - _TAIL
    return f"{text[:_HEAD]}\n[... {left_out:,} characters ...]\n{text[-_TAIL:]}"


def _counts(found: Inspection) -> Block:
    heads = ("split", "rows", "items", "pairs", "responses", "prompts", "shared prompts", "left out")
    columns = [Column(head, "text" if head == "split" else "count") for head in heads]
    rows: list[tuple[Cell, ...]] = [
        (
            split.name or "all", split.n_rows, split.counts.n_items, split.counts.n_pairs,
            split.counts.n_responses, len(split.counts.prompts), split.counts.n_shared,
            sum(split.dropped.values()),
        )
        for split in found.splits
    ]  # fmt: skip
    remarks = list(dict.fromkeys(remark for split in found.splits for remark in split.remarks))
    notes = [
        f"left out{_of(split)}: {n:,} for {why}" for split in found.splits for why, n in split.dropped.items()
    ]
    kinds = ", ".join(f"{kind} ({n:,})" for kind, n in found.splits[0].counts.gold_kinds.items())
    scripts = ", ".join(f"{name} ({n:,})" for name, n in found.spoilers.scripts.most_common())
    notes += [f"gold: {kinds}", *([f"prompts are written in: {scripts}"] if scripts else [])]
    notes += [
        f"prompts of {o.first} that are in {o.second}: {o.prompts:,}" for o in found.overlaps if o.prompts
    ]
    lines = tuple(one_line(line, 400) for line in remarks)
    return Block("data", lines, Table(tuple(columns), tuple(rows)), tuple(notes), caption=("Counts",))


def _of(split: Split) -> str:
    return f" of {split.name}" if split.name else ""


def _lengths(found: Inspection) -> Block:
    heads = (
        ("text", "text"),
        ("texts", "count"),
        ("median", "number"),
        ("95% up to", "count"),
        ("longest", "count"),
    )
    columns = tuple(Column(head, kind) for head, kind in heads)  # type: ignore[arg-type]
    rows = [
        (name, length.n, _half(length.median), length.p95, length.longest)
        for name, length in _all_lengths(found)
    ]
    return Block("lengths", (), Table(columns, tuple(rows)), caption=("Lengths",))


def _half(value: float) -> Cell:
    return int(value) if value == int(value) else f"{value:.1f}"


def _all_lengths(found: Inspection) -> Iterator[tuple[str, Lengths]]:
    for split in found.splits:
        for name, values in split.counts.characters.items():
            if (length := lengths_of(values)) is not None:
                yield f"{name}, characters" + (f", {split.name}" if split.name else ""), length
    if found.seen is not None and (length := lengths_of(found.seen.tokens)) is not None:
        yield f"conversation, tokens of {found.seen.model}", length


def _spoilers(found: Inspection) -> Block:
    spoilers = found.spoilers.in_order()
    if not spoilers:
        return Block("warnings", ("nothing was found that spoils numbers",), None)
    columns = (Column("what spoils numbers", "text"), Column("count", "count"), Column("first", "text", 70))
    rows = tuple((s.name, s.n, s.example) for s in spoilers)
    notes = tuple(f"{s.name}: {s.advice}" for s in spoilers)
    return Block("warnings", (), Table(columns, rows), notes, caption=("What spoils numbers",))


def _seen(seen: Seen) -> Block:
    if not seen.is_known:
        return Block("model", (f"{seen.model} does not say which tokens it reads",), None)
    cut = f"{seen.n_cut:,} of {len(seen.tokens):,} conversations are cut"
    lines = [
        f"{seen.model} reads at most {seen.max_length:,} tokens; {cut}",
        *seen.remarks,
        *(f"cannot write {n:,} items: {why}" for why, n in sorted(seen.refused.items())),
    ]
    return Block("model", tuple(one_line(line, 400) for line in lines), None)


def _split_values(split: Split) -> dict[str, Any]:
    counts = split.counts
    lengths = {name: lengths_of(values) for name, values in counts.characters.items()}
    return {
        "split": split.name,
        "read_as": list(split.remarks),
        "rows": split.n_rows,
        "items": counts.n_items,
        "pairs": counts.n_pairs,
        "responses": counts.n_responses,
        "prompts": len(counts.prompts),
        "shared_prompts": counts.n_shared,
        "gold": dict(counts.gold_kinds),
        "dropped": dict(split.dropped),
        "characters": {name: asdict(length) for name, length in lengths.items() if length is not None},
    }


def _model_values(seen: Seen) -> dict[str, Any]:
    length = lengths_of(seen.tokens)
    return {
        "model": seen.model,
        "max_length": seen.max_length,
        "tokens": None if length is None else asdict(length),
        "cut": seen.n_cut,
        "pairs_the_same": seen.n_same,
        "refused": dict(seen.refused),
        "remarks": list(seen.remarks),
        "items": [asdict(shown) for shown in seen.shown],
    }
