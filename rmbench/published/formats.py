"""The registry of published results' formats: a path in, runs out."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from rmbench.published.run import Import, PublishedRun
from rmbench.registry import Registry

Format: TypeAlias = Callable[[Path, Import], list[PublishedRun]]
"""(file or folder, what was asked for) -> every run that is there, read and checked; nothing is written."""

FORMATS: Registry[Format] = Registry("results format", group="rmbench.formats")

for _name, _target in {
    "rewardbench": "rmbench.published.rewardbench:read",
    "rm-bench": "rmbench.published.rm_bench:read",
    "judgebench": "rmbench.published.judgebench:read",
    "alpacaeval": "rmbench.published.alpacaeval:read",
    "rewardbench-bon": "rmbench.published.rewardbench_bon:read",
}.items():
    FORMATS.register_lazily(_name, _target)
