"""What all pages share: one HTML file that opens from disk, asks no network, and shows only text of others.

The template escapes every value (Jinja2's autoescape), control and direction-changing characters are made
visible first, and a content-security policy lets nothing run but the page's own script.

From values to places on a line of 100 units, with one decimal: what all drawings of a page share.
"""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from math import ceil, floor, isfinite, isnan, log10
from typing import Any

from markupsafe import Markup, escape

from rmbench.core.digits import significant
from rmbench.core.escape import many_lines, one_line
from rmbench.core.identity import slug
from rmbench.types import Estimate


def render_page(folder: str, *, extra_style: str = "", **values: Any) -> str:
    """Return the page of a template: `page.html`, `page.css` and `page.js` of a folder of `_data`.

    The template is given `style`, `script` and `policy` besides `values`. Style and script of the folder come
    after those of all pages.

    Args:
        folder: Name of the folder.
        extra_style: Style that depends on what is shown.
        values: What the template shows; text that is not `Markup` is escaped.
    """
    style = _asset("page", "base.css") + _asset(folder, "page.css") + extra_style
    script = _asset("page", "theme.js") + _asset(folder, "page.js")
    page: str = _template(folder).render(
        style=Markup(style),  # noqa: S704  (the package's own file)
        script=Markup(script),  # noqa: S704
        policy=content_policy(style, script),
        **values,
    )
    return page


def content_policy(style: str, script: str) -> str:
    """Return a content-security policy that allows this style and this script, and nothing else."""
    parts = [f"{what}-src {_source_hash(text)}" for what, text in (("style", style), ("script", script))]
    return "; ".join(["default-src 'none'", *parts, "base-uri 'none'", "form-action 'none'"])


def anchor(name: str) -> str:
    """Return the id of a page's part on what is called `name`, a task; links end in `#` and it."""
    return f"on-{slug(name)}"


def prose(text: str) -> Markup:
    """Return a definition's text with the two marks of Markdown that it may have: code and emphasis."""
    safe = str(escape(one_line(text)))
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return Markup(re.sub(r"(?<!\w)\*([^*]+)\*(?!\w)", r"<em>\1</em>", safe))  # noqa: S704  (escaped above)


def text_block(text: str, limit: int) -> Markup:
    """Return text of several lines, at most `limit` characters, for an element that keeps line breaks."""
    more = f"\n… {len(text) - limit:,} more characters" if len(text) > limit else ""
    return Markup(str(escape(many_lines(text[:limit]) + more)))  # noqa: S704  (escaped here)


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _asset(folder: str, name: str) -> str:
    return files("rmbench").joinpath("_data", folder, name).read_text(encoding="utf-8")


@lru_cache(maxsize=4)
def _template(folder: str) -> Any:
    from jinja2 import Environment, StrictUndefined  # commands without a page do not wait for it

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(_asset(folder, "page.html"))


def _shown(value: Any) -> Any:
    """Return what the template writes of a value, before it is escaped: text of one line, no hidden marks."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_MARGIN = 0.05
_LARGEST = 1e300
"""Beyond it a range would overflow; such a value is drawn at the end of the line."""


@dataclass(frozen=True, slots=True)
class Bar:
    """Places on the line, in hundredths of it."""

    at: str
    """Of the value."""
    low: str
    width: str
    """Of the interval."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values, `low` < `high`."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Return the place of a value, within 0 and 100: at an end of the line for what lies beyond it."""
        share = (value - self.low) / (self.high - self.low)
        return _decimal(100 * min(max(share, 0.0), 1.0))

    def ends(self) -> tuple[str, str]:
        """Return the values at both ends, as labels."""
        return significant(self.low), significant(self.high)

    def bar(self, value: float, interval: tuple[float, float] | None) -> Bar | None:
        """Return an interval with its value as a tick; None where the value is not finite."""
        if not isfinite(value):
            return None
        if interval is None or any(isnan(end) for end in interval):
            return Bar(self.at(value), self.at(value), "0")
        low, high = self.at(interval[0]), self.at(interval[1])
        return Bar(self.at(value), low, _decimal(float(high) - float(low)))


def _decimal(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def scale_of(estimates: Sequence[Estimate]) -> Scale:
    """Return the scale that holds all values with their intervals, from one round value to another."""
    ends = [end for e in estimates for end in (e.value, *(e.ci95 or ())) if isfinite(end)]
    if not ends:
        return Scale(0.0, 1.0)
    low, high = (min(max(end, -_LARGEST), _LARGEST) for end in (min(ends), max(ends)))
    room = 0.0 if high > low else max(abs(low) * _MARGIN, _MARGIN)
    step = 10.0 ** floor(log10((high - low + 2 * room) / 2))
    return Scale(floor((low - room) / step) * step, ceil((high + room) / step) * step)
