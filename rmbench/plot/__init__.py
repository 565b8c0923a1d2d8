"""Figures of stored records: `rmbench.plot.reliability("results/.../run.json")` is a matplotlib Figure.

Each function takes one record or several (paths of records, or `Run`s of `rmbench.results.run`), and draws
several side by side or as lines of one panel. No model and no data set is needed: numbers come from the
record, or are measured from its stored rewards. Figures need matplotlib (the extra `plot`). `save` writes a
figure as SVG or PNG, the same bytes each time.
"""

from pathlib import Path
from typing import Any

from rmbench.core.files import write_atomic
from rmbench.errors import ConfigError
from rmbench.plot.catalogue import FIGURES, draw, figure_of, find, heading
from rmbench.plot.source import RecordsLike, Source, name_sources, sources_of
from rmbench.plot.style import canvas, image

__all__ = [
    "FIGURES",
    "RecordsLike",
    "Source",
    "best_of_n",
    "draw",
    "find",
    "heading",
    "image_of",
    "length_bias",
    "margin_deciles",
    "margins",
    "name_sources",
    "reliability",
    "save",
    "sources_of",
    "strata",
    "styles",
]


def reliability(records: RecordsLike) -> Any:
    """Return the reliability diagram, as measured and after the cross-fitted temperature, with intervals."""
    return figure_of("reliability", records)


def margins(records: RecordsLike) -> Any:
    """Return the histogram of reward margins, right and wrong pairs; a panel per record."""
    return figure_of("margins", records)


def margin_deciles(records: RecordsLike) -> Any:
    """Return accuracy per tenth of |margin|, with intervals."""
    return figure_of("margin_deciles", records)


def best_of_n(records: RecordsLike) -> Any:
    """Return win rate and gold against N with intervals, between random picks and the best possible ones."""
    return figure_of("best_of_n", records)


def styles(records: RecordsLike) -> Any:
    """Return RM-Bench's matrix of styles as a heat map; for a single record each domain's too."""
    return figure_of("styles", records)


def strata(records: RecordsLike) -> Any:
    """Return the headline per stratum, with intervals."""
    return figure_of("strata", records)


def length_bias(records: RecordsLike) -> Any:
    """Return the length bias: accuracy at equal length, and accuracy by difference in length."""
    return figure_of("length_bias", records)


def image_of(name: str, figure: Any, kind: str) -> bytes:
    """Return the bytes of the figure `name` as `svg` or `png`; the same figure gives the same bytes."""
    with canvas(name):
        return image(figure, kind, dpi=200)


def save(figure: Any, path: Path | str) -> None:
    """Write a figure to `path`, as its name ends: `.svg` or `.png`.

    Raises:
        ConfigError: If it ends otherwise.
    """
    path = Path(path)
    kind = path.suffix.removeprefix(".")
    if kind not in ("svg", "png"):
        raise ConfigError(f"{path}: expected a name that ends in .svg or .png")
    write_atomic(path, image_of(path.stem, figure, kind))
