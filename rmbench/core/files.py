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
import platform
import re
import stat
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

from rmbench.errors import ConfigError, DataError, first_line
from rmbench.types import Turn

IDENTITY_VERSION = 1


_CANONICAL = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def canonical_json(value: Any) -> str:
    """Return `value` as canonical JSON. Raises ValueError on NaN and infinity."""
    return _CANONICAL.encode(value)


def digest(value: Any, length: int = 64) -> str:
    """Return the first `length` hex digits of the SHA-256 of the canonical JSON of `value`."""
    # surrogatepass: a lone surrogate is legal in JSON text, and must have an identity like any other string.
    raw = canonical_json(value).encode("utf-8", "surrogatepass")
    return hashlib.sha256(raw).hexdigest()[:length]


def identity_of(turn: Turn) -> list[Any]:
    """Return what a turn's identity is made of: role and text, and the rest only where there is some."""
    more = {key: value for key, value in turn.items() if key not in ("role", "content") and value is not None}
    return [turn["role"], turn["content"], more] if more else [turn["role"], turn["content"]]


def conversation_key(turns: Sequence[Turn]) -> str:
    """Return the identity of a conversation: all that its turns hold, 32 hex digits."""
    return digest([identity_of(turn) for turn in turns], 32)


def pair_key(prompt: Sequence[Turn], first: str, second: str) -> str:
    """Return the identity of an ordered pair of replies, 32 hex digits."""
    return digest(["pair", [identity_of(turn) for turn in prompt], first, second], 32)


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
LONGEST_LINE = 64 * 2**20
"""Characters of a line, or of an element of an array, beyond which a file is refused."""
MOST_BLANK_LINES = 10**6
"""Blank lines on end beyond which a file is refused."""
DEEPEST = 100
"""Levels of lists and mappings beyond which a value is refused."""
MOST_DIGITS = 308
"""Digits of a whole number beyond which it is refused: no float holds it."""
LARGEST_TEXT = 64 * 2**20
"""Bytes beyond which a file that is read whole is refused."""


