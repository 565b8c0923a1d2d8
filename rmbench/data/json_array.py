"""A JSON array, one element at a time: what is in memory is an element, not the file."""

import json
from collections.abc import Iterator
from typing import Any, TextIO

_CHUNK = 2**20
_SPACE = " \t\n\r"
_AFTER_VALUE = (",", "]", *_SPACE)


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
        raise TypeError(type(json.loads(text.rest())).__name__)
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
        while True:
            while self.at < len(self.buffer) and self.buffer[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.buffer) or self._is_whole:
                return self.buffer[self.at : self.at + 1]
            self._read(self._chunk)

    def value(self) -> Any:
        """Return the value that begins here."""
        size = self._chunk
        while True:
            try:
                value, end = json.JSONDecoder().raw_decode(self.buffer, self.at)
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

    def rest(self) -> str:
        """Return all that is left."""
        return self.buffer[self.at :] + self._file.read()

    def _read(self, size: int) -> None:
        more = self._file.read(size)
        self._is_whole = not more
        self.buffer, self.at = self.buffer[self.at :] + more, 0
