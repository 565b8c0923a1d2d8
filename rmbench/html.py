"""What all pages share: one HTML file that opens from disk, asks no network, and shows only text of others.

The template escapes every value (Jinja2's autoescape), control and direction-changing characters are made
visible first, and a content-security policy lets nothing run but the page's own script.
"""

import base64
import re
from functools import lru_cache
from hashlib import sha256
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup, escape

from rmbench.canon import slug
from rmbench.escape import many_lines, one_line


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
