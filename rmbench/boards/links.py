"""What a board's page links to: relative addresses and http(s) ones, and nothing that runs."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias
from urllib.parse import quote

from rmbench.boards.board import Board
from rmbench.canon import slug
from rmbench.errors import ConfigError
from rmbench.escape import one_line
from rmbench.html import anchor

Links: TypeAlias = Mapping[tuple[str, str], str]
"""(model, column id) -> what its number links to; (model, "") -> what the model's name links to."""

REPORTS = "reports"
"""Folder beside a board where its models' pages are looked for."""
_REMOTE = re.compile(r"https?://[^/\s]")


def report_file(model: str) -> str:
    """Return the name of the file that is a model's page: no two models share one."""
    return f"{slug(model)}.html"


def report_links(board: Board, reports: str | None, out: Path) -> Links:
    """Return the links of a board's models to their pages, `report_file` of a folder or an address.

    A model's name links to its page, and its numbers to the part of the page on their task.

    Args:
        board: Whose models.
        reports: Folder of the pages, or an address that begins with http:// or https://, where every model is
            taken to have one. None: the folder `reports` in `out`, if there is one.
        out: Folder that the board is written to: links to a folder are relative to it.

    Raises:
        ConfigError: If there is no such folder, or the address is none.
    """
    files = {row.model: report_file(row.model) for row in board.rows}
    if reports is not None and "://" in reports:
        if not _REMOTE.match(reports) or one_line(reports) != reports:
            raise ConfigError(f"--reports {reports!r}: expected a folder, or an address http(s)://HOST/...")
        base = quote(reports.rstrip("/"), safe=":/?#[]@!$&'()*+,;=%~")
        return _to_parts(board, {model: f"{base}/{name}" for model, name in files.items()})
    folder = out / REPORTS if reports is None else Path(reports)
    if not folder.is_dir():
        if reports is not None:
            raise ConfigError(f"--reports {reports}: there is no such folder")
        return {}
    base = quote(os.fsencode(Path(os.path.relpath(folder, out)).as_posix()))
    there = {model: f"{base}/{name}" for model, name in files.items() if (folder / name).is_file()}
    return _to_parts(board, there)


def _to_parts(board: Board, pages: Mapping[str, str]) -> Links:
    found = {(model, ""): page for model, page in pages.items()}
    for column in board.spec.columns:
        part = anchor(column.task.name)
        found |= {(model, column.id): f"{page}#{part}" for model, page in pages.items()}
    return found


def checked_link(link: str) -> str:
    """Return a link that a page may have.

    Raises:
        ValueError: If it is neither relative nor an address that begins with http:// or https://.
    """
    relative = ":" not in link and not link.startswith(("/", "\\"))
    if not (relative or _REMOTE.match(link)) or one_line(link) != link:
        raise ValueError(f"{link!r}: expected a relative link, or http(s)://")
    return link
