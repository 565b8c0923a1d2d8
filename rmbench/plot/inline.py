"""A figure's SVG in a page: no style that the page's policy refuses, and the colours of the page's theme."""

import re
from xml.etree import ElementTree as Xml

from markupsafe import Markup

from rmbench.plot.style import COLOURS, FAINT, INK, QUIET

_COLOURS = {
    **{colour.lower(): f"var(--s{k})" for k, colour in enumerate(COLOURS)},
    INK: "currentColor",
    QUIET: "var(--quiet)",
    FAINT: "var(--line)",
    "#ffffff": "none",
}
"""Colour of a drawing -> colour of the page, light or dark."""
_HREF = "{http://www.w3.org/1999/xlink}href"
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_LONG = re.compile(r"-?\d+\.\d{3,}")
_FONT_SIZE = re.compile(r"([\d.]+px)")


def inline_svg(svg: bytes, key: str, title: str) -> Markup:
    """Return a figure's SVG for the body of a page.

    Args:
        svg: Output of matplotlib, with texts as text.
        key: Prefix of this figure's ids; a page has several figures.
        title: Description for screen readers.
    """
    root = Xml.fromstring(svg)  # noqa: S314  (matplotlib's own, and its texts are escaped)
    used = {match for element in root.iter() for match in _references(element)}
    box = root.get("viewBox", "")
    _clean(root, key, used)
    root.attrib.clear()
    root.attrib.update(
        {"class": "drawn", "viewBox": box, "role": "img", "aria-label": title, "stroke-linejoin": "round"}
    )
    return Markup(Xml.tostring(root, encoding="unicode"))  # noqa: S704  (serialised: every text is escaped)


def _references(element: Xml.Element) -> list[str]:
    found = [value.removeprefix("#") for name, value in element.items() if name == _HREF]
    return found + [m for value in element.attrib.values() for m in _REFERENCE.findall(value)]


def _clean(element: Xml.Element, key: str, used: set[str]) -> None:
    for child in list(element):
        if _name(child.tag) in ("metadata", "style"):
            element.remove(child)
        else:
            _clean(child, key, used)
    element.tag = _name(element.tag)
    attributes = dict(element.attrib)
    element.attrib.clear()
    for name, value in attributes.items():
        if name == "id":
            if value in used:
                element.set("id", f"{key}-{value}")
        elif name == _HREF:
            element.set("href", f"#{key}-{value.removeprefix('#')}")
        elif name == "style":
            for part in value.split(";"):
                prop, _, text = part.partition(":")
                _set_style(element, prop.strip(), text.strip())
        elif not name.startswith("{"):
            short = _LONG.sub(lambda m: f"{float(m[0]):.2f}", value)
            element.set(name, _REFERENCE.sub(lambda m: f"url(#{key}-{m[1]})", short))
    if (element.text or "").strip() == "":
        element.text = None
    element.tail = None


def _set_style(element: Xml.Element, prop: str, value: str) -> None:
    """Set a property as an attribute. Of a font only the size is kept: the page has its own font."""
    if prop in ("font", "font-size"):
        size = _FONT_SIZE.search(value)
        if size:
            element.set("font-size", size[1])
    elif prop and not prop.startswith("font"):
        element.set(prop, _COLOURS.get(value.lower(), value) if prop in ("fill", "stroke") else value)


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]
