"""Curves as CSV, as LaTeX and as JSON values."""

from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Any

from rmbench.curves.gather import Series, notes_of
from rmbench.latex import as_latex
from rmbench.records import estimate_to_json, rounded
from rmbench.tabular import Block, Cell, Column, Table, cell_of, csv_text
from rmbench.types import Estimate

MEASURED = ("win_rate", "gold", "gain", "reward", "regret", "oracle")
"""Given with intervals at each n; `reward_sd`, what the figure divides rewards by, is one for the line."""
_PLACE = ("row", "column", "line", "task", "version", "model", "run_id", "data")
_IN_PRINT = {"win_rate": "Win rate", "gold": "Gold of the pick"}
"""Measured -> title of its tables in LaTeX; CSV has all of them."""
FITTED = ("best_n", "overoptimization_drop", "fit_alpha", "fit_beta", "fit_rmse", "fit_peak_kl")


def curves_csv(series: Iterable[Series]) -> str:
    """Return one row per line and n: KL in nats and what it is, values with intervals."""
    heads = [*_PLACE, "n", "prompts", "kl", "kl_is", "sqrt_kl"]
    heads += [f"{name}{end}" for name in MEASURED for end in ("", "_low", "_high")]
    heads.append("reward_sd")
    rows = []
    for s in series:
        metrics = s.found.metrics
        for n, kl in zip(s.found.n_values, s.found.kl, strict=True):
            gold = metrics[f"gold@{n}"]
            row: list[Any] = [n, gold.n, kl, s.found.kl_is, sqrt(kl)]
            for name in MEASURED:
                row += _numbers(metrics.get(f"{name}@{n}"))
            row.append(s.found.reward_sd if "reward@1" in metrics else "")
            rows.append([*_place(s), *row])
    return csv_text(heads, rows)


def fits_csv(series: Iterable[Series]) -> str:
    """Return one row per line and number of the whole curve, or why it has none."""
    rows = []
    for s in series:
        for name in FITTED:
            estimate = s.found.metrics.get(name)
            why = "" if estimate else s.found.undefined.get(name, "not measured")
            unit = estimate.unit if estimate else ""
            rows.append([*_place(s), name, *_numbers(estimate), unit, why])
    return csv_text([*_PLACE, "metric", "value", "low", "high", "unit", "undefined"], rows)


def curves_latex(series: Sequence[Series]) -> str:
    """Return for each panel its lines by n, and the numbers of whole curves, as LaTeX."""
    panels: dict[tuple[str, str], list[Series]] = {}
    for s in series:
        panels.setdefault((s.row, s.column), []).append(s)
    blocks = [_panel_block(place, lines, measure) for place, lines in panels.items() for measure in _IN_PRINT]
    return as_latex([*blocks, _fits_block(series)]) + "\n"


def _panel_block(place: tuple[str, str], lines: Sequence[Series], measure: str) -> Block:
    sizes = sorted({n for s in lines for n in s.found.n_values})
    shown = " / ".join(filter(None, place))
    rows: list[tuple[Cell, ...]] = [
        (s.line, *(cell_of(s.found.metrics.get(f"{measure}@{n}")) for n in sizes)) for s in lines
    ]
    table = Table((Column("line", "text"), *(Column(f"n = {n}") for n in sizes)), tuple(rows))
    caption = f"{_IN_PRINT[measure]} at the best of n responses: {shown}"
    return Block(f"curve-{shown}-{measure}", (caption,), table)


def _fits_block(series: Sequence[Series]) -> Block:
    keys = [Column(head, "text") for head in ("row", "column", "line")]
    rows: list[tuple[Cell, ...]] = [
        (s.row, s.column, s.line, *(cell_of(s.found.metrics.get(name)) for name in FITTED)) for s in series
    ]
    lacking: dict[str, list[str]] = {}
    for s in series:
        shown = " / ".join(filter(None, (s.row, s.column, s.line)))
        for name in FITTED:
            if name not in s.found.metrics:
                why = s.found.undefined.get(name, "not measured")
                lacking.setdefault(why, []).append(f"{name} of {shown}")
    notes = [f"no {', '.join(what)}: {why}" for why, what in lacking.items()]
    table = Table((*keys, *map(Column, FITTED)), tuple(rows))
    caption = "Numbers of whole curves: the best n, what is lost from it to the largest, and the fit"
    return Block("curve-fits", (caption,), table, (*notes_of(series), *notes))


def curves_json(series: Iterable[Series]) -> list[dict[str, Any]]:
    """Return every line as JSON values."""
    return [
        {
            **dict(zip(_PLACE, _place(s), strict=True)),
            "n": list(s.found.n_values),
            "kl": rounded(list(s.found.kl)),
            "kl_is": s.found.kl_is,
            "reward_sd": rounded(s.found.reward_sd) if "reward@1" in s.found.metrics else None,
            "metrics": {name: estimate_to_json(e) for name, e in s.found.metrics.items()},
            "undefined": dict(s.found.undefined),
            "counts": dict(s.found.counts),
        }
        for s in series
    ]


def _place(s: Series) -> list[str]:
    record = s.record
    texts = [s.row, s.column, s.line, record.task, str(record.task_version), record.model, record.run_id]
    return [*texts, str(record.identity["data"])]


def _numbers(estimate: Estimate | None) -> list[Any]:
    """Return value, low and high; nothing where there is none."""
    if estimate is None:
        return ["", "", ""]
    return [estimate.value, *(estimate.ci95 or ("", ""))]
