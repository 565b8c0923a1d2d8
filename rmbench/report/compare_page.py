"""The page of `rmbench compare --html` (`rmbench.format.pages`): one HTML file."""

from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import Any

from rmbench.core.digits import Digits, digits_of, digits_of_estimates, probability, significant
from rmbench.core.escape import one_line
from rmbench.format.pages import ARROWS, LONGEST_NAME, better, estimate_parts, render_page, text_block
from rmbench.format.tables import Number, plain_rows
from rmbench.models.messages import text_of
from rmbench.report.compare_tables import (
    answered_notes,
    basis_notes,
    differences,
    family_words,
    matrix_cell,
    matrix_notes,
    test_notes,
    undefined_lines,
)
from rmbench.report.worst import Texts
from rmbench.results.compare import ManyReport, MetricComparison
from rmbench.results.run import Run
from rmbench.types import Item

MOST_RESPONSES = 8
"""Of an item. A larger pool shows the models' picks, and the responses of highest and lowest gold."""


def comparison_page(report: ManyReport, runs: Sequence[Run], texts: Texts) -> str:
    """Return the page; the same report and texts give the same bytes.

    Args:
        report: What to show.
        runs: The records, in the order of the report's models.
        texts: Texts of the items on which the models disagree.
    """
    shown = {d.item for d in report.disagreements}
    rewards = {n: {row["id"]: row for row in run.rows() if row["id"] in shown} for n, run in enumerate(runs)}
    digits = {m: digits_of_estimates([e for e in found if e]) for m, found in report.estimates.items()}
    of_items = digits_of(value for d in report.disagreements for value in d.values)
    table = differences(report)
    heads, *rows = plain_rows(table)
    names = [one_line(m, LONGEST_NAME) for m in report.models]
    return render_page(
        "compare",
        title=f"{len(names)} models compared on {one_line(report.task, LONGEST_NAME)}",
        task=report.task,
        models=[
            {
                "name": name,
                "cells": [
                    estimate_parts(found[n], digits[m], why="no value; see below")
                    for m, found in report.estimates.items()
                ],
            }
            for n, name in enumerate(names)
        ],
        metrics=[_metric(report, metric, names) for metric in report.estimates],
        undefined=[*answered_notes(report), *undefined_lines(report)],
        margin="" if report.margin is None else f"{report.margin:g}",
        adjusted=f"P-values are adjusted: {family_words(report)}.",
        pairs={"heads": heads, "rows": rows, "notes": [*basis_notes(report), *test_notes(report)]},
        measure=report.measure,
        why=texts.why,
        items=[
            _item(d.item, list(zip(names, d.values, strict=True)), of_items, rewards, texts.items.get(d.item))
            for d in report.disagreements
        ],
    )


def _metric(report: ManyReport, metric: str, names: Sequence[str]) -> dict[str, Any]:
    direction = better(report.estimates[metric])
    found = [m.paired.difference for pair in report.pairs for m in pair.metrics if m.metric == metric]
    digits, rows = digits_of_estimates(found), []
    for i, name in enumerate(names):
        cells = [_difference(report, metric, i, j, direction, digits) for j in range(len(names))]
        rows.append({"name": name, "cells": cells})
    return {
        "name": metric,
        "arrow": ARROWS[direction],
        "direction": direction,
        "matrix": rows,
        "notes": list(matrix_notes(report, metric)),
    }


def _difference(
    report: ManyReport, metric: str, row: int, column: int, direction: str, digits: Digits
) -> dict[str, str]:
    cell, found = matrix_cell(report, metric, row, column)
    if not isinstance(cell, Number) or found is None:
        return {"text": "–", "kind": "", "title": ""}
    good = {"higher is better": cell.value, "lower is better": -cell.value, "": 0.0}[direction]
    kinds = ["better"] * (good > 0) + ["worse"] * (good < 0) + ["apart"] * cell.strong
    told = [f"{report.models[row]} less {report.models[column]}"]
    if (ends := found.paired.difference.ci95) is not None:
        low, high = sorted((ends[0], ends[1]) if row < column else (-ends[0], -ends[1]))
        told.append(f"95% interval {digits.interval((low, high), plus=True)}")
    if found.paired.p_value is not None and found.p_holm is not None:
        told.append(f"p {probability(found.paired.p_value)}, adjusted {probability(found.p_holm)}")
        told += _could_show(found)
    else:
        told.append("no test: no error is known")
    if found.count is not None:
        told.append(f"on {found.count.both:,} of {found.count.of:,} items, which both answered")
    return {
        "text": f"{digits.write(cell.value, plus=True)}{cell.mark}",
        "kind": " ".join(kinds),
        "title": one_line("; ".join(told), 2 * LONGEST_NAME),
    }


def _could_show(found: MetricComparison) -> list[str]:
    """Return the verdict on two models that the test does not separate, and what the data can show."""
    if found.test.told_apart:
        return [f"differs by less than {found.test.margin:g}"] if found.test.within_margin else []
    smallest = found.test.smallest()
    shows = f"differences from {significant(smallest, 3)} on" if smallest is not None else "no difference"
    said = found.test.words if found.test.within_margin else "not told apart"
    return [said, f"the data show {shows}"]


def _item(
    name: str,
    values: Sequence[tuple[str, float]],
    digits: Digits,
    rewards: Mapping[int, Mapping[str, Any]],
    item: Item | None,
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "id": one_line(name, LONGEST_NAME),
        "values": [{"name": m, "text": "–" if isnan(v) else digits.write(v)} for m, v in values],
        "prompt": "",
        "turns": [],
        "responses": [],
        "of": 0,
    }
    if item is None:
        return shown
    given = [rewards[n][name]["rewards"] for n in range(len(values))]
    shown["of"] = len(item.responses)
    shown["prompt"] = one_line(item.prompt[-1]["content"], 100) if item.prompt else ""
    shown["turns"] = [{"role": one_line(t["role"], 30), "text": text_block(text_of(t))} for t in item.prompt]
    shown["responses"] = [
        {
            "place": k + 1,
            "gold": _value(item.responses[k].gold),
            "rewards": [f"{m} {_value(found[k])}" for (m, _), found in zip(values, given, strict=True)],
            "text": text_block(text_of(item.responses[k].turn)),
        }
        for k in _picked(item, given)
    ]
    return shown


def _value(value: float | None) -> str:
    return "–" if value is None or isnan(value) else significant(value)


def _picked(item: Item, rewards: Sequence[Sequence[float | None]]) -> list[int]:
    """Return the places of the responses that are shown: all of a small pool, else picks and ends of gold."""
    everything = range(len(item.responses))
    if len(everything) <= MOST_RESPONSES:
        return list(everything)
    gold = [r.gold if r.gold is not None and isfinite(r.gold) else None for r in item.responses]
    ends = [max, min]
    found = {_end(gold, end) for end in ends} | {_end(values, max) for values in rewards}
    return sorted(k for k in found if k is not None)


def _end(values: Sequence[float | None], end: Any) -> int | None:
    known = [k for k, v in enumerate(values) if v is not None and not isnan(v)]
    return end(known, key=lambda k: values[k]) if known else None
