"""Arrays of `.npz` files: of the type and shape that is expected, of bounded size, and never a pickle."""

import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.core.files import require_file
from rmbench.errors import DataError, first_line

MOST_BYTES = 256 * 2**20
"""Bytes of one array, unpacked: a larger one is not read."""

_DAMAGED = (
    OSError, EOFError, ValueError, TypeError, LookupError, AttributeError, OverflowError, MemoryError,
    NotImplementedError, RecursionError, SyntaxError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What zipfile and numpy raise for a file that is damaged."""


def read_arrays(
    path: Path, shapes: Mapping[str, tuple[str, int]], most: int = MOST_BYTES
) -> dict[str, NDArray[Any]]:
    """Return arrays of an `.npz` file by name.

    Args:
        path: The file.
        shapes: Name -> type, as numpy writes it (`float64`, or `str` for text of any length), and number of
            dimensions.
        most: Bytes of one array, unpacked, beyond which the file is refused.

    Raises:
        DataError: If the file cannot be read, or an array is missing, too large, or of another type or shape.
    """
    require_file(path)
    try:
        with zipfile.ZipFile(path) as file:
            for part in file.infolist():
                if part.file_size > most:
                    raise ValueError(f"{part.filename}: {part.file_size:,} bytes; expected at most {most:,}")
        with np.load(path, allow_pickle=False) as arrays:
            found = {name: arrays[name] for name in shapes}
        for name, (kind, n_dimensions) in shapes.items():
            if found[name].ndim != n_dimensions or not _is(found[name], kind):
                shown = f"{found[name].dtype} of {found[name].ndim} dimensions"
                raise ValueError(f"{name!r} is {shown}; expected {kind} of {n_dimensions}")
    except _DAMAGED as error:
        raise DataError(f"damaged ({first_line(error)})", path=path) from None
    return found


def _is(array: NDArray[Any], kind: str) -> bool:
    return array.dtype.kind == "U" if kind == "str" else array.dtype == np.dtype(kind)
