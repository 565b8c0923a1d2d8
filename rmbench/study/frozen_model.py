"""Rewards of a head on a frozen backbone, from representations that all heads of a study share.

Scoring every model of a study with its own forward passes would repeat the same backbone hundreds of times.
The reward is the same as that of the saved folder, up to rounding.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from rmbench.files import sha256_file
from rmbench.overlap import TrainingPrompts
from rmbench.train.base import Base, head_of
from rmbench.train.frozen import represent_texts
from rmbench.types import Item, Turn


class FrozenHead:
    """A trained head on a shared base; precomputed rewards for `rmbench.evaluate`.

    Args:
        base: The backbone that all heads of the study share.
        weights: What pins its weights.
        folder: The trained model.
        max_length: Tokens per conversation, as in training.
        cache: Folder of stored representations.
    """

    def __init__(self, base: Base, weights: str, folder: Path, max_length: int, cache: Path) -> None:
        from safetensors.torch import load_file

        self._base, self._weights, self._folder, self._cache = base, weights, folder, cache
        self._max_length = base.limit(max_length)
        state = load_file(folder / "model.safetensors")
        names = {id(p): n for n, p in base.model.named_parameters()}
        head: Any = head_of(base.model)
        self._weight = state[names[id(head.weight)]].double()[0]
        self._bias = float(state[names[id(head.bias)]][0]) if head.bias is not None else 0.0

    def fingerprint(self) -> Mapping[str, str]:
        """Return what pins the rewards: the folder's weights, format and length."""
        return {
            "kind": "frozen-head",
            "base": self._weights,
            "format": self._base.text_format.identity,
            "max_length": str(self._max_length),
            "weights": f"sha256:{sha256_file(self._folder / 'model.safetensors')}",
        }

    def overlap(self, prompts: Sequence[Sequence[Turn]]) -> Mapping[str, int] | None:
        """Return how many of `prompts` the head was trained on."""
        seen = TrainingPrompts.load(self._folder)
        return None if seen is None else seen.count(prompts)

    def rewards(self, items: Sequence[Item]) -> list[list[float]]:
        """Return one reward per response of each item."""
        conversations = [item.conversation(k) for item in items for k in range(len(item.responses))]
        encoded = self._base.text_format.encode(conversations, self._max_length)
        seen = torch.from_numpy(represent_texts(self._base, encoded, self._cache, self._weights)).double()
        flat = iter((seen @ self._weight + self._bias).tolist())
        return [[next(flat) for _ in item.responses] for item in items]
