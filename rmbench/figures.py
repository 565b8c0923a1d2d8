"""What all figures share: colours that are told apart, and files that depend on what is drawn alone."""

import io
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rmbench.errors import ConfigError
from rmbench.escape import one_line

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