class JsonError(ValueError):
    """JSON that more text cannot mend: a key given twice, too many levels, or too many digits."""


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text, in which no key is given twice.

    Raises:
        ValueError: If it is not JSON, gives a key twice, has more than `DEEPEST` levels, or a whole number of
            more than `MOST_DIGITS` digits.
    """
    if isinstance(text, bytes):
        text = text.decode("utf-8")
    value, end = raw_decode(text, len(text) - len(text.lstrip(_SPACE)))
    if text[end:].strip(_SPACE):
        raise JsonError(f"Extra data: {text[end:].strip()[:20]!r}")
    check_depth(value)
    return value


def raw_decode(text: str, start: int) -> tuple[Any, int]:
    """Return the JSON value that begins at `start`, and its end; it raises as `parse_json` does.

    Of levels, it only refuses as many as Python cannot read: about 900.
    """
    try:
        return _DECODER.raw_decode(text, start)
    except RecursionError:
        raise _too_deep() from None


def check_depth(value: Any) -> None:
    """Raise JsonError if a value has more than `DEEPEST` levels of lists and mappings."""
    level = [value]
    for _ in range(DEEPEST + 1):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, dict | list)]
        if not inner:
            return
        level = [v for values in inner for v in values if isinstance(v, dict | list)]
    raise _too_deep()


def _too_deep() -> JsonError:
    return JsonError(f"more than {DEEPEST} levels of lists and mappings")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = next(key for n, (key, _) in enumerate(pairs) if key in dict(pairs[:n]))
        raise JsonError(f"the key {twice!r} is given twice")
    return found


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS:
        raise JsonError(f"a number of {len(text.lstrip('-')):,} digits; expected at most {MOST_DIGITS}")
    return int(text)


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_int=_whole)
_SPACE = " \t\n\r"


def require_file(path: Path, what: str = "") -> Path:
    """Return `path` if it is a regular file. A pipe or a device might never end.

    Raises:
        DataError: If there is none, or it is something else; `what` begins the message.
    """
    where = f"{what}: {path}" if what else path
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        raise DataError("there is no such file", path=where) from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        raise DataError(f"cannot be read: {getattr(error, 'strerror', error)}", path=where) from None
    if stat.S_ISDIR(mode):
        raise DataError("a folder; expected a file", path=where)
    if not stat.S_ISREG(mode):
        raise DataError("a pipe, device or socket; expected a file", path=where)
    return path


def read_whole(path: Path, most: int = LARGEST_TEXT, what: str = "") -> str:
    """Return the text of a UTF-8 file.

    Args:
        path: A regular file.
        most: Bytes beyond which it is refused.
        what: What it is, for messages.

    Raises:
        DataError: If it is no regular file, is larger, cannot be read, or is not UTF-8.
    """
    where = f"{what}: {path}" if what else path
    if (size := require_file(path, what).stat().st_size) > most:
        raise DataError(f"{size:,} bytes; expected at most {most:,}", path=where)
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason})", path=where) from None
    except OSError as error:
        raise DataError(f"cannot be read: {error.strerror}", path=where) from None


def write_atomic(path: Path, content: str | bytes) -> None:
    """Replace `path` with `content`; a reader never sees half of it, not even after a power cut."""
    raw = content.encode("utf-8") if isinstance(content, str) else content
    write_atomic_with(path, lambda file: file.write(raw))


def write_atomic_with(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """As `write_atomic`, for content that `write` puts into a binary file.

    A link stays, and its target is replaced. A device or a pipe (`/dev/null`, `/dev/stdout`) is written to; a
    pipe that nobody reads is an OSError.
    """
    if not path.name:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    path = Path(os.path.realpath(path))
    if path.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), str(path))
    if path.exists() and not path.is_file() and not path.is_dir():
        descriptor = os.open(path, os.O_WRONLY | os.O_NONBLOCK)  # else a pipe would wait for its reader
        os.set_blocking(descriptor, True)
        with os.fdopen(descriptor, "wb") as file:
            write(file)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    start = f".{path.name[:100]}.{_HOST}-"
    _remove_partials(path.parent, start)
    partial = path.with_name(f"{start}{os.getpid()}-{threading.get_ident()}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


_HOST = hashlib.sha256(platform.node().encode("utf-8", "replace")).hexdigest()[:6]
"""This machine, in the names of partial files: process numbers of others mean nothing here."""


def _remove_partials(folder: Path, start: str) -> None:
    """Remove what processes of this machine left that died while they wrote the file."""
    for path in folder.iterdir():
        if path.name.startswith(start) and path.name.endswith(".partial"):
            process = path.name[len(start) :].partition("-")[0]
            if process.isdigit() and not _is_alive(int(process)):
                path.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # somebody else's, or not to be known
        return True
    return True


def read_json(path: Path, what: str = "", most: int = LARGEST_TEXT) -> Any:
    """Return the value of a JSON file. Raises DataError as `read_whole` does, and where it is not JSON."""
    text = read_whole(path, most, what)
    try:
        return parse_json(text.removeprefix("\ufeff"))
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", path=f"{what}: {path}" if what else path) from None


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
    except OSError as error:
        raise ConfigError(
            f"{what} {folder}: no file can be written there ({error.strerror}); name another folder"
        ) from None


def _try_to_write(folder: Path) -> None:
    if "\0" in str(folder):
        raise OSError(errno.EINVAL, "a null character in the name")
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
    """Open a plain, `.gz`, `.xz` or `.zst` file as UTF-8, a byte order mark aside; newlines stay."""
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path, "rb"), encoding="utf-8-sig", newline="\n")
    if path.suffix == ".xz":
        # Not the format without a mark of its own, as which a file of zeros would be read without end.
        packed = lzma.open(path, "rb", format=lzma.FORMAT_XZ)  # noqa: SIM115
        return io.TextIOWrapper(packed, encoding="utf-8-sig", newline="\n")
    if path.suffix == ".zst":
        import pyarrow

        stream = pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")
        return io.TextIOWrapper(io.BufferedReader(stream), encoding="utf-8-sig", newline="\n")
    return path.open("r", encoding="utf-8-sig", newline="\n")


def decompressed_head(path: Path, raw: bytes) -> bytes:
    """Return what `raw`, the first bytes of a plain, `.gz` or `.xz` file, says; the rest may be missing."""
    if path.suffix == ".gz":
        return zlib.decompressobj(wbits=31).decompress(raw)
    if path.suffix == ".xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ).decompress(raw)
    return raw


def iter_jsonl(path: Path, *, keep_bad_lines: bool = False) -> Iterator[tuple[int, Any]]:
    """Yield (line number from 1, value) for each non-blank line.

    With `keep_bad_lines`, a line that is not JSON yields its DataError in place of a value.

    The file's own lines are read, never `str.splitlines`, which also splits on U+2028 inside replies.

    Raises:
        DataError: If it is no regular file, cannot be read, is not UTF-8 or cut off, or a line is not JSON or
            too long.
    """
    number, blank = 0, 0
    require_file(path)
    try:
        with open_text(path) as file:
            while line := file.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE:
                    raise DataError(f"a line of {LONGEST_LINE:,} characters or more", path=path, line=number)
                if line.isspace():
                    blank += 1
                    if blank == MOST_BLANK_LINES:
                        raise DataError(f"{blank:,} blank lines on end", path=path, line=number)
                    continue
                blank = 0
                value = _value_of(line, path, number)
                if isinstance(value, DataError) and not keep_bad_lines:
                    raise value
                yield number, value
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason})", path=path, line=number + 1) from None
    except UNREADABLE as error:
        raise DataError(f"cannot be read: {error}", path=path) from None


def _value_of(line: str, path: Path, number: int) -> Any:
    """Return the value of a line, or the DataError that says why it has none."""
    try:
        value, end = raw_decode(line, len(line) - len(line.lstrip(_SPACE)))
        if end < len(line) and not line[end:].isspace():
            raise JsonError(f"Extra data: {line[end:].strip()[:20]!r}")
    except ValueError as error:
        problem = f"not valid JSON ({error}); expected one object per line"
        return DataError(problem, path=path, line=number, reason="line is not JSON")
    return value


LARGEST_ARRAY = 256 * 2**20
"""Bytes of an array of an `.npz` file, unpacked, beyond which the file is refused."""


def read_arrays(
    path: Path, shapes: Mapping[str, tuple[str, int]], most: int = LARGEST_ARRAY, raw: bytes | None = None
) -> dict[str, Any]:
    """Return arrays of an `.npz` file by name. A pickle in it is never run.

    Args:
        path: The file.
        shapes: Name -> type, as numpy writes it (`float64`, or `str` for text of any length), and number of
            dimensions.
        most: Bytes of one array, unpacked, beyond which the file is refused.
        raw: Its bytes, where they are read already.

    Raises:
        DataError: If the file cannot be read, or an array is missing, too large, or of another type or shape.
    """
    import numpy as np  # only here: `rmbench --help` starts without it

    require_file(path)
    try:
        place = path if raw is None else io.BytesIO(raw)
        with zipfile.ZipFile(place) as file:
            for part in file.infolist():
                if part.file_size > most:
                    raise ValueError(f"{part.filename}: {part.file_size:,} bytes; expected at most {most:,}")
        with np.load(place, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in shapes}
        for name, (kind, n_dimensions) in shapes.items():
            dtype, n = found[name].dtype, found[name].ndim
            if n != n_dimensions or not (dtype.kind == "U" if kind == "str" else dtype == np.dtype(kind)):
                raise ValueError(f"{name!r}: {dtype} of {n} dimensions; expected {kind} of {n_dimensions}")
    except _DAMAGED as error:
        raise DataError(f"damaged ({first_line(error)})", path=path) from None
    return found


_DAMAGED = (
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError,
    NotImplementedError, RecursionError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile and numpy raise for a file that is damaged."""
