"""Hidden states at chosen tokens, for models that say something of each token: the cheaper of two ways.

As in `hf_forward`, where only the last token counts: the distinct tokens of a batch in one row, a common
prompt once, for decoders that pass the probe of `hf_shared` and where it means less work; else padded rows.
"""

import logging
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from rmbench.models.hf_device import Memory
from rmbench.models.hf_forward import groups_of_rows, padded, pays
from rmbench.models.hf_load import torch
from rmbench.models.hf_shared import SharedBackbone
from rmbench.models.hf_text import Encoded
from rmbench.models.prefixes import Forest, share_beginnings

_LOG = logging.getLogger(__name__)


class TokenStates:
    """Runs the backbone of a decoder.

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
        problem = self._shared.probe(self._last_of)
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
        with self._memory.in_use(self._model.device), torch.inference_mode():
            forest = None if self.sharing_problem else share_beginnings([row.ids for row in rows])
            if forest is not None and pays(self._shared, forest, rows, self._model.device):
                return self._in_forest(forest, places)
            parts: list[Any] = [None] * len(rows)
            for group in groups_of_rows(self._model.device, rows):
                found = self._in_padded_rows([rows[k] for k in group], [places[k] for k in group])
                for k, part in zip(group, found.split([len(places[k]) for k in group]), strict=True):
                    parts[k] = part
            return torch.cat(parts)

    @cached_property
    def _shared(self) -> SharedBackbone:
        return SharedBackbone(self._model)

    def _in_forest(self, forest: Forest, places: Sequence[Sequence[int]]) -> Any:
        at = np.concatenate([forest.path(k)[np.asarray(p, dtype=np.int64)] for k, p in enumerate(places)])
        return self._shared.hidden(forest)[torch.from_numpy(at).to(self._model.device)]

    def _in_padded_rows(self, rows: Sequence[Encoded], places: Sequence[Sequence[int]]) -> Any:
        inputs = padded(rows, self._pad_id, self._model.device)
        hidden = self._model.base_model(**inputs, use_cache=False).last_hidden_state  # (B, T, D)
        of_row = torch.tensor([k for k, found in enumerate(places) for _ in found], dtype=torch.long)
        at = torch.tensor([place for found in places for place in found], dtype=torch.long)
        return hidden[of_row, at]

    def _last_of(self, ids: Sequence[int]) -> Any:
        with torch.inference_mode():
            return self._in_padded_rows([Encoded(tuple(ids))], [[len(ids) - 1]])[0]
