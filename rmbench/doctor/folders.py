"""Folders that rmbench reads or writes: where they are, how large, and whether they can be written."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rmbench.core.files import require_writable
from rmbench.errors import ConfigError

MOST_FILES = 100_000
"""Files that are counted in one folder: the cache of the Hub may lie on a slow disk."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, and what is in it."""

    what: str
    path: str
    exists: bool
    files: int
    size: int
    """Bytes of its files; links are not followed."""
    whole: bool
    """False if it has more files than were counted."""
    problem: str
    """Why nothing can be written there; empty if it can."""


def look(what: str, path: Path, option: str) -> Folder:
    """Look at a folder. Nothing stays of the trial to write there.

    Args:
        what: Its name in the report.
        path: It need not exist.
        option: The option that names it, for the message.
    """
    files = size = 0
    whole = True
    for entry in _files_in(path):
        if files == MOST_FILES:
            whole = False
            break
        files += 1
        size += entry.stat(follow_symlinks=False).st_size
    try:
        require_writable(path, option)
        problem = ""
    except ConfigError as error:
        problem = str(error)
    return Folder(what, str(path), path.is_dir(), files, size, whole, problem)


def _files_in(folder: Path) -> Iterator["os.DirEntry[str]"]:
    """Yield the files below a folder; what may not be read is left out, and links are not followed."""
    waiting = [str(folder)]
    while waiting:
        try:
            entries = list(os.scandir(waiting.pop()))
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            elif entry.is_file(follow_symlinks=False):
                yield entry
