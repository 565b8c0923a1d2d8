"""The numbers of `rmbench compare` for programs: CSV and JSON; and the family that its tests are."""

from math import isnan
from typing import Any

from rmbench.cli import compare_basis as basis
from rmbench.comparison import ManyReport, MetricComparison, PairedReport
from rmbench.records import estimate_to_json
from rmbench.tabular import Cell, Column, Number, Table, cell_of


def family_words(report: ManyReport) -> str:
    """Return which tests are corrected together, in words."""
    n_tests = sum(m.p_holm is not None for _, m in by_metric(report))
    n_pairs, n_models, n_metrics = len(report.pairs), len(report.models), len(report.estimates)
    pairs = "1 pair" if n_pairs == 1 else f"{n_pairs:,} pairs"
    of = f"{pairs} of {n_models} models on {n_metrics} metric{'s' if n_metrics > 1 else ''}"
    if n_tests == 0:
        return f"no test ({of}): no error is known, or no item is common to two models"
    if n_tests == 1:
        return f"one test ({of}): nothing to correct for"
    missing = n_pairs * n_metrics - n_tests
    why = "no error is known" + ", or no item in common" * any(pair.lacking for pair in report.pairs)
    left = f", {missing:,} of them without a test ({why})" if missing else ""
    return f"Holm's correction at 5% over one family of {n_tests:,} tests: {of}{left}"


def p_cell(value: float | None) -> Cell:
    """Return a p-value as a cell."""
    return None if value is None else Number(value, form="probability")


def smallest_cell(value: float | None) -> Cell:
    """Return the smallest difference that data show as a cell; nothing where they show none."""
    return None if value is None else Number(value)


def smallest_alone(m: MetricComparison) -> float | None:
    """Return the smallest difference that one test at 5% finds with 80% power, were it the only one."""
    return None if m.paired.resolution is None else m.paired.resolution.smallest()


def by_metric(report: ManyReport) -> list[tuple[PairedReport, MetricComparison]]:
    """Return every comparison, all pairs of one metric together."""
    return [
        (pair, m)
        for metric in report.estimates
        for pair in report.pairs
        for m in pair.metrics
        if m.metric == metric
    ]


def values_of(report: ManyReport) -> Table:
    """Return the numbers: a row per metric and pair of models."""
    heads = (
        *(Column(head, "text") for head in ("task", "metric", "first", "second")),
        *(Column(head) for head in ("first_value", "second_value", "difference")),
        *(Column(head, "number") for head in ("p", "p_holm")),
        Column("verdict", "text"),
        *(Column(head, "number") for head in ("shows_from", "shows_from_alone", "p_equivalence_holm")),
        *basis.value_columns(report),
    )
    rows = [
        (
            *(report.task, m.metric, pair.first, pair.second),
            *map(cell_of, (m.first, m.second, m.paired.difference)),
            *(p_cell(m.paired.p_value), p_cell(m.p_holm), m.test.words),
            *(smallest_cell(m.test.smallest()), smallest_cell(smallest_alone(m))),
            p_cell(m.test.p_equivalence_holm),
            *basis.value_cells(report, m),
        )
        for pair, m in by_metric(report)
    ]
    return Table(heads, tuple(rows))


def as_json_values(report: ManyReport) -> dict[str, Any]:
    """Return the report as JSON values; that of two models is the one of their pair."""
    pairs = [_pair_json(report, pair) for pair in report.pairs]
    tests = {"adjustment": family_words(report), "margin": report.margin}
    if len(pairs) == 1:
        return {**pairs[0], **tests}
    return {
        "task": report.task,
        "models": list(report.models),
        **tests,
        "measure": report.measure,
        "undefined": {name: dict(why) for name, why in report.undefined.items()},
        **basis.answered_json(report),
        "pairs": pairs,
        "disagreements": [
            {
                "item": d.item,
                "values": dict(zip(report.models, map(_or_none, d.values), strict=True)),
            }
            for d in report.disagreements
        ],
    }


def _pair_json(report: ManyReport, pair: PairedReport) -> dict[str, Any]:
    names = (pair.first, pair.second)
    undefined = {n: {m: w for m, w in why.items() if m in names} for n, why in report.undefined.items()}
    return {
        "task": report.task,
        "first": pair.first,
        "second": pair.second,
        "metrics": {
            m.metric: {
                "first": estimate_to_json(m.first),
                "second": estimate_to_json(m.second),
                "difference": estimate_to_json(m.paired.difference),
                "p_value": m.paired.p_value,
                "p_holm": m.p_holm,
                **_verdict_json(m),
                **basis.json(report, pair, m),
            }
            for m in pair.metrics
        },
        "undefined": {name: why for name, why in undefined.items() if why},
        **({"lacking": dict(pair.lacking)} if pair.lacking else {}),
        "disagreements": [
            {"item": d.item, "first": _or_none(d.first), "second": _or_none(d.second)}
            for d in pair.disagreements
        ],
    }


def _verdict_json(m: MetricComparison) -> dict[str, Any]:
    return {
        "verdict": m.test.verdict,
        "within_margin": None if m.test.margin is None else m.test.within_margin,
        "p_equivalence": m.test.p_equivalence,
        "p_equivalence_holm": m.test.p_equivalence_holm,
        "shows_from": m.test.smallest(),
        "shows_from_alone": smallest_alone(m),
    }


def _or_none(value: float) -> float | None:
    return None if isnan(value) else value
