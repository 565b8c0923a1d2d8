"""One look for all figures: sizes, colours, intervals, grids of panels, and SVG or PNG bytes.

The bytes depend only on what is drawn: no time, no version of matplotlib's metadata, six decimals.
"""

import io
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from math import inf, isfinite
from typing import Any

import numpy as np

from rmbench.core.escape import one_line
from rmbench.errors import ConfigError
from rmbench.stats.clusters import Floats

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
"""Colours that the colour-blind can distinguish. Source: Okabe & Ito 2008."""
MARKERS = "osD^vP*X"
DASHES = ("-", "--", ":", "-.")
"""Dashes distinguish lines of the same colour."""
LONGEST_LABEL = 28
_TOO_NEAR = 1.3
"""Ratio to the largest n below which another n has no room for its label."""


@contextmanager
def drawing(settings: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """Set up matplotlib without a display, and yield its class of figures.

    Args:
        settings: Further settings of matplotlib, such as another `svg.hashsalt`.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("figures need matplotlib: pip install 'rmbench[plot]'") from None
    extra: dict[Any, Any] = dict(settings or {})
    base: dict[Any, Any] = {"svg.hashsalt": "rmbench", "svg.fonttype": "none", "font.size": 8}
    with mpl.rc_context({**base, **extra}), warnings.catch_warnings():
        # Names may be in any script: an SVG uses the reader's fonts, a PNG shows a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield _notebook_class(Figure)


@cache
def _notebook_class(figure_class: Any) -> Any:
    """Return matplotlib's class of figures, which a notebook shows as a picture without `pyplot`."""

    class Figure(figure_class):  # type: ignore[misc]
        def _repr_png_(self) -> tuple[bytes, dict[str, int]]:
            with canvas("notebook"):
                width, height = (int(inches * 100) for inches in self.get_size_inches())
                return image(self, "png", dpi=200), {"width": width, "height": height}

    return Figure


def image(figure: Any, kind: str, *, dpi: int = 110) -> bytes:
    """Return a figure as `svg` or `png`, without time or version; to be called while drawing."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, metadata=metadata, dpi=dpi)
    return buffer.getvalue()


def label(text: str, limit: int = LONGEST_LABEL) -> str:
    """Return a label that matplotlib shows as text: without formulas, and not hidden by a leading underscore.

    A long label is cut in the middle: names of models begin alike and end differently.
    """
    whole = one_line(text)
    half = limit // 2
    short = whole if len(whole) <= limit else f"{whole[:half]}…{whole[half + 1 - limit :]}"
    safe = short.replace("$", r"\$")
    return f" {safe}" if safe.startswith("_") else safe


INK, QUIET, FAINT = "#1c2126", "#5c6670", "#dfe3e7"
"""Colours of text and frames, of remarks, and of grids. A page replaces them by those of its theme."""
WIDTH = 4.8
"""Inches; readable on a phone."""

_LETTER, _HANDLE = 3.9, 34.0
"""Points: approximate width of a letter in a legend, and of the handle beside its text."""

_SETTINGS = {
    **dict.fromkeys(
        ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color", "axes.titlecolor"),
        INK,
    ),
    "grid.color": FAINT,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.axisbelow": True,
    "legend.frameon": False,
    "legend.fontsize": 7,
    "lines.markersize": 3.5,
    "lines.linewidth": 1.2,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
}


@contextmanager
def canvas(name: str) -> Iterator[Any]:
    """Set up matplotlib for the figure `name`, which has ids of its own, and yield the class of figures."""
    with drawing({"svg.hashsalt": f"rmbench {name}", **_SETTINGS}) as figure_class:
        yield figure_class


def new_figure(figure_class: Any, height: float) -> Any:
    """Return an empty figure, `height` inches high."""
    return figure_class(figsize=(WIDTH, height), layout="constrained")


def style_of(k: int) -> dict[str, Any]:
    """Return colour, marker and dashes of the k-th record, the same in all figures."""
    return {
        "color": COLOURS[k % len(COLOURS)],
        "marker": MARKERS[k % len(MARKERS)],
        "linestyle": DASHES[k // len(COLOURS) % len(DASHES)],
    }


Interval = Sequence[float] | None


def six(values: Any) -> Floats:
    """Return values with six decimals: a record in memory and its file differ far below a pixel."""
    return np.asarray(np.round(np.asarray(values, dtype=np.float64), 6), dtype=np.float64)


def reach(values: Sequence[float], intervals: Sequence[Interval]) -> Floats:
    """Return the distance from values to the ends of their intervals, shape (2, n); 0 without an interval.

    An infinite end is drawn a little beyond all others.
    """
    ends = [(v, v) if ci is None else (ci[0], ci[1]) for v, ci in zip(values, intervals, strict=True)]
    finite = [end for pair in (*ends, *((v, v) for v in values)) for end in pair if isfinite(end)]
    low_most, high_most = min(finite, default=0.0), max(finite, default=0.0)
    room = 0.05 * (high_most - low_most) or 0.05
    ends = [
        (low_most - room if low == -inf else low, high_most + room if high == inf else high)
        for low, high in ends
    ]
    low = np.array([v - end[0] for v, end in zip(values, ends, strict=True)])
    high = np.array([end[1] - v for v, end in zip(values, ends, strict=True)])
    return six(np.maximum(np.stack([low, high]), 0.0)) if len(low) else np.zeros((2, 0))


def points(
    axes: Any, x: Any, y: Sequence[float], intervals: Sequence[Interval], k: int, name: str, *, faint: bool
) -> None:
    """Draw a line through points with their intervals; `faint` makes the intervals paler."""
    style = style_of(k)
    bars = {"yerr": reach(y, intervals), "elinewidth": 0.7, "ecolor": (style["color"], 0.4 if faint else 1.0)}
    axes.errorbar(six(x), six(y), label=label(name), **bars, **style)


def band(axes: Any, x: Any, y: Sequence[float], intervals: Sequence[Interval], k: int, name: str) -> None:
    """Draw a line through points, and the band of their intervals."""
    style = style_of(k)
    axes.plot(six(x), six(y), label=label(name), **style)
    below, above = reach(y, intervals)
    axes.fill_between(six(x), six(y) - below, six(y) + above, color=style["color"], alpha=0.14, linewidth=0)


def dress(axes: Any, *, grid: str = "y", linewidth: float = 0.5) -> None:
    """Remove the upper and the right frame and minor ticks, and draw a light grid along `grid`."""
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis=grid, linewidth=linewidth)


def level(
    axes: Any, y: float, name: str | None = None, *, color: str = QUIET, linewidth: float = 0.9
) -> None:
    """Draw a dotted line across, such as chance."""
    name = None if name is None else label(name)
    axes.axhline(y, color=color, linewidth=linewidth, linestyle=":", label=name)


def doublings(axes: Any, n_values: Iterable[float]) -> None:
    """Make x logarithmic, with labels at `n_values`; one that is near the largest has no room for its own."""
    n_values = list(n_values)
    largest = max(n_values)
    shown = [n for n in n_values if n == largest or n * _TOO_NEAR < largest]
    axes.set_xscale("log", base=2)
    axes.set_xticks(shown, [f"{n:g}" for n in shown])


def panel_files(
    stem: str,
    rows: Sequence[str],
    columns: Sequence[str],
    fill: Callable[[Any, int, int], None],
    finish: Callable[[Any, Any], None],
    *,
    panel: tuple[float, float],
    around: tuple[float, float],
    x_label: str,
    **share: Any,
) -> dict[str, bytes]:
    """Return `stem`.svg and `stem`.png of a grid of panels.

    Args:
        stem: Name of the files.
        rows: Labels at the left; a line break begins a second line.
        columns: Labels at the top.
        fill: Draws a panel: (axes, row, column).
        finish: Draws legend and caption: (figure, axes of shape (rows, columns)).
        panel: Width and height of a panel, inches.
        around: Width and height of everything else, inches.
        x_label: Label below the last row.
        share: `sharex` and `sharey` of matplotlib's `subplots`.
    """
    with drawing() as figure_class:
        size = (around[0] + panel[0] * len(columns), around[1] + panel[1] * len(rows))
        columns = [label(column, LONGEST_LABEL) for column in columns]
        rows = ["\n".join(label(part, LONGEST_LABEL) for part in row.split("\n")) for row in rows]
        figure = figure_class(figsize=size, layout="constrained")
        axes = figure.subplots(len(rows), len(columns), squeeze=False, **share)
        for i, row in enumerate(rows):
            for j, column in enumerate(columns):
                fill(axes[i][j], i, j)
                axes[i][j].set(title=column if i == 0 else "", ylabel=row if j == 0 else "")
                axes[i][j].set_xlabel(x_label if i == len(rows) - 1 else "")
        finish(figure, axes)
        return {f"{stem}.{kind}": image(figure, kind) for kind in ("svg", "png")}


def legend_columns(names: Sequence[str], width: float) -> int:
    """Return how many columns of a legend fit into `width` inches."""
    return max(1, int(width * 72 // (max(map(len, names), default=0) * _LETTER + _HANDLE)))


def legend(figure: Any, panels: Sequence[Any], ncols: int | None = None, order: Sequence[str] = ()) -> None:
    """Draw one legend for several panels above them, in as many columns as fit.

    Args:
        figure: The figure.
        panels: Axes; each label is shown once.
        ncols: Most columns.
        order: Labels that come first, in this order.
    """
    found: dict[str, Any] = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        for name, handle in zip(names, handles, strict=True):
            found.setdefault(name, handle)
    labels = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    columns = max(1, min(legend_columns(labels, WIDTH), ncols or len(labels)))
    figure.legend([found[n] for n in labels], labels, loc="outside upper left", ncols=columns)


def title(figure: Any, text: str) -> None:
    """Draw a small title."""
    figure.suptitle(label(text, 80), fontsize=8, x=0.01, ha="left")


def offsets(n: int, width: float) -> Floats:
    """Return the offsets of n records beside each other around a place, shape (n,)."""
    return np.asarray((np.arange(n) - (n - 1) / 2) * (width / max(n, 1)), dtype=np.float64)
