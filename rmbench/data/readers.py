"""The registry of readers: a path in, items out."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from rmbench.data.rows import BadRows, FoundItem
from rmbench.registry import Registry

Reader: TypeAlias = Callable[[list[Path], Mapping[str, Any], BadRows], Iterator[FoundItem]]
"""(files or folder, options, bad rows) -> items with the rows that they came from."""

READERS: Registry[Reader] = Registry("reader", group="rmbench.readers")


def register_reader(name: str) -> Callable[[Reader], Reader]:
    """Register a reader of your own: `@register_reader("my-reader")`.

    In a file it is `reader: my_reader.py:my-reader` of a task; in a package, an entry point in the group
    `rmbench.readers` makes it `reader: my-reader` everywhere.
    """
    return READERS.register(name)


for _name, _target in {
    "jsonl": "rmbench.data.own:read_items",
    "pairs": "rmbench.data.own:read_pairs",
    "hh-rlhf": "rmbench.data.hh_rlhf:read",
    "rewardbench": "rmbench.data.rewardbench:read",
    "rewardbench2": "rmbench.data.rewardbench:read_v2",
    "rm-bench": "rmbench.data.rm_bench:read",
    "judgebench": "rmbench.data.judgebench:read",
    "alpacaeval": "rmbench.data.alpacaeval:read",
    "pandalm": "rmbench.data.pools:read_pandalm",
    "ppe-correctness": "rmbench.data.ppe:read_correctness",
    "ppe-preference": "rmbench.data.ppe:read_preference",
    "shp": "rmbench.data.shp:read",
    "summarize": "rmbench.data.summarize:read",
    "webgpt": "rmbench.data.comparisons:read_webgpt",
    "pku-safe-rlhf": "rmbench.data.comparisons:read_pku",
    "summeval": "rmbench.data.pools:read_summeval",
    "pm-scored": "rmbench.data.pm_scored:read",
    "gsm8k-pools": "rmbench.data.pools:read_gsm8k",
    "helpsteer2": "rmbench.data.helpsteer:read_v2",
    "helpsteer3": "rmbench.data.helpsteer:read_v3",
    "ultrafeedback": "rmbench.data.ultrafeedback:read",
    "m-rewardbench": "rmbench.data.m_rewardbench:read",
    "reward-math": "rmbench.data.reward_math:read",
    "rmb": "rmbench.data.rmb:read",
    "rag-rewardbench": "rmbench.data.contexts:read_rag",
    "memory-rewardbench": "rmbench.data.contexts:read_memory",
    "plan-rewardbench": "rmbench.data.trajectories:read",
}.items():
    READERS.register_lazily(_name, _target)

WHOLE_PATH = frozenset({"alpacaeval"})
"""Readers that find their own files below the path that they are given."""
