"""The numbers of a section as rows of tables: headlines, all metrics, what was left out."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from rmbench.core.digits import Digits, digits_of_estimates
from rmbench.format.pages import Scale, scale_of
from rmbench.metrics.kinds import at_largest_n, headlines_of, is_official, kinds_of, meaning_of
from rmbench.plot import Source
from rmbench.results.record import caveats, dropped, items_left_out, kept_empty, remarks
from rmbench.types import Estimate


def headline_rows(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return the headline metrics, a row each, with a cell per record; those that no record knows are out."""
    held = [s.record.metrics for s in sources]
    rows: list[dict[str, Any]] = []
    for kind in kinds_of(sources[0].kinds, "both"):
        names = headlines_of(kind) or tuple(dict.fromkeys(m for metrics in held for m in metrics))
        for name in dict.fromkeys(at_largest_n(n, held) for n in names):
            known = any(name in s.record.metrics or name in s.record.undefined for s in sources)
            if known and name not in {row["name"] for row in rows}:
                rows.append(_row(name, sources) | {"official": is_official(kind)})
    return rows


def all_rows(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return every metric of the records, a row each."""
    names = dict.fromkeys(name for s in sources for name in (*s.record.metrics, *s.record.undefined))
    return [_row(name, sources) for name in names]


def _row(name: str, sources: Sequence[Source]) -> dict[str, Any]:
    estimates = [s.record.metrics[name] for s in sources if name in s.record.metrics]
    scale, digits = scale_of(estimates), digits_of_estimates(estimates)
    first = estimates[0] if estimates else None
    higher = first.higher_is_better if first else None
    return {
        "name": name,
        "arrow": {True: "↑", False: "↓"}.get(higher, "") if higher is not None else "",
        "direction": {True: "higher is better", False: "lower is better"}.get(higher, "")
        if higher is not None
        else "",
        "meaning": meaning_of(name, sources[0].kinds),
        "unit": first.unit if first else "",
        "axis": scale.ends() if estimates else None,
        "cells": [_cell(name, s, scale, digits) for s in sources],
    }


def _cell(name: str, source: Source, scale: Scale, digits: Digits) -> dict[str, Any]:
    estimate: Estimate | None = source.record.metrics.get(name)
    if estimate is None:
        return {
            "text": "–",
            "why": source.record.undefined.get(name, "not in this record"),
            "small": "",
            "n": "",
            "bar": None,
        }
    ci = estimate.ci95
    return {
        "text": digits.write(estimate.value),
        "small": digits.interval(ci) if ci else "no interval",
        "why": "" if isfinite(estimate.value) else "not a finite number",
        "n": f"n = {estimate.n:,}, {estimate.n_clusters:,} prompts",
        "bar": scale.bar(estimate.value, ci),
    }


def notes_of(sources: Sequence[Source]) -> list[str]:
    """Return what belongs beside the numbers: what was left out, cut, tied or trained on, and no values."""
    lines = []
    for source in sources:
        left_out = dropped(source.record)
        parts = caveats(source.record) + ([f"left out of the data: {left_out}"] if left_out else [])
        parts += [told] if (told := kept_empty(source.record)) else []
        if parts:
            lines.append(f"{source.label}: {', '.join(parts)}")
        lines += [f"{source.label}: {remark}" for remark in remarks(source.record)]
    return lines + _uneven(sources) + _undefined(sources)


def _uneven(sources: Sequence[Source]) -> list[str]:
    """Say where models side by side left out items because of their own rewards."""
    shown = [
        f"{s.label} lacks {n:,} in {kind}"
        for s in sources
        for kind, n in items_left_out(s.record).items()
        if n
    ]
    if len(sources) < 2 or not shown:
        return []
    line = f"each model's numbers rest on the items that it answered: {', '.join(shown)}"
    return [f"{line}; `rmbench compare` compares models on common items"]


def _undefined(sources: Sequence[Source]) -> list[str]:
    """Return one line per reason: which metrics have no value, for which models (all: unnamed)."""
    found: dict[tuple[str, str], list[str]] = {}
    for source in sources:
        by_reason: dict[str, list[str]] = {}
        for name, why in source.record.undefined.items():
            by_reason.setdefault(why, []).append(name)
        for why, names in by_reason.items():
            found.setdefault((", ".join(names), why), []).append(source.label)
    return [
        f"no {names}{'' if len(models) == len(sources) else ' for ' + ', '.join(models)}: {why}"
        for (names, why), models in found.items()
    ]


_PLAIN = {
    "items": "items measured",
    "items_available": "items in the data",
    "responses": "responses",
    "empty": "of these, empty responses",
    "distinct_texts": "distinct texts",
    "truncated": "texts cut to fit the model",
    "invalid": "rewards that are no finite number",
    "ties": "pairs with tied rewards",
}
_NESTED = {
    "dropped": "left out of the data",
    "unanswered": "without an answer",
    "trained_on": "prompts that the model was trained on",
    "gold": "gold of responses",
}


def count_rows(sources: Sequence[Source]) -> list[dict[str, Any]]:
    """Return what a record counts, a row each: measured, left out, cut, invalid, tied, with the reasons."""
    found: dict[str, dict[int, str]] = {}
    unknown: dict[str, list[int]] = {}
    for k, source in enumerate(sources):
        for key, value in source.record.counts.items():
            what = _PLAIN.get(key) or _NESTED.get(key, key)
            if not isinstance(value, Mapping):
                found.setdefault(what, {})[k] = _count(value, "–" if key == "ties" else "not known")
                if key in _NESTED:
                    unknown.setdefault(what, []).append(k)
                continue
            for name, count in value.items():
                found.setdefault(f"{what}: {name.replace('_', ' ')}", {})[k] = _count(count, "not known")
            if not value and key in _NESTED:
                found.setdefault(what, {})[k] = "0"
    for what, records in unknown.items():
        # Of one model the parts are known, of another nothing: a row for each part says so.
        parts = [cells for name, cells in found.items() if name.startswith(f"{what}: ")]
        for cells in parts:
            cells |= dict.fromkeys(records, "not known")
        if parts and set(found[what]) <= set(records):
            del found[what]
    return [
        {"name": name, "cells": [cells.get(k, "–") for k in range(len(sources))]}
        for name, cells in found.items()
    ]


def _count(value: Any, without: str) -> str:
    return without if value is None else f"{value:,}" if isinstance(value, int | float) else str(value)
