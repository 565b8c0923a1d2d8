"""Published JSON as a table, in any shape that occurs: an object of columns, a list of rows, bare objects."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rmbench.errors import DataError
from rmbench.files import UNREADABLE, open_text


@dataclass(frozen=True, slots=True)
class Table:
    """Columns of one length, and the values that stand for the whole file."""

    path: Path
    columns: Mapping[str, list[Any]]
    facts: Mapping[str, Any]
    """Keys whose value is no list: `model`, `model_type`."""
    n_rows: int

    def column(self, key: str) -> list[Any] | None:
        """Return a column, or None where it is missing or holds nothing but null."""
        values = self.columns.get(key)
        return None if values is None or all(v is None for v in values) else values

    def required(self, key: str) -> list[Any]:
        """Return a column. Raises DataError where there is none."""
        values = self.column(key)
        if values is None:
            known = ", ".join(sorted(self.columns)) or "none"
            raise DataError(f"the column is missing; columns: {known}", path=self.path, key=key)
        return values

    def fact(self, key: str) -> str | None:
        """Return a text that stands for the whole file, if there is one."""
        value = self.facts.get(key)
        return value if isinstance(value, str) and value.strip() else None

    def error(self, row: int, key: str, problem: str) -> DataError:
        """Return the error for one value."""
        return DataError(problem, path=self.path, line=row + 1, key=key, reason=f"{key} does not fit")


def read_objects(path: Path) -> list[Any]:
    """Return the JSON values of a file: one, or several one after the other without anything between.

    Lists are saved by some publishers as pretty-printed objects that are simply concatenated.

    Raises:
        DataError: If the file cannot be read, is empty, is cut off or holds something else.
    """
    try:
        with open_text(path) as file:
            text = file.read()
    except UnicodeDecodeError as error:
        raise DataError(f"not UTF-8 text ({error.reason})", path=path) from None
    except UNREADABLE as error:
        raise DataError(f"cannot be read: {error}", path=path) from None
    decoder, found, at = json.JSONDecoder(), [], _skip_space(text, 0)
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"not valid JSON, or cut off after {len(text):,} characters ({error})",
                path=path,
                reason="file is not JSON, or cut off",
            ) from None
        found.append(value)
        at = _skip_space(text, at)
    if not found:
        raise DataError("the file is empty", path=path, reason="file is empty")
    return found


def read_table(path: Path) -> Table:
    """Return the table in a file.

    Raises:
        DataError: If there is none, or its columns differ in length.
    """
    values = read_objects(path)
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    if not all(isinstance(v, dict) for v in values):
        raise DataError("expected an object of columns, or objects that are rows", path=path)
    if len(values) != 1 or not any(isinstance(v, list) for v in values[0].values()):
        keys = dict.fromkeys(key for row in values for key in row)
        columns = {key: [row.get(key) for row in values] for key in keys}
        facts = {k: c[0] for k, c in columns.items() if k.startswith("model") and len(set(map(str, c))) == 1}
        return Table(path, columns, facts, len(values))
    columns = {key: v for key, v in values[0].items() if isinstance(v, list)}
    sizes = {key: len(v) for key, v in columns.items()}
    if len(set(sizes.values())) > 1:
        shown = ", ".join(f"{key} {n:,}" for key, n in sizes.items())
        raise DataError(f"columns differ in length: {shown}", path=path, reason="columns differ in length")
    facts = {key: v for key, v in values[0].items() if not isinstance(v, list)}
    return Table(path, columns, facts, next(iter(sizes.values())))


def _skip_space(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at
