"""Curves as CSV and as JSON values."""

import csv
import io
from collections.abc import Iterable, Sequence
from math import sqrt
from typing import Any

from rmbench.curves.gather import Series
from rmbench.escape import for_csv
from rmbench.records import estimate_to_json, rounded
from rmbench.types import Estimate

MEASURED = ("win_rate", "gold", "gain", "reward", "regret", "oracle")
"""Given with intervals at each n; `reward_sd`, what the figure divides rewards by, is one for the line."""
_PLACE = ("row", "column", "line", "task", "version", "model", "run_id", "data")
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
            rows.append([*_place(s), *map(_cell, row)])
    return _csv(heads, rows)


def fits_csv(series: Iterable[Series]) -> str:
    """Return one row per line and number of the whole curve, or why it has none."""
    rows = []
    for s in series:
        for name in FITTED:
            estimate = s.found.metrics.get(name)
            why = "" if estimate else s.found.undefined.get(name, "not measured")
            unit = estimate.unit if estimate else ""
            rows.append([*_place(s), name, *map(_cell, _numbers(estimate)), unit, for_csv(why)])
    return _csv([*_PLACE, "metric", "value", "low", "high", "unit", "undefined"], rows)


def curves_json(series: Iterable[Series]) -> list[dict[str, Any]]:
    """Return every line as JSON values."""
    return [
        {
            **dict(zip(_PLACE, _place(s, escaped=False), strict=True)),
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


def _place(s: Series, *, escaped: bool = True) -> list[str]:
    record = s.record
    texts = [s.row, s.column, s.line, record.task, str(record.task_version), record.model, record.run_id]
    texts.append(str(record.identity["data"]))
    return [for_csv(t) for t in texts] if escaped else texts


def _numbers(estimate: Estimate | None) -> list[Any]:
    """Return value, low and high; nothing where there is none."""
    if estimate is None:
        return ["", "", ""]
    return [estimate.value, *(estimate.ci95 or ("", ""))]


def _cell(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _csv(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
    return buffer.getvalue()
