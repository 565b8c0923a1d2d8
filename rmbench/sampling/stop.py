"""Responses that end before a text, within `generate` of transformers."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers

from rmbench.sampling.engine import where_it_stops


class StopAt(transformers.StoppingCriteria):  # type: ignore[misc, unused-ignore]
    """Ends each row once what it says holds one of some texts, and knows how many tokens that took.

    All of a row's tokens are decoded at every step: where a text begins within a token and ends within
    another one, no comparison of token ids would find it. A row's end depends on its own tokens alone.

    Args:
        stops: The texts, none of them empty.
        ends: Token ids that end a row by themselves.
        text_of: Function of a row's tokens without such an end: the response.
        n_rows: Rows.
        n_prompt: Tokens before the response.
    """

    def __init__(
        self,
        stops: Sequence[str],
        ends: Sequence[int],
        text_of: Callable[[list[int]], str],
        n_rows: int,
        n_prompt: int,
    ) -> None:
        self._stops, self._ends, self._text_of, self._n_prompt = stops, frozenset(ends), text_of, n_prompt
        self.found: list[int | None] = [None] * n_rows
        """Tokens of each row up to and with those that hold a stop text; None for a row without one."""
        self._is_done = [False] * n_rows

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """Return which rows have ended, (rows,)."""
        for k, row in enumerate(input_ids[:, self._n_prompt :].tolist()):
            if self._is_done[k]:
                continue
            if row[-1] in self._ends:
                self._is_done[k] = True
            elif where_it_stops(self._text_of(row), self._stops) is not None:
                self.found[k], self._is_done[k] = len(row), True
        return torch.tensor(self._is_done, device=input_ids.device)
