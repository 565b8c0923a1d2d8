"""Lengths that a config names: beyond them a model reads texts in another way.

A window or chunk is how many tokens a layer's attention sees. A switch is the length from which a model turns
its positions in another way (LongRoPE: short and long factors). transformers chooses the factors by the
longest text of a batch, so texts on the two sides of a switch must not be read together.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

_WINDOW = re.compile(r"window|chunk_size|chunk_length|local_attention|local_radius|block_size|index_topk")
_NO_WINDOW = re.compile(r"layers|pattern|feed_forward|lm_head|num_|prob|dropout|mamba|index_block")
_STATIC_ROPE = frozenset({"default", "linear", "proportional", "yarn", "llama3", "mrope"})
"""Kinds of rotary positions that do not depend on the length of the text; `dynamic` is another one that does
not below the model's most positions, where rmbench cuts."""
_ORIGINAL = "original_max_position_embeddings"


def named_window(config: Any) -> int | None:
    """Return the shortest window, chunk or block of attention that a config names; None for none."""
    told = config.get_text_config().to_dict()
    found = [
        number
        for key, value in told.items()
        if _WINDOW.search(key) and not _NO_WINDOW.search(key)
        for number in _whole(value)
    ]
    return min(found, default=None)


def switches(config: Any) -> tuple[int, ...]:
    """Return the lengths above which a model turns its positions otherwise, ascending."""
    told = config.get_text_config().to_dict()
    found = set[int]()
    for key in ("rope_parameters", "rope_scaling"):
        for rope in _ropes(told.get(key)):
            kind = str(rope.get("rope_type") or rope.get("type") or "default")
            if kind not in (*_STATIC_ROPE, "dynamic"):
                found |= set(_whole(rope.get(_ORIGINAL) or told.get(_ORIGINAL)))
    return tuple(sorted(found))


def side_of(n_tokens: int, at: tuple[int, ...]) -> int:
    """Return how many of the switches a text of so many tokens is beyond."""
    return sum(n_tokens > switch for switch in at)


def _ropes(value: Any) -> Iterator[Mapping[str, Any]]:
    """Yield the rotary settings of a config: one, or one per kind of layer."""
    if not isinstance(value, Mapping):
        return
    yield value
    yield from (each for each in value.values() if isinstance(each, Mapping))


def _whole(value: Any) -> list[int]:
    """Return the whole numbers above 1 in a value of a config: a number, or a list of them."""
    several = value if isinstance(value, list | tuple) else [value]
    return [n for n in several if isinstance(n, int) and not isinstance(n, bool) and n > 1]
