"""Readers of data, their options, and their registry."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from rmbench.core.options import NoOptions, made_of
from rmbench.core.registry import Declared, Registry
from rmbench.tasks.rows import BadRows, FoundItem

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
