"""Rows of files in any container, the handling of rows that do not fit, and the registry of readers.

A JSON array is read one element at a time, so that memory holds one element, not the file.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TextIO, TypeAlias, TypeVar

from rmbench.core.files import (
    LONGEST_LINE,
    UNREADABLE,
    JsonError,
    decompressed_head,
    iter_jsonl,
    open_text,
    parse_json,
    raw_decode,
    require_file,
)
from rmbench.core.options import NoOptions, made_of
from rmbench.core.registry import Declared, Registry
from rmbench.errors import DataError, first_line
from rmbench.types import Item

_CHUNK = 2**20
_SPACES = re.compile(r"[ \t\n\r]*")
_AFTER_VALUE = (",", "]", " ", "\t", "\n", "\r")


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


SUFFIXES = (".jsonl", ".jsonl.gz", ".jsonl.xz", ".json", ".json.gz", ".json.xz", ".parquet")

HEAD_BYTES = 2**20
"""Bytes at the beginning of a file from which its number of rows is estimated."""
_PARQUET_ROWS = 1024

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Row:
    """One raw row and where it stands."""

    value: Mapping[str, Any]
    path: Path
    line: int
    """Line of a JSON Lines file, else the row's number, from 1."""

    def error(
        self, problem: str, key: str | None = None, reason: str = "does not fit the format"
    ) -> DataError:
        """Return the error for this row."""
        return DataError(problem, path=self.path, line=self.line, key=key, reason=reason)


@dataclass(frozen=True, slots=True)
class FoundItem:
    """An item and the row that it came from."""

    item: Item
    row: Row


@dataclass(slots=True)
class BadRows:
    """Handling of rows that do not fit: stop at the first, or leave them out and count."""

    skip: bool
    dropped: Counter[str] = field(default_factory=Counter)
    """Reason -> rows (or responses, where the reason says so) left out."""

    def parse(self, rows: Iterable[Row], parse: Callable[[Row], T | None]) -> Iterator[T]:
        """Yield `parse(row)` for each row that fits; None stands for a row that was left out.

        Raises:
            DataError: At the first that does not, unless bad rows are skipped.
        """
        for row in rows:
            try:
                found = parse(row)
            except DataError as error:
                self.add(error)
                continue
            if found is not None:
                yield found

    def add(self, error: DataError) -> None:
        """Count one bad row, or raise it."""
        if not self.skip:
            raise error
        self.dropped[error.reason] += 1

    def leave_out(self, reason: str, count: int = 1) -> None:
        """Count what a benchmark's own rules leave out; never an error."""
        self.dropped[reason] += count


def data_files(path: Path, pattern: str | None = None) -> list[Path]:
    """Return the data files that `path` means: itself, or those inside it, sorted by name.

    Raises:
        ConfigError: If there is nothing that can be read.
    """
    if not path.exists():
        raise DataError("there is no such file or folder", path=path)
    if not path.is_dir():
        return [require_file(path)]
    if pattern:
        # The whole data set, or the folder in it that has the files.
        found = list(path.glob(pattern)) or list(path.glob(PurePosixPath(pattern).name))
        found = sorted(found, key=lambda p: p.as_posix())
        wanted = pattern
    else:
        found = sorted((p for p in path.iterdir() if p.name.endswith(SUFFIXES)), key=lambda p: p.name)
        wanted = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
    if not found:
        raise DataError(f"no file to read; looked for {wanted}", path=path)
    return found


def rows_of(path: Path, bad: BadRows) -> Iterator[Row]:
    """Yield the rows of one file: JSON Lines, a JSON array, or Parquet.

    Raises:
        DataError: If the file cannot be read, is empty, or holds something else than objects.
    """
    require_file(path)
    n_rows, n_bad = 0, bad.dropped.total()
    for line, value in _values(path, bad):
        n_rows += 1
        if isinstance(value, dict):
            yield Row(value, path, line)
        else:
            bad.add(
                DataError(
                    f"{type(value).__name__}; expected an object",
                    path=path,
                    line=line,
                    reason="row is not an object",
                )
            )
    if n_rows == 0 and bad.dropped.total() == n_bad:
        raise DataError("the file is empty", path=path)


def items_of(files: Iterable[Path], bad: BadRows, parse: Callable[[Row], Item | None]) -> Iterator[FoundItem]:
    """Yield the items of data that has one per row; `parse` gives None for a row that is left out.

    Raises:
        DataError: As `rows_of`, and at a row that does not fit, unless such rows are skipped.
    """

    def found(row: Row) -> FoundItem | None:
        item = parse(row)
        return None if item is None else FoundItem(item, row)

    for path in files:
        yield from bad.parse(rows_of(path, bad), found)


