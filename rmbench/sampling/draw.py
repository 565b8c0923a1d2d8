"""Drawing tokens with a random number per response, within `generate` of transformers."""

from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from rmbench.sampling.engine import Decoding


class Draw(transformers.LogitsProcessor):  # type: ignore[misc, unused-ignore]
    """Chooses each row's next token by inverting the distribution function at the row's own number.

    `generate` itself would draw from one generator for the whole batch, and a text would depend on its
    neighbours. It is told to be greedy instead, and this leaves it one token per row. One number per token is
    needed; Gumbel noise, the other exact way, takes one per token of the vocabulary.

    Args:
        decoding: Temperature and filters, applied in the order of transformers: temperature, top-k, top-p.
        numbers: (rows, max_tokens), in [0, 1).
    """

    def __init__(self, decoding: Decoding, numbers: NDArray[np.float64]) -> None:
        self._numbers = torch.from_numpy(numbers)
        self._is_greedy = decoding.temperature == 0
        self._filters: list[Any] = []
        if not self._is_greedy and decoding.temperature != 1:
            self._filters.append(transformers.TemperatureLogitsWarper(float(decoding.temperature)))
        if not self._is_greedy and decoding.top_k:
            self._filters.append(transformers.TopKLogitsWarper(decoding.top_k))
        if not self._is_greedy and decoding.top_p < 1:
            self._filters.append(transformers.TopPLogitsWarper(decoding.top_p))
        self._steps: list[tuple[Any, Any]] = []

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return `scores`, (rows, vocabulary), with all but the chosen token of each row at -inf."""
        untempered = scores.float().log_softmax(-1)
        if self._is_greedy:
            chosen = untempered.argmax(-1, keepdim=True)
            own = torch.zeros_like(chosen, dtype=torch.float32)
        else:
            log_p = untempered
            for narrow in self._filters:
                log_p = narrow(input_ids, log_p)
            log_p = log_p.log_softmax(-1) if self._filters else untempered
            # Steps beyond the last are begun on GPUs before it is known that all rows have ended.
            step = min(len(self._steps), self._numbers.shape[1] - 1)
            chosen = invert(log_p.exp(), self._numbers[:, step])
            own = log_p.gather(-1, chosen)
        self._steps.append((own, untempered.gather(-1, chosen)))
        return torch.full_like(scores, -torch.inf).scatter_(-1, chosen, 0.0)

    def logprobs(self) -> tuple[Any, Any]:
        """Return (as drawn, at temperature 1) of the chosen tokens so far, nats, (rows, steps) each."""
        own, untempered = zip(*self._steps, strict=True)
        return torch.cat(own, -1).double().cpu(), torch.cat(untempered, -1).double().cpu()


def invert(p: Any, numbers: Any) -> Any:
    """Return the token per row, (rows, 1), at which the cumulative probability passes the row's number.

    Args:
        p: Probabilities, (rows, vocabulary), that sum to about 1.
        numbers: (rows,), in [0, 1). A token of probability 0 is never chosen.
    """
    where = p.device
    if where.type == "mps":  # has no float64
        p = p.cpu()
    cumulative = p.double().cumsum(-1)
    total = cumulative[:, -1:]
    target = numbers.to(p.device)[:, None] * total
    target = torch.minimum(
        target, torch.nextafter(total, torch.zeros_like(total))
    )  # the product may round up
    chosen = torch.searchsorted(cumulative, target, right=True)
    return chosen.clamp(max=p.shape[-1] - 1).to(where)  # beyond the end only where probabilities are NaN
