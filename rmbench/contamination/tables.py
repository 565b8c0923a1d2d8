"""What `rmbench contamination` prints."""

from collections.abc import Mapping
from typing import Any

from rmbench.contamination import Findings, Measures, TaskIndex
from rmbench.contamination.measures import LEVELS, worst
from rmbench.core.escape import one_line
from rmbench.format.tables import Block, Cell, Column, Table, cell_of
from rmbench.results.record import estimate_to_json
from rmbench.tasks import ItemSet
from rmbench.tasks.spec import TaskSpec
from rmbench.tasks.training import CHOSEN, LABELS, REJECTED, UNLABELLED
from rmbench.types import Estimate


def blocks_of(
    spec: TaskSpec,
    items: ItemSet,
    index: TaskIndex,
    findings: Findings,
    measures: Measures,
    n_examples: int,
) -> list[Block]:
    """Return the report: overall, by stratum, what could not be compared, the worst items."""
    head = (
        f"{one_line(spec.name)} (version {spec.version}), {len(index):,} items, against"
        f" {findings.n_rows:,} training rows: whole texts, {index.n} words in a row; 95% intervals by prompt"
    )
    rows = [(title, e.n, _count(e), cell_of(e)) for _, title, e in _shown(measures)]
    columns = (Column("", "text"), Column("items", "count"), Column("found", "count"), Column("share"))
    name = f"{spec.name}-contamination"
    remarks = _remarks(items, index, findings, measures)
    blocks = [Block(name, (head,), Table(columns, tuple(rows)), tuple(remarks))]
    for key, by_stratum in measures.strata.items():
        table = _stratum_table(key, by_stratum, measures)
        caption = (f"{spec.name}: contamination by {key}",)
        blocks.append(Block(f"{name}-{key}", (), table, caption=caption))
    if examples := worst(measures.findings, n_examples):
        table = _example_table([e.values for e in examples], [items.items[e.item] for e in examples])
        line = "The worst of them, and where they stand in the training data:"
        blocks.append(Block(f"{name}-worst", (line,), table))
    return blocks


def values_of(measures: Measures) -> Table:
    """Return the numbers: a row per measure, over all items and within each stratum."""
    columns = (
        *(Column(head, "text") for head in ("stratum", "value", "measure")),
        *(Column(head, "count") for head in ("items", "found")),
        Column("share"),
    )
    rows: list[tuple[Cell, ...]] = [("", "", n, e.n, _count(e), cell_of(e)) for n, _, e in _shown(measures)]
    for key, by_stratum in measures.strata.items():
        names = _stratum_columns(measures)
        rows += [
            (key, value, name, e.n, _count(e), cell_of(e))
            for value, found in by_stratum.items()
            for name in names
            if (e := found.get(name)) is not None
        ]
    return Table(columns, tuple(rows))


def _shown(measures: Measures) -> list[tuple[str, str, Estimate]]:
    """Return the lines of the table over all items: measure, its title, its number."""
    return [
        (name, title, e)
        for name, title in _titles(measures.share).items()
        if (e := measures.overall.get(name)) is not None and (_is_usual(name, measures) or _count(e))
    ]


def as_json_values(
    spec: TaskSpec,
    items: ItemSet,
    index: TaskIndex,
    findings: Findings,
    measures: Measures,
    n_examples: int,
) -> dict[str, Any]:
    """Return the report as JSON values."""
    return {
        "task": spec.name,
        "version": spec.version,
        "items": len(index),
        "dropped": dict(items.dropped),
        "ngram": index.n,
        "common": index.most_common,
        "share": measures.share,
        "common_ngrams": _common(index),
        "training": {
            "rows": findings.n_rows,
            "without_prompt": findings.n_without_prompt,
            "dropped": dict(sorted(findings.dropped.items())),
        },
        "unchecked": {side: dict(counts) for side, counts in measures.unchecked.items()},
        "undefined": dict(measures.undefined),
        "overall": _estimates(measures.overall),
        "strata": {
            key: {value: _estimates(found) for value, found in by_stratum.items()}
            for key, by_stratum in measures.strata.items()
        },
        "examples": [e.values for e in worst(measures.findings, n_examples)],
    }


def _estimates(found: Mapping[str, Estimate]) -> dict[str, Any]:
    return {name: {"found": _count(e), **estimate_to_json(e)} for name, e in found.items()}


def _count(estimate: Estimate) -> int:
    return round(estimate.value * estimate.n)


def _common(index: TaskIndex) -> dict[str, int]:
    return {"prompt": index.prompt_grams.n_common, "response": index.reply_grams.n_common}


