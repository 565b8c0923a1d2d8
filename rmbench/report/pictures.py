"""Figures of a section, for the page and as files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from rmbench.core.files import slug
from rmbench.plot import FIGURES, draw, find, heading, image_of
from rmbench.plot.inline import inline_svg
from rmbench.report.numbers import Section


@dataclass(frozen=True, slots=True)
class Picture:
    """One figure of a section."""

    name: str
    title: str
    caption: str
    svg: Markup
    lacking: tuple[str, ...]
    """Models that the figure lacks, and why."""


def pictures_of(section: Section) -> tuple[list[Picture], dict[str, str]]:
    """Return the figures of a section; and for a figure that no record has, name -> reason."""
    shown, missing = [], {}
    for name, kind in FIGURES.items():
        found, lacking = _found(section, name)
        if not found:
            missing[name] = "; ".join(dict.fromkeys(lacking.values()))
            continue
        key = f"{section.key}-{name}"
        svg = inline_svg(image_of(name, draw(name, found), "svg"), key, f"{kind.title}: {section.task}")
        shown.append(
            Picture(name, kind.title, kind.caption, svg, tuple(f"{m}: {why}" for m, why in lacking.items()))
        )
    return shown, missing


def figure_files(sections: Sequence[Section]) -> dict[str, bytes]:
    """Return file name -> content of every figure as SVG and PNG; sections of one task are numbered."""
    files: dict[str, bytes] = {}
    for section in sections:
        stem = stem_of(section, sections)
        for name in FIGURES:
            found, _ = _found(section, name)
            if found:
                shown = {label for label, _ in found}
                what = heading([s for s in section.sources if s.label in shown])
                figure = draw(name, found, what)
                for kind in ("svg", "png"):
                    files[f"{stem}.{name}.{kind}"] = image_of(name, figure, kind)
    return files


def stem_of(section: Section, sections: Sequence[Section]) -> str:
    """Return how the names of a section's files begin: by its task, and its key if another has that task."""
    stem = slug(section.task)
    shared = sum(slug(s.task) == stem for s in sections) > 1
    return f"{stem}.{section.key}" if shared else stem


def _found(section: Section, name: str) -> tuple[list[tuple[str, Any]], Mapping[str, str]]:
    """Return the content of the figure for each record, and label -> reason for records without any."""
    found, lacking = [], {}
    for source in section.sources:
        one = find(name, source)
        if isinstance(one, str):
            lacking[source.label] = one
        else:
            found.append((source.label, one))
    return found, lacking
