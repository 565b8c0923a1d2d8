"""What all figures share: colours that are told apart, and files that depend on what is drawn alone."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rmbench.errors import ConfigError

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#999933")
"""Told apart by the colour-blind. Source: Okabe & Ito 2008."""
MARKERS = "osD^vP*X"


@contextmanager
def drawing() -> Iterator[Any]:
    """Set up matplotlib, without a display, and give its class of figures.

    Raises:
        ConfigError: If matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.figure import Figure
    except ImportError:
        raise ConfigError("figures need matplotlib: pip install 'rmbench[train]'") from None
    with mpl.rc_context({"svg.hashsalt": "rmbench", "svg.fonttype": "none", "font.size": 8}):
        yield Figure


def image_files(figure: Any, stem: str) -> dict[str, bytes]:
    """Return `stem`.svg and `stem`.png of a figure, without time or version; to be called while drawing."""
    files = {}
    for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, metadata=metadata, dpi=110)
        files[f"{stem}.{kind}"] = buffer.getvalue()
    return files
