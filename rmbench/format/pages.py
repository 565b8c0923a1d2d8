"""HTML pages: one file each that opens from disk and asks no network.

The template escapes every value (Jinja2's autoescape) and makes control and direction-changing characters
visible. The content-security policy allows only the page's own script and style.

A page shows an interval as a bar on a line of 100 units (`Scale`).
"""

import base64
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from math import ceil, floor, isfinite, isnan, log10
from typing import Any

from markupsafe import Markup, escape

from rmbench.core.digits import Digits, significant
from rmbench.core.escape import many_lines, one_line
from rmbench.core.files import slug
from rmbench.types import Estimate

LONGEST_NAME = 200
"""Characters of a name or a reason that a page shows."""
LONGEST_TEXT = 4000
"""Characters of a prompt or a response that a page shows."""


def render_page(folder: str, *, template: str = "page.html", extra_style: str = "", **values: Any) -> str:
    """Return a page made from a template, `page.css` and `page.js` in a folder of `_data`.

    The template gets `style`, `script` and `policy` besides `values`. Style and script of all pages come
    before those of the folder.

    Args:
        folder: Name of the folder.
        template: File in it.
        extra_style: Style that depends on the content.
        values: Content; text that is not `Markup` is escaped.
    """
    style = _asset("page", "base.css") + _asset(folder, "page.css") + extra_style
    script = _asset("page", "theme.js") + _asset("page", "tips.js") + _asset(folder, "page.js")
    page: str = _template(folder, template).render(
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
    """Return the id of the part of a page on the task `name`; links to it end in `#on-...`."""
    return f"on-{slug(name)}"


def prose(text: str) -> Markup:
    """Return a text as HTML, with Markdown's code and emphasis; everything else is escaped."""
    safe = str(escape(one_line(text)))
    safe = re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)
    return Markup(re.sub(r"(?<!\w)\*([^*]+)\*(?!\w)", r"<em>\1</em>", safe))  # noqa: S704  (escaped above)


def text_block(text: str, limit: int = LONGEST_TEXT) -> Markup:
    """Return at most `limit` characters of a text, escaped, for an element that keeps line breaks."""
    more = f"\n… {len(text) - limit:,} more characters" if len(text) > limit else ""
    return Markup(str(escape(many_lines(text[:limit]) + more)))  # noqa: S704  (escaped here)


def _source_hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(sha256(text.encode('utf-8')).digest()).decode('ascii')}'"


def _asset(folder: str, name: str) -> str:
    return files("rmbench").joinpath("_data", folder, name).read_text(encoding="utf-8")


@lru_cache(maxsize=4)
def _template(folder: str, name: str) -> Any:
    from jinja2 import Environment, StrictUndefined  # commands without a page do not wait for it

    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(_asset(folder, name))


def _shown(value: Any) -> Any:
    """Return a value as the template writes it, before the escape: one line, hidden characters visible."""
    return one_line(value) if isinstance(value, str) and not isinstance(value, Markup) else value


_MARGIN = 0.05
_LARGEST = 1e300
"""A range beyond it would overflow; such a value is drawn at the end of the line."""


@dataclass(frozen=True, slots=True)
class Bar:
    """A value and its interval on a line of length 100."""

    at: str
    """Place of the value."""
    low: str
    """Lower end of the interval."""
    width: str
    """Width of the interval."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A range of values, `low` < `high`."""

    low: float
    high: float

    def share(self, value: float) -> float:
        """Return the place of a value in [0, 1]; a value beyond the range is at its end."""
        return min(max((value - self.low) / (self.high - self.low), 0.0), 1.0)

    def at(self, value: float) -> str:
        """Return the place of a value on the line, 0 to 100."""
        return _decimal(100 * self.share(value))

    def ends(self) -> tuple[str, str]:
        """Return the labels of both ends."""
        return significant(self.low), significant(self.high)

    def bar(self, value: float, interval: tuple[float, float] | None) -> Bar | None:
        """Return a value with its interval as a bar; None for a value that is not finite."""
        if not isfinite(value):
            return None
        if interval is None or any(isnan(end) for end in interval):
            return Bar(self.at(value), self.at(value), "0")
        low, high = self.at(interval[0]), self.at(interval[1])
        return Bar(self.at(value), low, _decimal(float(high) - float(low)))


def _decimal(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")


def scale_of(estimates: Sequence[Estimate]) -> Scale:
    """Return a scale with round ends that holds all values and their intervals."""
    ends = [end for e in estimates for end in (e.value, *(e.ci95 or ())) if isfinite(end)]
    if not ends:
        return Scale(0.0, 1.0)
    low, high = (min(max(end, -_LARGEST), _LARGEST) for end in (min(ends), max(ends)))
    room = 0.0 if high > low else max(abs(low) * _MARGIN, _MARGIN)
    step = 10.0 ** floor(log10((high - low + 2 * room) / 2))
    return Scale(floor((low - room) / step) * step, ceil((high + room) / step) * step)


ARROWS = {"higher is better": "↑", "lower is better": "↓", "": ""}


def better(estimates: Iterable[Estimate | None]) -> str:
    """Return which direction of a metric is better, in words; empty where neither is."""
    higher = next((e.higher_is_better for e in estimates if e is not None), None)
    return "" if higher is None else "higher is better" if higher else "lower is better"


def estimate_parts(
    estimate: Estimate | None, digits: Digits, scale: Scale | None = None, why: str = ""
) -> dict[str, Any]:
    """Return an estimate for a template: `text`, `small` (its interval), `why` and `bar`.

    Args:
        estimate: The number; None is shown as a dash.
        digits: Digits of its column.
        scale: Line that the bar is drawn on; None: no bar.
        why: Reason why there is no number.
    """
    if estimate is None:
        return {"text": "–", "small": "", "why": why, "bar": None}
    return {
        "text": digits.write(estimate.value),
        "small": digits.interval(estimate.ci95) if estimate.ci95 else "no interval",
        "why": "" if isfinite(estimate.value) else "not a finite number",
        "bar": scale.bar(estimate.value, estimate.ci95) if scale else None,
    }
