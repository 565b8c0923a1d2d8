"""The registry of readers: a path in, items out."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rmbench.core.registry import Registry
from rmbench.tasks.rows import BadRows, FoundItem

Reader: TypeAlias = Callable[[list[Path], Mapping[str, Any], BadRows], Iterator[FoundItem]]
"""(files or folder, options, bad rows) -> items with the rows that they came from."""

READERS: Registry[Reader] = Registry(
    "reader",
    group="rmbench.readers",
    homes=("rmbench.benchmarks", "rmbench.benchmarks.rewardbench", "rmbench.benchmarks.sets"),
)


def register_reader(name: str) -> Callable[[Reader], Reader]:
    """Register a reader of your own: `@register_reader("my-reader")`.

    In a file it is `reader: my_reader.py:my-reader` of a task; in a package, an entry point in the group
    `rmbench.readers` makes it `reader: my-reader` everywhere.
    """
    return READERS.register(name)


READERS.register_lazily("jsonl", "rmbench.tasks.own:read_items")
READERS.register_lazily("pairs", "rmbench.tasks.own:read_pairs")
READERS.register_lazily("hh-rlhf", "rmbench.tasks.hh_rlhf:read")

WHOLE_PATH = frozenset({"alpacaeval"})
"""Readers that find their own files below the path that they are given."""
