"""Encoded pairs, their order, and how they become tensors."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rmbench.models.hf_forward import padded
from rmbench.models.hf_text import Encoded, TextFormat
from rmbench.train.pairs import TrainingPair

_STEPS_PER_GROUP = 50


@dataclass(frozen=True, slots=True)
class EncodedPair:
    """One pair as the model reads it."""

    index: int
    """Position in the data, for messages."""
    chosen: Encoded
    rejected: Encoded
    strength: float
    """NaN where unknown."""

    @property
    def length(self) -> int:
        """Tokens of the longer one."""
        return max(len(self.chosen.ids), len(self.rejected.ids))


class EncodedPairs(torch.utils.data.Dataset[EncodedPair]):
    """All pairs of a split, encoded once.

    Args:
        pairs: The split.
        text_format: How the model reads a conversation.
        max_length: Tokens per conversation.
    """

    def __init__(self, pairs: Sequence[TrainingPair], text_format: TextFormat, max_length: int) -> None:
        self.pairs = pairs
        conversations = [p.conversation(reply) for p in pairs for reply in (p.chosen, p.rejected)]
        encoded = text_format.encode(conversations, max_length) if conversations else []
        self.n_truncated = sum(e.truncated for e in encoded)
        self._rows = [
            EncodedPair(
                k, encoded[2 * k], encoded[2 * k + 1], float("nan") if p.strength is None else p.strength
            )
            for k, p in enumerate(pairs)
        ]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> EncodedPair:
        return self._rows[index]

    @property
    def lengths(self) -> list[int]:
        """Tokens of the longer reply of each pair."""
        return [row.length for row in self._rows]


class StepSampler(torch.utils.data.Sampler[int]):
    """Whole optimiser steps of pairs of similar length, in an order that seed and epoch alone decide.

    What does not fill a step is left out of an epoch, other pairs each time: every step has exactly
    `step_size` pairs, however they are cut into micro-batches and spread over processes.

    Args:
        lengths: Tokens of each pair.
        step_size: Pairs per optimiser step, at most len(lengths).
        seed: Of the order.
    """

    def __init__(self, lengths: Sequence[int], step_size: int, seed: int) -> None:
        self._lengths = np.array(lengths)
        self._step_size, self._seed, self._epoch = step_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order comes next; the data loader calls this, also after a resume."""
        self._epoch = epoch

    def __len__(self) -> int:
        return len(self._lengths) // self._step_size * self._step_size

    def __iter__(self) -> Iterator[int]:
        rng = np.random.default_rng((self._seed, self._epoch))
        order = rng.permutation(len(self._lengths))[: len(self)]
        group = self._step_size * _STEPS_PER_GROUP
        parts = [order[k : k + group] for k in range(0, len(order), group)]
        sorted_parts = [part[np.argsort(-self._lengths[part], kind="stable")] for part in parts]
        steps = np.concatenate(sorted_parts).reshape(-1, self._step_size)
        yield from (int(k) for k in steps[rng.permutation(len(steps))].ravel())


class PairCollator:
    """Pads pairs on the right: the chosen ones first, then the rejected ones, in one batch of 2 n rows.

    Args:
        pad_id: Fills masked places.
    """

    def __init__(self, pad_id: int) -> None:
        self._pad_id = pad_id

    def __call__(self, pairs: Sequence[EncodedPair]) -> dict[str, Any]:
        """Return `input_ids`, `attention_mask`, `token_type_ids` if known, (2 n, T); `strength`, `index`."""
        rows = [p.chosen for p in pairs] + [p.rejected for p in pairs]
        batch = padded(rows, self._pad_id, torch.device("cpu"))
        return batch | {
            "strength": torch.tensor([p.strength for p in pairs], dtype=torch.float32),
            "index": torch.tensor([p.index for p in pairs]),
        }
