"""Forward passes of a decoder: from token ids to hidden states at chosen tokens, the cheaper of two ways.

shared   The distinct tokens of the batch stand in one row, a common prompt once (`SharedBackbone`). For
         decoders that pass its probe, where it means less work.
padded   Every conversation is a row, padded on the right to the longest of its group.
"""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

import numpy as np

from rmbench.models.hf.device import Memory
from rmbench.models.hf.forest import Forest, share_beginnings
from rmbench.models.hf.load import torch
from rmbench.models.hf.sharing import SharedBackbone
from rmbench.models.hf.text import Encoded

_LOG = logging.getLogger(__name__)
TOKENS_PER_SEGMENT = 4
"""What one more segment costs, in tokens: its attention is computed apart from the others'."""
_TOKENS_PER_FORWARD = 32
"""What one more forward pass costs on a CPU, in tokens per thread: its small operations."""


class TokenStates:
    """Reads batches with the backbone of a decoder.

    Args:
        model: A model of transformers, on its device.
        pad_id: Fills masked places.
        share: False reads every conversation in a row of its own.
    """

    def __init__(self, model: Any, pad_id: int, *, share: bool = True) -> None:
        self._model, self._pad_id, self._share = model, pad_id, share
        self._memory = Memory()

    @cached_property
    def sharing_problem(self) -> str | None:
        """Why conversations are not read together without padding; None where they are."""
        if not self._share:
            return "it was asked not to"
        problem = self._shared.probe(lambda ids: self.at_last([Encoded(tuple(ids))])[0])
        if problem is not None:
            _LOG.info("prompts are not shared: %s", problem)
        return problem

    def joint_length(self, rows: Sequence[Encoded]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        if self.sharing_problem:
            return None
        forest = share_beginnings([row.ids for row in rows])
        return None if self._shared.why_not(forest) else forest.n_tokens

    def at(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> Any:
        """Return the hidden states at some places of each row, (sum of places, D), row after row.

        Raises:
            torch.OutOfMemoryError: If the batch is too large; the next one begins with what that leaves free.
        """
        parts: list[Any] = [None] * len(rows)
        for group, found in self.passes(rows, places):
            for k, part in zip(group, found.split([len(places[k]) for k in group]), strict=True):
                parts[k] = part
        return torch.cat(parts)

    def passes(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> list[tuple[list[int], Any]]:
        """Return for each forward pass the numbers of its rows, and their hidden states as in `at`."""
        with self._memory.in_use(self._model.device), torch.inference_mode():
            forest = None if self.sharing_problem else share_beginnings([row.ids for row in rows])
            if forest is not None and self._pays(forest, rows):
                return [(list(range(len(rows))), self._in_forest(forest, places))]
            return [
                (group, self._in_padded_rows([rows[k] for k in group], [places[k] for k in group]))
                for group in groups_of_rows(self._model.device, rows)
            ]

    def at_last(self, rows: Sequence[Encoded]) -> Any:
        """Return the hidden state of the last token of each row, (B, D), read as padded rows."""
        with torch.inference_mode():
            return self._in_padded_rows(rows, last_places(rows))

    @cached_property
    def _shared(self) -> SharedBackbone:
        return SharedBackbone(self._model)

    def _pays(self, forest: Forest, rows: Sequence[Encoded]) -> bool:
        """Return whether reading rows as a forest is possible, and less work than padding them."""
        groups = [[len(rows[k].ids) for k in group] for group in groups_of_rows(self._model.device, rows)]
        n_padded = sum(len(lengths) * max(lengths) for lengths in groups)
        n_shared = forest.n_tokens + TOKENS_PER_SEGMENT * (len(forest.starts) - 1)
        return n_shared <= n_padded and self._shared.why_not(forest) is None

    def _in_forest(self, forest: Forest, places: Sequence[Sequence[int]]) -> Any:
        at = np.concatenate([forest.path(k)[np.asarray(p, dtype=np.int64)] for k, p in enumerate(places)])
        return self._shared.hidden(forest)[torch.from_numpy(at).to(self._model.device)]

    def _in_padded_rows(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> Any:
        inputs = padded(rows, self._pad_id, self._model.device)
        with self._shared.reading_rows() if self._share else nullcontext():
            hidden = self._model.base_model(**inputs, use_cache=False).last_hidden_state  # (B, T, D)
        of_row = torch.tensor([k for k, found in enumerate(places) for _ in found], dtype=torch.long)
        at = torch.tensor([place for found in places for place in found], dtype=torch.long)
        return hidden[of_row, at]


def last_places(rows: Sequence[Encoded]) -> list[list[int]]:
    """Return the place of the last token of each row."""
    return [[len(row.ids) - 1] for row in rows]


def padded(rows: Sequence[Encoded], pad_id: int, device: Any) -> dict[str, Any]:
    """Return a model's inputs, (B, T) each, padded on the right; type ids only where all rows have them."""
    width = max(len(row.ids) for row in rows)
    ids = torch.full((len(rows), width), pad_id, dtype=torch.long)
    mask, types = (torch.zeros((len(rows), width), dtype=torch.long) for _ in range(2))
    for k, row in enumerate(rows):
        ids[k, : len(row.ids)] = torch.tensor(row.ids)
        mask[k, : len(row.ids)] = 1
        if row.type_ids is not None:
            types[k, : len(row.ids)] = torch.tensor(row.type_ids)
    inputs = {"input_ids": ids, "attention_mask": mask}
    if all(row.type_ids is not None for row in rows):
        inputs["token_type_ids"] = types
    return {name: value.to(device) for name, value in inputs.items()}


def similar_length(lengths: Sequence[int], tokens_per_forward: int) -> list[list[int]]:
    """Return rows in groups of similar length, longest first: the cut that costs a model least.

    A group costs its padded tokens and `tokens_per_forward`. Found exactly, in O(n^2).

    Args:
        lengths: Tokens of each row.
        tokens_per_forward: What one more forward and backward pass costs, in tokens.
    """
    order = np.argsort(-np.asarray(lengths), kind="stable")
    widths = np.asarray(lengths)[order]
    least, first = np.zeros(len(order) + 1), np.zeros(len(order) + 1, dtype=int)
    for end in range(1, len(order) + 1):
        costs = least[:end] + widths[:end] * (end - np.arange(end)) + tokens_per_forward
        first[end] = costs.argmin()
        least[end] = costs[first[end]]
    groups: list[list[int]] = []
    end = len(order)
    while end:
        groups.append(order[first[end] : end].tolist())
        end = int(first[end])
    return groups[::-1]


def groups_of_rows(device: Any, rows: Sequence[Encoded]) -> list[list[int]]:
    """Return which rows are read together: all, or on a CPU those of similar length."""
    if device.type != "cpu":
        return [list(range(len(rows)))]
    return similar_length([len(row.ids) for row in rows], _TOKENS_PER_FORWARD * torch.get_num_threads())