def _titles(share: float) -> dict[str, str]:
    """Return measure -> its line in the table, in order."""
    titles = {"contaminated": f"contaminated (seen whole, or {100 * share:g}% of n-grams)"}
    for side in ("prompt", "response", CHOSEN, REJECTED):
        noun = {"prompt": "prompt", "response": "any response"}.get(side, f"{side} response")
        titles[f"{side}_exact"] = f"{noun} seen whole"
        for label in LABELS if side != "prompt" else ():
            leak = " (label leak)" if side == label == CHOSEN else ""
            titles[f"{side}_as_{label}"] = f"{noun} seen as {label}{leak}"
            titles[f"{side}_as_{label}_to_its_prompt"] = f"{noun} seen as {label}, to its prompt"
        titles[f"{side}_ngram"] = f"{noun}: some n-gram"
        titles |= {f"{side}_{end}": f"{noun}: {level:.0%} of its n-grams" for end, level in LEVELS.items()}
    return titles


def _is_usual(name: str, measures: Measures) -> bool:
    """Say whether a line is shown even if nothing was found."""
    if name.startswith("response_as_") and f"{CHOSEN}_exact" in measures.overall:
        return False
    return not name.removesuffix("_to_its_prompt").endswith(UNLABELLED)


def _remarks(items: ItemSet, index: TaskIndex, findings: Findings, measures: Measures) -> list[str]:
    found = []
    for side, counts in measures.unchecked.items():
        noun = f"{side}s" if side in ("prompt", "response") else f"{side} responses"
        if counts["short"]:
            found.append(
                f"{counts['short']:,} of {counts['texts']:,} {noun} have fewer than {index.n} words: compared"
                " as a whole only"
            )
        if counts["common_only"]:
            found.append(
                f"{counts['common_only']:,} of {counts['texts']:,} {noun} have common n-grams alone: compared"
                " as a whole only"
            )
    common = _common(index)
    if any(common.values()):
        found.append(
            f"n-grams left aside, in more than {index.most_common} of the task's prompts:"
            f" {common['prompt']:,} of prompts, {common['response']:,} of responses"
        )
    if findings.n_without_prompt:
        found.append(f"{findings.n_without_prompt:,} of {findings.n_rows:,} training rows have no prompt")
    for what, dropped in (("task", items.dropped), ("training data", findings.dropped)):
        if dropped:
            reasons = ", ".join(f"{n:,} for {one_line(why)}" for why, n in sorted(dropped.items()))
            found.append(f"left out of the {what}: {reasons}")
    for why in dict.fromkeys(measures.undefined.values()):
        names = dict.fromkeys(n.partition("_")[0] for n, w in measures.undefined.items() if w == why)
        found.append(f"no numbers for {', '.join(names)}: {why}")
    return found


def _stratum_columns(measures: Measures) -> dict[str, str]:
    """Return measure -> head of its column in the tables of strata."""
    columns = {
        "contaminated": "contaminated",
        "prompt_exact": "prompt whole",
        "prompt_ngram": "prompt n-gram",
    }
    if f"{CHOSEN}_exact" in measures.overall:
        columns |= {f"{CHOSEN}_as_{CHOSEN}": "label leak", f"{CHOSEN}_ngram": "chosen n-gram"}
        return columns | {f"{REJECTED}_ngram": "rejected n-gram"}
    return columns | {"response_exact": "response whole", "response_ngram": "response n-gram"}


def _stratum_table(key: str, by_stratum: Mapping[str, Mapping[str, Estimate]], measures: Measures) -> Table:
    columns = _stratum_columns(measures)
    rows = [
        (value or "-", found["contaminated"].n, *(cell_of(found.get(c)) for c in columns))
        for value, found in by_stratum.items()
    ]
    heads = (Column(key[:30], "text", 40), Column("items", "count"), *map(Column, columns.values()))
    return Table(heads, tuple(rows))


def _example_table(values: list[dict[str, Any]], items: list[Any]) -> Table:
    rows = [
        (
            str(v["id"]),
            _seen(v["prompt_exact"], v["prompt_share"]),
            v["prompt_at"] or "-",
            _seen(v["response_exact"], v["response_share"]),
            v["response_at"] or "-",
            item.prompt[-1]["content"] if item.prompt else "",
        )
        for v, item in zip(values, items, strict=True)
    ]
    limits = {"item": 40, "prompt": None, "in": None, "response": None, " in": None, "begins": 50}
    return Table(tuple(Column(head.strip(), "text", n) for head, n in limits.items()), tuple(rows))


def _seen(exact: bool, share: float | None) -> str:
    if exact:
        return "whole"
    return "too short" if share is None else f"{share:.0%}"
