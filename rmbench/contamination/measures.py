"""Findings as numbers: shares of items with intervals, overall and by stratum, and the items behind them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rmbench.contamination.findings import Bools, Finding, Findings, Place, Side
from rmbench.stats import mean
from rmbench.stats.clusters import Ints
from rmbench.tasks.training import CHOSEN, LABELS, REJECTED
from rmbench.types import Estimate, Item

LEVELS = {"ngram_50": 0.5, "ngram_80": 0.8}
"""Shares of a text's n-grams at which items are counted, beside a single n-gram, by the end of the name."""

SIDES = ("prompt", "response", CHOSEN, REJECTED)
"""What is looked at of an item; `response` is all of them, whatever their gold."""


@dataclass(frozen=True, slots=True)
class Measures:
    """All that is reported of a task against training data."""

    overall: Mapping[str, Estimate]
    """Measure -> share of items, clustered as the task's items are."""
    strata: Mapping[str, Mapping[str, Mapping[str, Estimate]]]
    """Stratum key -> stratum -> measure -> share of its items."""
    undefined: Mapping[str, str]
    """Measure -> why it has no value."""
    unchecked: Mapping[str, Mapping[str, int]]
    """Side -> `texts`, and those of them without n-grams to compare: `short`, `common_only`."""
    findings: Sequence[Finding]
    """One per contaminated item, in the task's order."""
    share: float
    """From which share of a text's n-grams on its item is contaminated."""


def measure(
    findings: Findings, items: Sequence[Item], *, strata: Sequence[str] = (), share: float = 0.5
) -> Measures:
    """Count what was found.

    Args:
        findings: After the whole training data.
        items: The items that the index was made of, in the same order.
        strata: Stratum keys to report on; those that no item has are left out.
        share: An item is contaminated if its prompt is seen whole, or one of its responses under its own
            prompt, or at least this share of the n-grams of one of these texts.
    """
    sides = {"prompt": findings.prompt_side(), "response": findings.reply_side()}
    sides |= {label: findings.reply_side(label) for label in (CHOSEN, REJECTED)}
    flagged = _contaminated(sides, share)
    columns = {"contaminated": (flagged, np.ones(len(items), dtype=bool))}
    for name, side in sides.items():
        columns |= _columns(name, side)
    cluster = findings.index.cluster
    undefined = {n: _why(n, sides) for n, (_, among) in columns.items() if not among.any()}
    by_key: dict[str, list[str]] = {key: [] for key in strata}
    listed: list[Finding] = []
    worst_replies = findings.worst_replies()
    for k, item in enumerate(items):
        for key, values in by_key.items():
            values.append(item.strata.get(key, ""))
        if flagged[k]:
            listed.append(_finding(findings, sides, k, item, worst_replies.get(k)))
    every = np.ones(len(items), dtype=bool)
    return Measures(
        overall=_estimates(columns, cluster, every),
        strata={
            key: {
                value: _estimates(columns, cluster, np.array(values) == value)
                for value in sorted(set(values))
            }
            for key, values in by_key.items()
            if any(values)
        },
        undefined=undefined,
        unchecked=_unchecked(findings),
        findings=listed,
        share=share,
    )


def _contaminated(sides: Mapping[str, Side], share: float) -> Bools:
    prompt, response = sides["prompt"], sides["response"]
    flagged = prompt.exact | (response.seen_in_place > 0)
    for side in (prompt, response):
        flagged = flagged | (np.nan_to_num(side.share) >= share)
    return flagged


def _columns(name: str, side: Side) -> dict[str, tuple[Bools, Bools]]:
    """Return measure -> (whether it is so, whether it can be said) per item."""
    found = {f"{name}_exact": (side.exact, side.has)}
    if name != "prompt":
        for k, label in enumerate(LABELS):
            found[f"{name}_as_{label}"] = ((side.seen_as & (1 << k)) > 0, side.has)
            found[f"{name}_as_{label}_to_its_prompt"] = ((side.seen_in_place & (1 << k)) > 0, side.has)
    share, checked = np.nan_to_num(side.share), ~np.isnan(side.share)
    found[f"{name}_ngram"] = (share > 0, checked)
    for end, level in LEVELS.items():
        found[f"{name}_{end}"] = (share >= level, checked)
    return found


def _estimates(
    columns: Mapping[str, tuple[Bools, Bools]], cluster: Ints, within: Bools
) -> dict[str, Estimate]:
    found = {}
    n_clusters = int(cluster.max(initial=-1)) + 1
    for name, (values, among) in columns.items():
        at = among & within
        if at.any():
            share = mean(
                values[at].astype(np.float64), cluster[at], n_clusters, higher_is_better=False, bounded=True
            )
            found[name] = share.estimate()
    return found


def _why(measure_name: str, sides: Mapping[str, Side]) -> str:
    side = measure_name.partition("_")[0]
    if not len(sides["prompt"].has):
        return "the task has no items"
    if not sides[side].has.any():
        return "no item has responses of different gold"
    return f"no {side} has n-grams to compare"


def _unchecked(findings: Findings) -> dict[str, dict[str, int]]:
    index = findings.index
    texts = {"prompt": (index.prompt_grams, index.prompt_of), "response": (index.reply_grams, index.reply_of)}
    for label in (CHOSEN, REJECTED):
        texts[label] = (index.reply_grams, index.reply_of[index.label_of == LABELS.index(label)])
    return {
        name: {
            "texts": len(of),
            "short": int((grams.n_windows[of] == 0).sum()),
            "common_only": int(((grams.n_windows[of] > 0) & (grams.n_telling[of] == 0)).sum()),
        }
        for name, (grams, of) in texts.items()
    }


def _finding(findings: Findings, sides: Mapping[str, Side], k: int, item: Item, reply: int | None) -> Finding:
    prompt, response = sides["prompt"], sides["response"]
    seen = {
        label: [LABELS[b] for b in range(len(LABELS)) if sides[label].seen_in_place[k] >> b & 1]
        for label in (CHOSEN, REJECTED)
    }
    values = {
        "id": item.id,
        "prompt_exact": bool(prompt.exact[k]),
        "prompt_share": _share(prompt.share[k]),
        "prompt_at": _place(findings.place_of_prompt(k)),
        "response_exact": bool(response.exact[k]),
        "response_share": _share(response.share[k]),
        "response_at": _place(None if reply is None else findings.place_of_reply(k, reply)),
        "chosen_to_its_prompt_as": seen[CHOSEN],
        "rejected_to_its_prompt_as": seen[REJECTED],
    }
    largest = max(np.nan_to_num(prompt.share[k]), np.nan_to_num(response.share[k]))
    return Finding(k, (CHOSEN in seen[CHOSEN], bool(prompt.exact[k]), float(largest)), values)


def _share(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _place(place: Place | None) -> str | None:
    return None if place is None else f"{place[0]}:{place[1]}"


def worst(found: Sequence[Finding], most: int) -> list[Finding]:
    """Return the `most` worst findings; of equals the first in the task."""
    return sorted(found, key=lambda f: ([-x for x in map(float, f.weight)], f.item))[:most]
