"""On how many items a comparison rests, for `rmbench compare`: nothing where no model left an item out."""

from typing import Any

from rmbench.comparison import ManyReport, MetricComparison, PairedReport
from rmbench.digits import digits_of_estimates
from rmbench.escape import one_line
from rmbench.records import estimate_to_json
from rmbench.tabular import Cell, Column
from rmbench.types import Estimate


def columns(report: ManyReport) -> tuple[Column, ...]:
    """Return the column that says on how many items a row's numbers rest; none where all rest on all."""
    return (Column("items", "text"),) if _some(report) else ()


def cells(report: ManyReport, m: MetricComparison) -> tuple[Cell, ...]:
    """Return a row's cells of `columns`: `60 of 100`, or `all`."""
    if not _some(report):
        return ()
    return ("all" if m.count is None else f"{m.count.both:,} of {m.count.of:,}",)


def value_columns(report: ManyReport) -> tuple[Column, ...]:
    """Return the columns of CSV: items that both answered, that each did, and in all."""
    heads = ("items_both", "items_first", "items_second", "items")
    return tuple(Column(head, "count") for head in heads) if _some(report) else ()


def value_cells(report: ManyReport, m: MetricComparison) -> tuple[Cell, ...]:
    """Return a row's cells of `value_columns`; empty where both answered all items."""
    if not _some(report):
        return ()
    count = m.count
    return (None,) * 4 if count is None else (count.both, count.first, count.second, count.of)


def json(report: ManyReport, pair: PairedReport, m: MetricComparison) -> dict[str, Any]:
    """Return the entries of a metric's JSON that say what it rests on, with each model's own number."""
    if m.count is None:
        return {}
    count = m.count
    own = (_own(report, m.metric, name) for name in (pair.first, pair.second))
    return {
        "items": {"both": count.both, "first": count.first, "second": count.second, "of": count.of},
        "own": {k: estimate_to_json(e) for k, e in zip(("first", "second"), own, strict=True) if e},
    }


def answered_json(report: ManyReport) -> dict[str, Any]:
    """Return the entry of the report's JSON with the items that each model answered, by metric."""
    if not report.answered:
        return {}
    return {"answered": {m: dict(zip(report.models, n, strict=True)) for m, n in report.answered.items()}}


def notes(report: ManyReport) -> list[str]:
    """Return a line per pair, and metrics that rest on equally many items; then why some are not compared."""
    return [line for pair in report.pairs for line in pair.basis_lines()]


def own_notes(report: ManyReport) -> list[str]:
    """Return a line with a model's own numbers, of two, where it answered more items than both did."""
    (pair,) = report.pairs
    both = {m.metric: m.count.both for m in pair.metrics if m.count is not None}
    found: dict[tuple[str, int], list[str]] = {}
    for metric, answered in report.answered.items():
        for model, n, value in zip(report.models, answered, report.estimates[metric], strict=True):
            if value is not None and n != both.get(metric):
                found.setdefault((one_line(model, 40), n), []).append(f"{metric} {_text(value)}")
    return [
        f"{model} on all {n:,} items that it answered: {', '.join(numbers)}"
        for (model, n), numbers in found.items()
    ]


def answered_notes(report: ManyReport) -> list[str]:
    """Return a line per model whose own numbers rest on fewer items than another's: how many, and which."""
    found: dict[tuple[str, int, int], list[str]] = {}
    for metric, answered in report.answered.items():
        for model, n, value in zip(report.models, answered, report.estimates[metric], strict=True):
            if value is not None and n < max(answered):
                found.setdefault((one_line(model, 40), n, max(answered)), []).append(metric)
    lines = [
        f"{model} answered {n:,} items, another model {most:,}: its {', '.join(metrics)} above rests on these"
        for (model, n, most), metrics in found.items()
    ]
    return [*lines, "Such values are not comparable: the differences are on common items."] if lines else []


def _some(report: ManyReport) -> bool:
    return any(m.count is not None for pair in report.pairs for m in pair.metrics)


def _own(report: ManyReport, metric: str, model: str) -> Estimate | None:
    return report.estimates[metric][report.models.index(model)]


def _text(estimate: Estimate) -> str:
    return digits_of_estimates([estimate]).estimate(estimate.value, estimate.ci95)
