"""Rows of files in any container, the handling of rows that do not fit, and the registry of readers."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, TypeAlias, TypeVar

from rmbench.core.files import require_file
from rmbench.core.options import NoOptions, made_of
from rmbench.core.registry import Declared, Registry
from rmbench.errors import DataError
from rmbench.tasks.containers import SUFFIXES, values_of
from rmbench.tasks.folders import files_below, saved_files
from rmbench.types import Item

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
    remarks: list[str] = field(default_factory=list)
    """How files were read, for the user."""
    strata: dict[str, None] = field(default_factory=dict)
    """Strata that a reader found, which no task names."""
    option: str = "-T"
    """How the command that reads takes the reader's options, for messages."""
    first: dict[str, str] = field(default_factory=dict)
    """Reason -> the message of the first row that was left out for it."""

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
        self.first.setdefault(error.reason, str(error))

    def leave_out(self, reason: str, count: int = 1, row: Row | None = None) -> None:
        """Count what a benchmark's own rules leave out; never an error."""
        self.dropped[reason] += count
        if row is not None:
            self.first.setdefault(reason, f"{row.path.name}, line {row.line}")


def data_files(path: Path, pattern: str | None = None) -> list[Path]:
    """Return the data files that `path` means: itself, or those inside it, sorted by name.

    Raises:
        DataError: If there is nothing that can be read, or the folder holds several splits.
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
        found = saved_files(path) or files_below(path)
        wanted = ", ".join(f"*{suffix}" for suffix in SUFFIXES)
    if not found:
        raise DataError(f"no file to read; looked for {wanted}", path=path)
    return found


def rows_of(path: Path, bad: BadRows) -> Iterator[Row]:
    """Yield the rows of one file: JSON Lines, a JSON array, CSV, TSV, Parquet or Arrow.

    Raises:
        DataError: If the file cannot be read, is empty, or holds something else than objects.
    """
    require_file(path)
    n_rows, n_bad = 0, bad.dropped.total()
    for line, value in values_of(path):
        if isinstance(value, DataError):
            bad.add(value)
            continue
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


READERS.register_lazily("jsonl", "rmbench.tasks.layouts.read:reader")
READERS.register_lazily("pairs", "rmbench.tasks.own:read_pairs")
READERS.register_lazily("hh-rlhf", "rmbench.tasks.hh_rlhf:read")
