"""Files, read and written whole or not at all; canonical JSON, and the identity hashes made of it.

The same value has the same canonical JSON in every process, version and locale: sorted keys, no spaces,
UTF-8, no NaN. A hash of it is an identity, so nothing of it may change without a new IDENTITY_VERSION.
"""

import errno
import gzip
import hashlib
import io
import json
import lzma
import os
import re
import unicodedata
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from rmbench.errors import ConfigError, DataError
from rmbench.types import Turn

IDENTITY_VERSION = 1


def canonical_json(value: Any) -> str:
    """Return `value` as canonical JSON. Raises ValueError on NaN and infinity."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def digest(value: Any, length: int = 64) -> str:
    """Return the first `length` hex digits of the SHA-256 of the canonical JSON of `value`."""
    # surrogatepass: a lone surrogate is legal in JSON text, and must have an identity like any other string.
    raw = canonical_json(value).encode("utf-8", "surrogatepass")
    return hashlib.sha256(raw).hexdigest()[:length]


def conversation_key(turns: Sequence[Turn]) -> str:
    """Return the identity of a conversation: role and content of each turn, 32 hex digits."""
    return digest([[t["role"], t["content"]] for t in turns], 32)


def pair_key(prompt: Sequence[Turn], first: str, second: str) -> str:
    """Return the identity of an ordered pair of replies, 32 hex digits."""
    return digest(["pair", [[t["role"], t["content"]] for t in prompt], first, second], 32)


def prompt_cluster(prompt: Sequence[Turn]) -> str:
    """Return the default cluster of an item: its prompt's identity, 16 hex digits."""
    return conversation_key(prompt)[:16]


def in_part(cluster: str, part: tuple[float, float] | None) -> bool:
    """Say whether a cluster's hash, as a number in [0, 1), lies in [low, high): a lasting split by prompt.

    The same prompt falls on the same side in every file, whatever else the file holds.
    """
    if part is None:
        return True
    place = int(digest(["part", cluster], 12), 16) / 16**12
    return part[0] <= place < part[1]


def slug(name: str) -> str:
    """Return `name` as one safe path component: letters, digits, `.`, `_`, `-`; never empty, `.` or `..`.

    A name that had to be changed gets eight digits of its hash, so two names never share a folder.
    """
    ascii_name = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode("ascii")
    safe = re.sub(r"[^A-Za-z0-9._-]+", "_", ascii_name).strip("._-")[:80]
    if safe == name and safe:
        return safe
    return f"{safe or 'x'}-{digest(name, 8)}"


UNREADABLE = (OSError, EOFError, zlib.error, lzma.LZMAError)
"""What a file that is missing, cut off or damaged raises while it is read or decompressed."""


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` with `content`; a reader never sees half of it, not even after a power cut."""
    raw = content.encode("utf-8") if isinstance(content, str) else content
    write_atomic_with(path, lambda file: file.write(raw))


def write_atomic_with(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """As `write_atomic`, for content that `write` puts into a binary file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


_TRIAL_BYTES = 2**16
_LONGEST_NAME = 255
"""Bytes of the name of a file or folder, on the usual file systems."""


def require_writable(folder: Path, what: str) -> None:
    """Try whether files can be written into `folder`. Nothing stays of the trial.

    A folder that does not exist is not made: the nearest one above it is tried.

    Args:
        folder: It need not exist.
        what: The option that names it, for the message.

    Raises:
        ConfigError: If it is no folder, may not be written to, or is on a file system that is full or
            read-only.
    """
    try:
        _try_to_write(folder)
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{what} {folder}: no file can be written there ({reason}); name another folder"
        ) from None


def _try_to_write(folder: Path) -> None:
    place = folder
    while not place.exists():
        if place.is_symlink():
            raise NotADirectoryError(errno.ENOTDIR, "a link to nothing")
        if len(os.fsencode(place.name)) > _LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        if place == place.parent:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        place = place.parent
    if not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    with TemporaryFile(dir=place) as file:
        file.write(bytes(_TRIAL_BYTES))


@contextmanager
def locked(lock: Path, what: Path, doing: str) -> Iterator[None]:
    """Hold the file `lock`; the system takes it from a process that dies.

    Args:
        lock: The file, made if it is missing.
        what: What it stands for, as errors name it.
        doing: What its holder does with that, such as `training in`.

    Raises:
        ConfigError: If another process holds it, or it cannot be made.
    """
    from filelock import FileLock, Timeout  # of the extra hf, like all that is locked

    try:
        lock.parent.mkdir(parents=True, exist_ok=True)
        held = FileLock(lock, timeout=0)
        held.acquire()
    except Timeout:  # an OSError too
        raise ConfigError(f"{what}: another process is {doing} it; wait for its end, or stop it") from None
    except OSError as error:
        raise ConfigError(f"{what}: cannot be written ({error.strerror})") from None
    try:
        yield
    finally:
        held.release()


def to_jsonl_gz(rows: Iterable[Any]) -> bytes:
    """Return `rows` as gzipped JSON Lines whose bytes depend on the rows alone (no time, no name)."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as file:
        for row in rows:
            # ASCII escapes: a lone surrogate in somebody's data must come back from the file as it went in.
            line = json.dumps(row, sort_keys=True, separators=(",", ":"), allow_nan=False)
            file.write(line.encode("ascii") + b"\n")
    return buffer.getvalue()


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, 64 hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_bytes(raw: bytes) -> str:
    """Return the SHA-256 of `raw`, 64 hex digits."""
    return hashlib.sha256(raw).hexdigest()


def open_text(path: Path) -> io.TextIOWrapper:
    """Open a plain, `.gz` or `.xz` file as UTF-8, a byte order mark aside; newlines stay as they are."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline="\n")
    if path.suffix == ".xz":
        return io.TextIOWrapper(lzma.open(path, "rb"), encoding="utf-8-sig", newline="\n")
    return path.open("r", encoding="utf-8-sig", newline="\n")


def decompressed_head(path: Path, raw: bytes) -> bytes:
    """Return what `raw`, the first bytes of a plain, `.gz` or `.xz` file, says; the rest may be missing."""
    if path.suffix == ".gz":
        return zlib.decompressobj(wbits=31).decompress(raw)
    if path.suffix == ".xz":
        return lzma.LZMADecompressor().decompress(raw)
    return raw


def iter_jsonl(path: Path, *, keep_bad_lines: bool = False) -> Iterator[tuple[int, Any]]:
    """Yield (line number from 1, value) for each non-blank line.

    With `keep_bad_lines`, a line that is not JSON yields its DataError in place of a value.

    The file is iterated, never `str.splitlines`, which also splits on U+2028 inside replies.

    Raises:
        DataError: If the file cannot be read, is not UTF-8, is cut off, or a line is not JSON.
    """
    number = 0
    try:
        with open_text(path) as file:
            for number, line in enumerate(file, start=1):
                if not line.strip():
                    continue
                try:
                    value = json.loads(line)
                except ValueError as error:
                    problem = DataError(
                        f"not valid JSON ({error}); expected one object per line",
                        path=path,
                        line=number,
                        reason="line is not JSON",
                    )
                    if not keep_bad_lines:
                        raise problem from None
                    value = problem
                yield number, value
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason})", path=path, line=number + 1) from None
    except UNREADABLE as error:
        raise DataError(f"cannot be read: {error}", path=path) from None
