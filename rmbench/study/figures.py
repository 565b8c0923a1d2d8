"""Figures of a study, as SVG and PNG: best-of-N against N, and accuracy per tenth of the margin."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rmbench.canon import slug
from rmbench.evaluate import Outcome
from rmbench.study.run import Cell
from rmbench.study.spec import StudySpec

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
"""Told apart by the colour-blind. Source: Okabe & Ito 2008."""
_MARKERS = "osD^vP*X"

Line = tuple[Sequence[float], Sequence[float]]


def render_figures(spec: StudySpec, outcomes: Mapping[tuple[str, str], Outcome]) -> dict[str, bytes]:
    """Return file name -> content. The same records give the same bytes on the same versions."""
    files: dict[str, bytes] = {}
    for base in spec.bases:
        for data in spec.data:
            for task in dict.fromkeys(e.task for e in spec.evaluate):
                records = {
                    m.name: [outcomes[Cell(base, data, m, s).name, task].run.record for s in spec.seeds]
                    for m in spec.methods
                }
                first = records[spec.reference][0]
                where = f"{base}, trained on {data.name}: {first.task}"
                stem = slug(f"{base}.{data.name}.{first.task}")
                bon = {name: _win_rates(found) for name, found in records.items()}
                if all(x for x, _ in bon.values()):
                    files |= _draw(
                        f"{stem}.best-of-n", where, bon, "N (responses to choose from)", "win rate", True
                    )
                tenths = {name: _tenths(found) for name, found in records.items()}
                if all(x for x, _ in tenths.values()):
                    label = "tenth of |margin|, least sure first"
                    files |= _draw(f"{stem}.deciles", where, tenths, label, "accuracy", False)
    return files


def _win_rates(records: Sequence[Any]) -> Line:
    """Return n and the win rate at n, mean over seeds."""
    names = [n for n in records[0].metrics if n.startswith("win_rate@")]
    n_values = sorted(int(n.partition("@")[2]) for n in names)
    return n_values, [_six(np.mean([r.metrics[f"win_rate@{n}"].value for r in records])) for n in n_values]


def _tenths(records: Sequence[Any]) -> Line:
    """Return 1 to 10 and the accuracy in each tenth, mean over the seeds that have it."""
    rows = [[d["accuracy"] for d in r.curves.get("margin_deciles", [])] for r in records]
    rows = [r for r in rows if len(r) == 10]
    if not rows:
        return [], []
    return list(range(1, 11)), [_six(v) for v in np.mean(rows, axis=0)]


def _six(value: Any) -> float:
    """Return six decimals: a record in memory and the same one from its file differ far below a pixel."""
    return round(float(value), 6)


def _draw(
    stem: str, title: str, lines: Mapping[str, Line], x_label: str, y_label: str, doubling: bool
) -> dict[str, bytes]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "rmbench", "svg.fonttype": "none", "font.size": 9}):
        figure = Figure(figsize=(6.4, 3.8), layout="constrained")
        axes = figure.subplots()
        for k, (name, (x, y)) in enumerate(lines.items()):
            axes.plot(
                x,
                y,
                marker=_MARKERS[k % len(_MARKERS)],
                color=_COLOURS[k % len(_COLOURS)],
                label=name,
                markersize=4,
            )
        axes.axhline(0.5, color="#888888", linewidth=0.8, linestyle=":")
        if doubling:
            axes.set_xscale("log", base=2)
        ticks = next(iter(lines.values()))[0]
        axes.set_xticks(list(ticks), [f"{t:g}" for t in ticks])
        axes.minorticks_off()
        axes.set(xlabel=x_label, ylabel=f"{y_label} (mean over seeds)", title=title)
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.3)
        figure.legend(loc="outside right upper", frameon=False)
        files = {}
        for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            buffer = io.BytesIO()
            figure.savefig(buffer, format=kind, metadata=metadata, dpi=150)
            files[f"{stem}.{kind}"] = buffer.getvalue()
    return files