def estimated_rows_of(path: Path) -> int | None:
    """Return about how many rows a file has, by its beginning; None where that does not say (arrays)."""
    if not path.is_file():
        return None
    try:
        if path.name.endswith(".parquet"):
            from pyarrow.parquet import read_metadata

            with path.open("rb") as raw:
                return int(read_metadata(raw).num_rows)
        if path.name.endswith((".json", ".json.gz", ".json.xz")) and not _is_lines(path):
            return None
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        n_lines = decompressed_head(path, head).count(b"\n")
        return round(n_lines * path.stat().st_size / len(head)) if n_lines else None
    except (*UNREADABLE, ValueError):
        return None  # the reader says what is wrong


def _values(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
    if path.name.endswith(".parquet"):
        yield from _parquet(path)
    elif path.name.endswith((".json", ".json.gz", ".json.xz")) and not _is_lines(path):
        yield from enumerate(_array(path), start=1)
    else:
        yield from _lines(path, bad)


def _lines(path: Path, bad: BadRows) -> Iterator[tuple[int, Any]]:
    if not bad.skip:
        yield from iter_jsonl(path)
        return
    for line, value in iter_jsonl(path, keep_bad_lines=True):
        if isinstance(value, DataError):
            bad.add(value)
        else:
            yield line, value


def _is_lines(path: Path) -> bool:
    """Say whether a `.json` file holds one object per line, as some publishers name them."""
    try:
        with open_text(path) as file:
            if file.read(1) == "[":
                return False  # an array on one line is not read to know it
            file.seek(0)
            first = file.readline(LONGEST_LINE).strip()
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


def _parquet(path: Path) -> Iterator[tuple[int, Any]]:
    import pyarrow
    from pyarrow.parquet import ParquetFile

    try:
        # An open file: pyarrow takes some names for addresses, and a name is never a pattern.
        with path.open("rb") as raw, ParquetFile(raw) as file:
            columns = file.schema_arrow
            if twice := [name for name, n in Counter(columns.names).items() if n > 1]:
                raise DataError("two columns have this name", path=path, key=twice[0])
            # Columns of mixed types, as `datasets` writes them, hold JSON.
            mixed = {column.name: column.type for column in columns if "arrow.json" in str(column.type)}
            rows = (row for batch in file.iter_batches(_PARQUET_ROWS) for row in batch.to_pylist())
            for number, row in enumerate(rows, start=1):
                yield number, row | {name: _from_json(row[name], mixed[name]) for name in mixed}
    except (OSError, ValueError, pyarrow.ArrowException) as error:
        raise DataError(f"not a Parquet file that can be read: {first_line(error)}", path=path) from None


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


Read: TypeAlias = Callable[[list[Path], Any, BadRows], Iterator[FoundItem]]
"""(files or folder, options, bad rows) -> items with the rows that they came from."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Reader(Declared):
    """A reader; `run` is what reads. Made by `register_reader`."""

    options: type = NoOptions
    """Dataclass of its options."""
    whole_path: bool = False
    """True for a reader that finds its own files below the path that it is given."""

    def __call__(self, files: list[Path], options: Any, bad: BadRows) -> Iterator[FoundItem]:
        """Read; `options` is an instance of the dataclass, or a mapping that may hold more."""
        return self.run(files, made_of(self.options, options), bad)  # type: ignore[no-any-return]


READERS: Registry[Reader] = Registry(
    "reader",
    group="rmbench.readers",
    homes=("rmbench.benchmarks", "rmbench.benchmarks.rewardbench", "rmbench.benchmarks.sets"),
    adopt=lambda _, thing: thing if isinstance(thing, Reader) else Reader(run=thing),
)


def register_reader(
    name: str, *, options: type = NoOptions, whole_path: bool = False
) -> Callable[[Read], Reader]:
    """Register a reader of your own: `@register_reader("my-reader", options=MyOptions)`.

    In a file it is `reader: my_reader.py:my-reader` of a task; in a package, an entry point in the group
    `rmbench.readers` makes it `reader: my-reader` everywhere.

    Args:
        name: What tasks call it.
        options: A dataclass. Its fields are set by `-T` or the task's `data: {options: ...}`; the reader gets
            an instance.
        whole_path: See `Reader`.
    """
    return lambda read: READERS.register(name)(Reader(run=read, options=options, whole_path=whole_path))


READERS.register_lazily("jsonl", "rmbench.tasks.own:read_items")
READERS.register_lazily("pairs", "rmbench.tasks.own:read_pairs")
READERS.register_lazily("hh-rlhf", "rmbench.tasks.hh_rlhf:read")
