"""The part of a page that compares models: verdict, differences, strata, items on which they disagree."""

from collections.abc import Mapping, Sequence
from math import isfinite, isnan
from typing import Any

from rmbench.core.digits import Digits, digits_of, digits_of_estimates, probability, significant
from rmbench.core.escape import one_line
from rmbench.format.pages import ARROWS, LONGEST_NAME, better, text_block
from rmbench.format.tables import Number, plain_rows
from rmbench.models.messages import text_of
from rmbench.plot.forest import ForestRow, draw_forest, turned
from rmbench.plot.inline import inline_svg
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
from rmbench.report.decision import strata_note, strata_table
from rmbench.report.numbers import Section
from rmbench.report.pictures import Picture, stem_of
from rmbench.report.worst import Texts
from rmbench.results.compare import ManyReport, MetricComparison
from rmbench.results.verdict import Decision
from rmbench.types import Item

MOST_RESPONSES = 8
"""Of an item. A larger pool shows the models' picks, and the responses of highest and lowest gold."""


def compared_part(decision: Decision, key: str, texts: Texts) -> dict[str, Any]:
    """Return what the template shows of a comparison; the same report and texts give the same bytes.

    Args:
        decision: The comparison.
        key: Prefix of the ids of its section.
        texts: Texts of the items on which the models disagree.
    """
    report, runs = decision.report, decision.runs
    shown = {d.item for d in report.disagreements}
    rewards = {n: {row["id"]: row for row in run.rows() if row["id"] in shown} for n, run in enumerate(runs)}
    of_items = digits_of(value for d in report.disagreements for value in d.values)
    heads, *rows = plain_rows(differences(report))
    if len(report.models) == 2:  # each row would name both again
        heads, *rows = [[row[0], *row[3:]] for row in (heads, *rows)]
    names = [one_line(m, LONGEST_NAME) for m in report.models]
    strata = decision.strata
    return {
        "verdicts": [
            {
                "text": f"{v.sentence()}.",
                "needed": v.needed(),
                "kind": "none" if v.test is None else v.test.verdict.split()[0],
            }
            for v in decision.verdicts
        ],
        "metric": decision.metric,
        "names": names,
        "pictures": forest_pictures(decision, key),
        "metrics": [_metric(report, metric, names) for metric in report.estimates] if len(names) > 2 else [],
        "undefined": [*answered_notes(report), *undefined_lines(report)],
        "margin": "" if report.margin is None else f"{report.margin:g}",
        "adjusted": f"P-values are adjusted: {family_words(report)}.",
        "pairs": {
            "heads": heads,
            "rows": rows,
            "n_texts": 1 if len(names) == 2 else 3,
            "notes": [*basis_notes(report), *test_notes(report)],
        },
        "strata": _strata(decision) if strata is not None and strata.rows else None,
        "measure": report.measure,
        "items": [
            _item(d.item, list(zip(names, d.values, strict=True)), of_items, rewards, texts.items.get(d.item))
            for d in report.disagreements
        ],
    }


def _strata(decision: Decision) -> dict[str, Any]:
    assert decision.strata is not None  # noqa: S101  (the caller looked)
    heads, *rows = plain_rows(strata_table(decision, decision.strata.rows))
    return {"note": strata_note(decision.strata), "heads": heads, "rows": rows}


def forest_pictures(decision: Decision, key: str) -> list[Picture]:
    """Return the figures of a comparison for a page: differences, and differences by stratum."""
    return [
        Picture(
            name, title, caption, inline_svg(image, f"{key}-{name}", f"{title}: {decision.report.task}"), ()
        )
        for name, (title, caption, image) in forest_images(decision, "svg").items()
    ]


def comparison_files(sections: Sequence[Section], decisions: Sequence[Decision | None]) -> dict[str, bytes]:
    """Return file name -> content of the figures of comparisons, as SVG and PNG."""
    return {
        f"{stem_of(section, sections)}.{name}.{kind}": image
        for section, decision in zip(sections, decisions, strict=True)
        if decision is not None
        for kind in ("svg", "png")
        for name, (_, _, image) in forest_images(decision, kind).items()
    }


_READ = (
    "Point and line: paired difference and its 95% interval. A filled point: told apart after Holm's"
    " correction. Grey: smaller differences than the data shows with 80% power."
)


def forest_images(decision: Decision, kind: str) -> dict[str, tuple[str, str, bytes]]:
    """Return name -> (title, caption, image) of the figures of a comparison that have something to show.

    Args:
        decision: The comparison.
        kind: `svg` or `png`.
    """
    models = decision.report.models
    first, second = (models[0], models[1]) if len(models) == 2 else (models[0], "")
    found: dict[str, tuple[str, str, bytes]] = {}
    title, caption, rows = _forest(decision)
    if rows:
        found["differences"] = (title, caption, draw_forest(rows, first, second, "differences", kind))
    strata = decision.strata
    if strata is not None and strata.rows:
        rows = [
            ForestRow(f"{r.label} ({r.n_items:,})", turned(r.test.paired.difference), r.test.told_apart)
            for r in strata.rows
        ]
        caption = f"{strata.metric} within each stratum, with its number of items. {strata_note(strata)}"
        image = draw_forest(rows, first, second, "differences by stratum", kind)
        found["strata-differences"] = ("Differences by stratum", caption, image)
    return found


def _forest(decision: Decision) -> tuple[str, str, list[ForestRow]]:
    """Return title, caption and rows: the metrics of two models, or the first model against each other."""
    models = decision.report.models
    if len(models) == 2:
        metrics = decision.report.pairs[0].metrics
        of_metric = {m.metric: _forest_row(m.metric, m) for m in metrics}
        left = [name for name, row in of_metric.items() if row is None]
        more = f" Not in it, for their units or directions: {', '.join(left)}." if left else ""
        return "Differences", _READ + more, [row for row in of_metric.values() if row is not None]
    rows = [
        ForestRow(f"against {v.second}", turned(test.paired.difference), test.told_apart, test.smallest())
        for v in decision.verdicts
        if (test := v.test) is not None
    ]
    return f"{decision.metric}: {one_line(models[0], 40)} against each other model", _READ, rows


def _forest_row(name: str, found: MetricComparison) -> ForestRow | None:
    """Return a metric's row; None for a metric that is no fraction, or has no better direction."""
    difference = found.paired.difference
    if difference.unit != "fraction" or difference.higher_is_better is None:
        return None
    return ForestRow(name, turned(difference), found.test.told_apart, found.test.smallest())


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
