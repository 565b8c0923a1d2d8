"""What all figures share: colours that are told apart, and files that depend on what is drawn alone.

One look for all figures of records: sizes, colours, intervals.
"""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf, isfinite
from typing import Any

import numpy as np

from rmbench.core.escape import one_line
from rmbench.errors import ConfigError
from rmbench.stats.clusters import Floats

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
"""Told apart by the colour-blind. Source: Okabe & Ito 2008."""
MARKERS = "osD^vP*X"
DASHES = ("-", "--", ":", "-.")
"""More lines than colours: the dashes tell them apart."""
LONGEST_LABEL = 28


@contextmanager
def drawing(settings: Mapping[str, Any] | None = None) -> Iterator[Any]:
    """Set up matplotlib, without a display, and give its class of figures.

    Args:
        settings: More of matplotlib's settings, such as another `svg.hashsalt`.

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
        # Names in any script: an SVG's text is drawn with the reader's own fonts, a PNG shows a box.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        yield Figure


def image_files(figure: Any, stem: str, *, dpi: int = 110) -> dict[str, bytes]:
    """Return `stem`.svg and `stem`.png of a figure, without time or version; to be called while drawing."""
    return {f"{stem}.{kind}": image(figure, kind, dpi=dpi) for kind in ("svg", "png")}


def image(figure: Any, kind: str, *, dpi: int = 110) -> bytes:
    """Return a figure as `svg` or `png`, without time or version; to be called while drawing."""
    buffer = io.BytesIO()
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, metadata=metadata, dpi=dpi)
    return buffer.getvalue()


def label(text: str, limit: int = LONGEST_LABEL) -> str:
    """Return a label that matplotlib takes for text: no formula, and not hidden for its first character.

    A long one is cut in its middle: names of models begin alike and end apart.
    """
    whole = one_line(text)
    half = limit // 2
    short = whole if len(whole) <= limit else f"{whole[:half]}…{whole[half + 1 - limit :]}"
    safe = short.replace("$", r"\$")
    return f" {safe}" if safe.startswith("_") else safe


INK, QUIET, FAINT = "#1c2126", "#5c6670", "#dfe3e7"
"""Of text and frames, of what is said aside, and of grids: a page swaps them for those of its theme."""
WIDTH = 4.8
"""Inches: on a phone as readable as on a screen."""

_LETTER, _HANDLE = 3.9, 34.0
"""Points: the width of a letter of a legend, about, and of what is beside its text."""

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
    """Set up matplotlib for the figure `name`, whose ids are its own, and give the class of figures."""
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
    """Return six decimals: a record in memory and the same one from its file differ far below a pixel."""
    return np.asarray(np.round(np.asarray(values, dtype=np.float64), 6), dtype=np.float64)


def reach(values: Sequence[float], intervals: Sequence[Interval]) -> Floats:
    """Return how far intervals reach below and above their values, shape (2, n); 0 where there is none.

    An end that is infinite is drawn a little beyond all others.
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
    """Draw a line through points with their intervals, faint ones where there are many."""
    style = style_of(k)
    bars = {"yerr": reach(y, intervals), "elinewidth": 0.7, "ecolor": (style["color"], 0.4 if faint else 1.0)}
    axes.errorbar(six(x), six(y), label=label(name), **bars, **style)


def band(axes: Any, x: Any, y: Sequence[float], intervals: Sequence[Interval], k: int, name: str) -> None:
    """Draw a line through points, and the band of their intervals."""
    style = style_of(k)
    axes.plot(six(x), six(y), label=label(name), **style)
    below, above = reach(y, intervals)
    axes.fill_between(six(x), six(y) - below, six(y) + above, color=style["color"], alpha=0.14, linewidth=0)


def dress(axes: Any, *, grid: str = "y") -> None:
    """Take off what says nothing, and draw a light grid along `grid`."""
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    if grid:
        axes.grid(axis=grid, linewidth=0.5)


def level(axes: Any, y: float, name: str | None = None) -> None:
    """Draw a dotted line across, such as chance."""
    axes.axhline(y, color=QUIET, linewidth=0.9, linestyle=":", label=None if name is None else label(name))


def legend(figure: Any, panels: Sequence[Any], ncols: int | None = None, order: Sequence[str] = ()) -> None:
    """Name what panels show above them all, in as many columns as there is room for.

    Args:
        figure: The figure.
        panels: Axes whose labels are named, each label once.
        ncols: Most columns.
        order: Labels that come first, in this order.
    """
    found: dict[str, Any] = {}
    for axes in panels:
        handles, names = axes.get_legend_handles_labels()
        for name, handle in zip(names, handles, strict=True):
            found.setdefault(name, handle)
    labels = sorted(found, key=lambda name: order.index(name) if name in order else len(order))
    room = int(WIDTH * 72 // (max(map(len, labels), default=0) * _LETTER + _HANDLE))
    columns = max(1, min(room, ncols or len(labels)))
    figure.legend([found[n] for n in labels], labels, loc="outside upper left", ncols=columns)


def title(figure: Any, text: str) -> None:
    """Say in small letters what the figure is of."""
    figure.suptitle(label(text, 80), fontsize=8, x=0.01, ha="left")


def offsets(n: int, width: float) -> Floats:
    """Return where n records stand beside each other around a place, shape (n,)."""
    return np.asarray((np.arange(n) - (n - 1) / 2) * (width / max(n, 1)), dtype=np.float64)
