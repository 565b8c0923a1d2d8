"""One forward pass: from token ids to rewards, the cheaper of two ways.

padded   Every conversation is a row, padded on the right to the longest. For encoders, and for decoders that
         cannot do better.
shared   The distinct tokens of the batch stand in one row, a common prompt once (`hf_shared`). For decoders
         that pass its probe, where it means less work.
"""

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from functools import cached_property
from typing import Any

from rmbench.models.hf_device import Memory
from rmbench.models.hf_first_token import FirstToken
from rmbench.models.hf_labels import Readout
from rmbench.models.hf_load import Loaded, torch
from rmbench.models.hf_shared import SharedBackbone
from rmbench.models.hf_text import Encoded
from rmbench.models.prefixes import Forest, share_beginnings
from rmbench.models.row_groups import similar_length

_LOG = logging.getLogger(__name__)
TOKENS_PER_SEGMENT = 4
"""What one more segment costs, in tokens: its attention is computed apart from the others'."""

_TOKENS_PER_FORWARD = 32
"""What one more forward pass costs on a CPU, in tokens per thread: its small operations."""


class Forward:
    """Runs a classifier on encoded conversations.

    Args:
        loaded: The classifier.
        readout: Which logits are the reward.
        pad_id: Fills masked places.
        share: False reads every conversation in a row of its own.
    """

    def __init__(self, loaded: Loaded, readout: Readout, pad_id: int, *, share: bool = True) -> None:
        self._model, self._is_encoder = loaded.model, loaded.is_encoder
        self._readout, self._pad_id, self._share = readout, pad_id, share
        self._memory = Memory()

    @cached_property
    def sharing_problem(self) -> str | None:
        """Why conversations are not read together without padding; None where they are."""
        if self._is_encoder:
            return "an encoder: every token sees the whole text"
        if not self._share:
            return "it was asked not to"
        problem = self._shared.probe(lambda ids: self._last_hidden([Encoded(tuple(ids))])[0])
        if problem is not None:
            _LOG.info("prompts are not shared: %s", problem)
        return problem

    def rewards(self, rows: Sequence[Encoded]) -> list[float]:
        """Return the raw logit of each conversation.

        Raises:
            torch.OutOfMemoryError: If the batch is too large; the next one begins with what that leaves free.
        """
        with self._memory.in_use(self._model.device):
            return self._rewards(rows)

    def _rewards(self, rows: Sequence[Encoded]) -> list[float]:
        forest = None if self.sharing_problem else share_beginnings([row.ids for row in rows])
        with torch.inference_mode():
            if forest is not None and pays(self._shared, forest, rows, self._model.device):
                logits = self._model.score(self._shared.last_hidden(forest).float())
                return self._readout.rewards(logits)
            rewards = [0.0] * len(rows)
            for group in self._groups(rows):
                found = self._readout.rewards(self._padded_logits([rows[k] for k in group]))
                for k, reward in zip(group, found, strict=True):
                    rewards[k] = reward
        return rewards

    def _padded_logits(self, rows: Sequence[Encoded]) -> Any:
        """Return the logits of rows that are read together, (B, labels)."""
        if self._is_encoder:
            with nullcontext() if self.narrowing_problem else self._first_token.narrowed():
                return self._model(**self._padded(rows)).logits
        return self._model.score(self._last_hidden(rows).float())

    def _groups(self, rows: Sequence[Encoded]) -> list[list[int]]:
        return groups_of_rows(self._model.device, rows)

    def joint_length(self, rows: Sequence[Encoded]) -> int | None:
        """Return the tokens read for these in one batch; None where each is a padded row."""
        if self.sharing_problem:
            return None
        forest = share_beginnings([row.ids for row in rows])
        return None if self._shared.why_not(forest) else forest.n_tokens

    @cached_property
    def narrowing_problem(self) -> str | None:
        """Why an encoder's last layer computes every token; None where the first is enough."""

        def logits(rows: Sequence[tuple[int, ...]]) -> Any:
            return self._model(**self._padded([Encoded(row) for row in rows])).logits

        with torch.inference_mode():
            problem = self._first_token.probe(logits)
        if problem is not None:
            _LOG.info("the last layer computes every token: %s", problem)
        return problem

    @cached_property
    def _first_token(self) -> FirstToken:
        return FirstToken(self._model)

    @cached_property
    def _shared(self) -> SharedBackbone:
        return SharedBackbone(self._model)

    def _last_hidden(self, rows: Sequence[Encoded]) -> Any:
        """Return the hidden state of the last attended token of each row, (B, D)."""
        backbone = getattr(self._model, self._model.base_model_prefix)
        inputs = self._padded(rows)
        alone = self._shared.reading_rows() if self._share else nullcontext()
        with alone, torch.inference_mode():
            hidden = backbone(**inputs, use_cache=False).last_hidden_state  # (B, T, D)
        places = torch.arange(hidden.shape[1], device=hidden.device)
        last = (places * inputs["attention_mask"]).argmax(dim=1)  # by mask, never by padding id
        return hidden[torch.arange(len(rows), device=hidden.device), last]

    def _padded(self, rows: Sequence[Encoded]) -> dict[str, Any]:
        return padded(rows, self._pad_id, self._model.device)


def pays(shared: SharedBackbone, forest: Forest, rows: Sequence[Encoded], device: Any) -> bool:
    """Return whether reading rows as a forest is possible, and less work than padding them."""
    groups = [[len(rows[k].ids) for k in group] for group in groups_of_rows(device, rows)]
    n_padded = sum(len(lengths) * max(lengths) for lengths in groups)
    n_shared = forest.n_tokens + TOKENS_PER_SEGMENT * (len(forest.starts) - 1)
    return n_shared <= n_padded and shared.why_not(forest) is None


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


def groups_of_rows(device: Any, rows: Sequence[Encoded]) -> list[list[int]]:
    """Return which rows are read together: all, or on a CPU those of similar length."""
    if device.type != "cpu":
        return [list(range(len(rows)))]
    return similar_length([len(row.ids) for row in rows], _TOKENS_PER_FORWARD * torch.get_num_threads())
