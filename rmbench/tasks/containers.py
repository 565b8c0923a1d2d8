"""Values of data files, one after the other: JSON Lines, JSON arrays, CSV, TSV, Parquet and Arrow.

All but Parquet and Arrow may be packed (`.gz`, `.xz`, `.zst`). A JSON array is read one element at a time, so
that memory holds one element, not the file.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, TextIO, TypeAlias

from rmbench.core.files import (
    LONGEST_LINE,
    UNREADABLE,
    JsonError,
    decompressed_head,
    iter_jsonl,
    open_text,
    parse_json,
    raw_decode,
)
from rmbench.errors import DataError, first_line

_CHUNK = 2**20
_SPACES = re.compile(r"[ \t\n\r]*")
_AFTER_VALUE = (",", "]", " ", "\t", "\n", "\r")
_PARQUET_ROWS = 1024
_PACKED = ("", ".gz", ".xz", ".zst")
_DELIMITERS = (",", ";", "\t")
_LONGEST_OF_TABLE = 2**24
"""Characters of a line."""

HEAD_BYTES = 2**20
"""Bytes at the beginning of a file from which its number of rows is estimated."""
SUFFIXES = (
    *(f".{kind}{packed}" for kind in ("jsonl", "json", "ndjson", "csv", "tsv") for packed in _PACKED),
    ".parquet",
    ".arrow",
)
"""Ends of the names of data files in a folder."""

Values: TypeAlias = Iterator[tuple[int, Any]]
"""(line or number from 1, value), or in place of the value the error of a line that is no JSON."""


def values_of(path: Path) -> Values:
    """Yield the values of a file by the end of its name; any other name is JSON Lines.

    Raises:
        DataError: If the file cannot be read, or is damaged.
    """
    kind = _kind_of(path)
    if kind == "json":
        return iter_jsonl(path, keep_bad_lines=True) if _is_lines(path) else enumerate(_array(path), start=1)
    return _KINDS.get(kind, _lines)(path)


def _kind_of(path: Path) -> str:
    """Return the end of a file's name, without that of its packing."""
    name = path.name
    packed = next((each for each in _PACKED[1:] if name.endswith(each)), "")
    return Path(name.removesuffix(packed)).suffix.removeprefix(".")


def is_table_of_text(path: Path) -> bool:
    """Say whether a file holds nothing but text, numbers included (CSV, TSV)."""
    return _kind_of(path) in ("csv", "tsv")


def estimated_rows_of(path: Path) -> int | None:
    """Return about how many rows a file has, by its beginning; None where that does not say (arrays)."""
    if not path.is_file():
        return None
    kind = _kind_of(path)
    try:
        if kind == "parquet":
            from pyarrow.parquet import read_metadata

            with path.open("rb") as raw:
                return int(read_metadata(raw).num_rows)
        if kind == "arrow" or path.suffix == ".zst" or (kind == "json" and not _is_lines(path)):
            return None
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        n_lines = decompressed_head(path, head).count(b"\n")
        return round(n_lines * path.stat().st_size / len(head)) if n_lines else None
    except (*UNREADABLE, ValueError):
        return None  # the reader says what is wrong


def _lines(path: Path) -> Values:
    return iter_jsonl(path, keep_bad_lines=True)


def iter_array(file: TextIO, chunk: int = _CHUNK) -> Iterator[Any]:
    """Yield the elements of the array that `file` holds; a file with another value raises TypeError.

    Args:
        file: At its start.
        chunk: Characters to read at once, at first; more where an element is longer.

    Raises:
        ValueError: If it is not JSON, or cut off; with the number of the element, after those before it.
        TypeError: If it is JSON and no array; the message is the name of its type.
    """
    text = _Text(file, chunk)
    if text.next() != "[":
        raise TypeError(type(text.value()).__name__)
    text.at += 1
    number = 0
    try:
        while (sign := text.next()) != "]":
            if number and sign != ",":
                raise ValueError("expected a comma or the end of the array")
            if number:
                text.at += 1
                text.next()
            number += 1
            yield text.value()
        text.at += 1
        if text.next():
            raise ValueError("more after the end of the array")
    except ValueError as error:
        raise ValueError(f"row {number}: {getattr(error, 'msg', error)}") from None


class _Text:
    """A window on a file's text: `buffer` from `at` on is what has not been read yet."""

    def __init__(self, file: TextIO, chunk: int) -> None:
        self._file, self._chunk = file, chunk
        self.buffer, self.at, self._is_whole = "", 0, False

    def next(self) -> str:
        """Return the next character that is no space, left in place; empty at the end."""
        spaces = 0
        while True:
            start, self.at = self.at, _SPACES.match(self.buffer, self.at).end()  # type: ignore[union-attr]
            if self.at < len(self.buffer) or self._is_whole:
                return self.buffer[self.at : self.at + 1]
            spaces += self.at - start
            if spaces > LONGEST_LINE:
                raise JsonError(f"more than {LONGEST_LINE:,} spaces on end")
            self._read(self._chunk)

    def value(self) -> Any:
        """Return the value that begins here."""
        size = self._chunk
        while True:
            try:
                value, end = raw_decode(self.buffer, self.at)
            except JsonError:
                raise
            except ValueError:
                if self._is_whole:
                    raise
            else:
                # "0." is 0 and a point, until more of the number is read.
                if self.buffer[end : end + 1] in _AFTER_VALUE or self._is_whole:
                    self.at = end
                    return value
            self._read(size)
            size *= 2  # of a long value little is decoded twice

    def _read(self, size: int) -> None:
        if len(self.buffer) - self.at > LONGEST_LINE:
            raise JsonError(f"an element of more than {LONGEST_LINE:,} characters")
        more = self._file.read(size)
        self._is_whole = not more
        self.buffer, self.at = self.buffer[self.at :] + more, 0


