"""From raw replies to the shipped files: gold, split, deterministic bytes, and the card's numbers."""

import hashlib
import lzma
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from rmbench.core.files import canonical_json, iter_jsonl, write_atomic
from rmbench.gold.instruction import verify

SPLITS = ("train", "test")
CARD_START, CARD_END = "<!-- numbers: written by make.py -->", "<!-- end of numbers -->"


def gold_of(responses: Sequence[str], checks: Sequence[Any]) -> list[float]:
    """Return the fraction of checks passed by each reply."""
    return [verify(response, checks) for response in responses]


def build(prompts: Sequence[Any], raw: Sequence[Any], n: int, seed: int) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each split, in order of id; half of every family's prompts go to each.

    Raises:
        SystemExit: If a prompt has fewer than `n` replies.
    """
    replies = {(row["id"], row["prompt"]): row for row in raw}
    missing = [
        p["id"] for p in prompts if len(replies.get((p["id"], p["prompt"]), {"finish": ()})["finish"]) < n
    ]
    if missing:
        raise SystemExit(f"{len(missing)} prompts have no {n} replies yet, the first is {missing[0]!r}")
    families = sorted({prompt["family"] for prompt in prompts})
    splits: dict[str, list[dict[str, Any]]] = {name: [] for name in SPLITS}
    for family in families:
        members = [prompt for prompt in prompts if prompt["family"] == family]
        members.sort(key=lambda prompt: hashlib.sha256(f"{seed}\nsplit\n{prompt['id']}".encode()).digest())
        for i, prompt in enumerate(members):
            row = _row(prompt, replies[prompt["id"], prompt["prompt"]], n)
            splits[SPLITS[i >= len(members) // 2]].append(row)
    return {name: sorted(rows, key=lambda row: str(row["id"])) for name, rows in splits.items()}


def _row(prompt: Any, raw: Any, n: int) -> dict[str, Any]:
    responses = raw["responses"][:n]
    return {
        "id": prompt["id"],
        "prompt": prompt["prompt"],
        "responses": responses,
        "gold": gold_of(responses, prompt["checks"]),
        "gold_kind": "graded",
        "strata": {"family": prompt["family"]},
        "tags": [{"finish": finish} for finish in raw["finish"][:n]],
        "checks": prompt["checks"],
    }


def write_splits(splits: dict[str, list[dict[str, Any]]], folder: Path) -> None:
    """Write `<split>.jsonl.xz`, each whole or not at all; the bytes depend on the rows alone."""
    for name, rows in splits.items():
        text = "".join(canonical_json(row) + "\n" for row in rows)
        packed = lzma.compress(text.encode(), preset=9 | lzma.PRESET_EXTREME)
        write_atomic(folder / f"{name}.jsonl.xz", packed)


def read_splits(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Return the rows of each written split."""
    return {name: [row for _, row in iter_jsonl(folder / f"{name}.jsonl.xz")] for name in SPLITS}


def card_numbers(folder: Path) -> str:
    """Return the data card's tables, computed from the written files."""
    splits = read_splits(folder)
    sizes = ", ".join(f"`{s}.jsonl.xz` {(folder / f'{s}.jsonl.xz').stat().st_size:,} bytes" for s in SPLITS)
    every = [row for rows in splits.values() for row in rows]
    table = [
        _family_numbers(name, [r for r in every if r["strata"]["family"] == name])
        for name in _families(every)
    ]
    table += [_family_numbers(f"**{split}**", rows) for split, rows in splits.items()]
    table.append(_family_numbers("**all**", every))
    n_replies = sum(len(row["responses"]) for row in every)
    levels = sorted({round(gold, 2) for row in every for gold in row["gold"]})
    shares = {level: sum(round(g, 2) == level for row in every for g in row["gold"]) for level in levels}
    histogram = [[f"{level:.2f}", count, f"{count / n_replies:.1%}"] for level, count in shares.items()]
    return "\n\n".join(
        [
            f"{len(every)} prompts, {n_replies:,} replies; {sizes}.",
            tabulate(table, headers="keys", tablefmt="github", disable_numparse=True),
            "Distribution of gold over all replies:",
            tabulate(
                histogram, headers=["gold", "replies", "share"], tablefmt="github", disable_numparse=True
            ),
        ]
    )


def _families(rows: Sequence[Any]) -> list[str]:
    return sorted({row["strata"]["family"] for row in rows})


def _family_numbers(name: str, rows: Sequence[Any]) -> dict[str, str]:
    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    def picked(choose: Any) -> float:
        return mean([row["gold"][choose([len(r) for r in row["responses"]])] for row in rows])

    replies = [reply for row in rows for reply in row["responses"]]
    n_constant = sum(len(set(row["gold"])) == 1 for row in rows)
    cut = [tag["finish"] == "length" for row in rows for tag in row["tags"]]
    repeated = [1 - len(set(row["responses"])) / len(row["responses"]) for row in rows]
    return {
        "": name,
        "prompts": str(len(rows)),
        "mean gold": f"{mean([mean(row['gold']) for row in rows]):.3f}",
        "best of pool": f"{mean([max(row['gold']) for row in rows]):.3f}",
        "longest": f"{picked(lambda sizes: sizes.index(max(sizes))):.3f}",
        "shortest": f"{picked(lambda sizes: sizes.index(min(sizes))):.3f}",
        "gold levels": f"{mean([len(set(row['gold'])) for row in rows]):.1f}",
        "constant gold": f"{n_constant} ({n_constant / len(rows):.0%})",
        "mean characters": f"{mean([len(reply) for reply in replies]):.0f}",
        "cut at limit": f"{mean(cut):.1%}",
        "duplicates": f"{mean(repeated):.1%}",
    }


def update_card(path: Path, numbers: str) -> None:
    """Replace what stands between the markers of the data card."""
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition(CARD_START)
    _, _, tail = rest.partition(CARD_END)
    write_atomic(path, f"{head}{CARD_START}\n{numbers}\n{CARD_END}{tail}")