def _is_lines(path: Path) -> bool:
    """Say whether a `.json` file holds one object per line, as some publishers name them."""
    try:
        with open_text(path) as file:
            sign = file.read(1)
            if sign == "[":
                return False  # an array on one line is not read to know it
            first = "" if sign == "\n" else (sign + file.readline(LONGEST_LINE)).strip()
    except (*UNREADABLE, UnicodeDecodeError):
        return False  # the reader of whole files says what is wrong
    try:
        return isinstance(parse_json(first), dict)
    except ValueError:
        return False


def _array(path: Path) -> Iterator[Any]:
    try:
        with open_text(path) as file:
            yield from iter_array(file)
    except TypeError as error:
        raise DataError(f"{error}; expected an array of rows", path=path) from None
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason})", path=path) from None
    except ValueError as error:
        raise DataError(f"not valid JSON ({error})", path=path) from None
    except UNREADABLE as error:
        raise DataError(f"cannot be read: {error}", path=path) from None


def _table(path: Path) -> Values:
    """Yield the rows of a CSV or TSV file, all values text."""
    csv.field_size_limit(LONGEST_LINE)
    try:
        with open_text(path) as file:
            lines = _bounded(path, file)
            first = next(lines, "")
            sign = "\t" if _kind_of(path) == "tsv" else max(_DELIMITERS, key=first.count)
            rows = csv.reader(chain([first], lines), delimiter=sign, strict=True)
            names = next(rows, [])
            if twice := [name for name, n in Counter(names).items() if n > 1]:
                raise DataError("two columns have this name", path=path, key=twice[0])
            for cells in rows:
                if not cells:
                    continue  # a blank line
                if len(cells) != len(names):
                    problem = f"{len(cells)} cells; the first line has {len(names)}"
                    yield rows.line_num, DataError(problem, path=path, line=rows.line_num, reason="not a row")
                else:
                    yield (
                        rows.line_num,
                        dict(zip(names, cells, strict=True)),
                    )
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason})", path=path) from None
    except csv.Error as error:
        raise DataError(f"not a table that can be read: {error}", path=path) from None
    except UNREADABLE as error:
        raise DataError(f"cannot be read: {error}", path=path) from None


def _bounded(path: Path, file: TextIO) -> Iterator[str]:
    """Yield the lines of a table; a line that no table has is an error."""
    number = 0
    while line := file.readline(_LONGEST_OF_TABLE):
        number += 1
        if len(line) == _LONGEST_OF_TABLE or "\0" in line:
            what = (
                "a null character" if "\0" in line else f"a line of {_LONGEST_OF_TABLE:,} characters or more"
            )
            raise DataError(f"{what}; expected a table of text", path=path, line=number)
        yield line


def _parquet(path: Path) -> Values:
    from pyarrow.parquet import ParquetFile

    def batches(raw: Any) -> tuple[Any, Iterable[Any]]:
        file = ParquetFile(raw)
        return file.schema_arrow, file.iter_batches(_PARQUET_ROWS)

    return _of_arrow(path, "Parquet", batches)


def _arrow(path: Path) -> Values:
    from pyarrow import ipc

    def batches(raw: Any) -> tuple[Any, Iterable[Any]]:
        if raw.read(6) == b"ARROW1":
            file = ipc.open_file(raw)
            return file.schema, (file.get_batch(k) for k in range(file.num_record_batches))
        raw.seek(0)
        stream = ipc.open_stream(raw)
        return stream.schema, stream

    return _of_arrow(path, "Arrow", batches)


def _of_arrow(path: Path, name: str, open_batches: Callable[[Any], tuple[Any, Iterable[Any]]]) -> Values:
    import pyarrow

    try:
        # An open file: pyarrow takes some names for addresses, and a name is never a pattern.
        with path.open("rb") as raw:
            columns, batches = open_batches(raw)
            if twice := [name for name, n in Counter(columns.names).items() if n > 1]:
                raise DataError("two columns have this name", path=path, key=twice[0])
            # Columns of mixed types, as `datasets` writes them, hold JSON.
            mixed = {column.name: column.type for column in columns if "arrow.json" in str(column.type)}
            rows = (row for batch in batches for row in _checked(batch).to_pylist())
            for number, row in enumerate(rows, start=1):
                yield number, row | {name: _from_json(row[name], mixed[name]) for name in mixed}
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"not {_an(name)} file that can be read: {first_line(error)}", path=path) from None


def _checked(batch: Any) -> Any:
    """Return a batch whose offsets and texts are whole: reading others would crash, or give other texts."""
    batch.validate(full=True)
    return batch


def _an(name: str) -> str:
    return f"an {name}" if name[0] in "AEIOU" else f"a {name}"


def _from_json(value: Any, kind: Any) -> Any:
    """Return a value of the Arrow type `kind` with its JSON texts parsed."""
    import pyarrow

    if value is None:
        return None
    if isinstance(kind, pyarrow.JsonType):
        return parse_json(value)
    if isinstance(value, list):
        return [_from_json(entry, kind.value_type) for entry in value]
    if isinstance(value, dict):
        return {part.name: _from_json(value[part.name], part.type) for part in kind}
    return value


_KINDS: dict[str, Callable[[Path], Values]] = {
    "csv": _table, "tsv": _table, "parquet": _parquet, "arrow": _arrow,
}  # fmt: skip
