"""Engine `transformers`: `generate` over one prompt at a time, its responses side by side.

Prompts never share a batch, so there is no padding. Padding, like every change of a batch's shape, changes
the last bits of logits, and with them the text if two tokens are that close. `Draw` draws tokens with one
random number per response and token; `StopAt` ends responses before a stop text.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.errors import RunError
from rmbench.models.hf.checkpoint import find_checkpoint
from rmbench.models.hf.device import free_bytes
from rmbench.models.hf.load import load_causal, quiet, torch, transformers
from rmbench.models.runtime import Runtime
from rmbench.sampling.policy import Decoding, Policy, Prompt, Sample, uniforms, where_it_stops
from rmbench.types import Turn


class Draw(transformers.LogitsProcessor):  # type: ignore[misc, unused-ignore]
    """Chooses each row's next token by inverting the distribution function at the row's own random number.

    `generate` draws from one generator for the whole batch, so a text would depend on its neighbours. Here
    `generate` runs greedily, and this processor leaves it one token per row. That takes one number per token;
    Gumbel noise, the other exact way, takes one per token of the vocabulary.

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
            # GPUs begin steps beyond the last before the end of all rows is known.
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


class StopAt(transformers.StoppingCriteria):  # type: ignore[misc, unused-ignore]
    """Ends each row once its text contains a stop text, and counts the tokens up to there.

    All tokens of a row are decoded at every step, because a stop text may begin and end within tokens, where
    no comparison of token ids finds it. A row's end depends on its own tokens only.

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


ENGINE_VERSION = "1"
"""Raised when any text could change."""

_MOST_ROWS = {"cpu": 64, "cuda": 256, "mps": 64}
"""Responses side by side beyond which nothing gets faster, or not by much."""
_SHARE_OF_FREE = 0.5
_CONFIG: Any = transformers.GenerationConfig


class TransformersEngine:
    """A causal language model of Hugging Face.

    Args:
        policy: A folder, or `org/name[@revision]`.
        runtime: Device, dtype, offline.
        chat_template: `auto` (the tokenizer's, else a plain transcript), `plain`, or a Jinja file.
        rows: Responses side by side; None for what fits into free memory.

    Raises:
        ConfigError: If it cannot be loaded, or is no language model.
    """

    def __init__(
        self, policy: str, runtime: Runtime, *, chat_template: str = "auto", rows: int | None = None
    ) -> None:
        self._checkpoint = find_checkpoint(policy, None)
        read = load_causal(self._checkpoint, runtime)
        self.model, self.tokenizer = read.model, read.tokenizer
        self._rows = rows
        declared = self.model.generation_config
        self.policy = Policy(
            self._checkpoint, read.weights, self.model.config, self.tokenizer, declared, chat_template
        )
        # `generate` takes unset values from here: a checkpoint's own top-k or penalty must not change a
        # distribution that the pool describes by other settings.
        self.model.generation_config = _CONFIG()

    def identity(self) -> Mapping[str, Any]:
        """Return whatever can change a text."""
        dtype = str(self.model.dtype).removeprefix("torch.")
        return self.policy.identity(f"transformers-{ENGINE_VERSION}", dtype)

    def notes(self) -> list[str]:
        """Return remarks on format, end tokens and ignored settings of the checkpoint."""
        return self.policy.notes()

    def problem(self, turns: Sequence[Turn], decoding: Decoding) -> str | None:
        """Return why a prompt can have no response; None if it can."""
        return self.policy.problem(turns, decoding)

    def sample(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[list[Sample]]:
        """Yield the responses of one prompt after the other."""
        for prompt in prompts:
            ids = self.policy.encode(prompt.turns)
            rows = self._rows or self._rows_at_once(len(ids), decoding)
            # Parts of equal size, so that the last one is not tiny.
            parts = np.array_split(np.arange(decoding.n), math.ceil(decoding.n / rows))
            yield [s for part in parts for s in self._some(ids, prompt, part.tolist(), decoding)]

    def _some(
        self, ids: tuple[int, ...], prompt: Prompt, samples: list[int], decoding: Decoding
    ) -> list[Sample]:
        """Return the responses number `samples` of a prompt; a batch that does not fit is halved."""
        try:
            return self._generate(ids, prompt.key, samples, decoding)
        except torch.OutOfMemoryError:
            if len(samples) == 1:
                raise RunError(
                    f"{prompt.place}: one response does not fit into the device's memory; lower --max-tokens"
                ) from None
        self._rows = middle = math.ceil(len(samples) / 2)  # for the rest of the run too
        parts = (samples[:middle], samples[middle:])
        return [s for part in parts for s in self._some(ids, prompt, part, decoding)]

    def _generate(
        self, ids: tuple[int, ...], key: str, samples: list[int], decoding: Decoding
    ) -> list[Sample]:
        numbers = np.stack([uniforms(decoding.seed, key, k, decoding.max_tokens) for k in samples])
        draw = Draw(decoding, numbers)
        given = torch.tensor([ids], device=self.model.device).repeat(len(samples), 1)
        config = _CONFIG(
            do_sample=False, num_beams=1, max_new_tokens=decoding.max_tokens, use_cache=True,
            eos_token_id=list(self.policy.ends) or None, pad_token_id=self._pad_id(),
        )  # fmt: skip
        stopping = StopAt(decoding.stop, self.policy.ends, self.policy.text, len(samples), len(ids))
        criteria = transformers.StoppingCriteriaList([stopping] if decoding.stop else [])
        with torch.inference_mode(), quiet():
            out = self.model.generate(
                input_ids=given,
                attention_mask=torch.ones_like(given),
                generation_config=config,
                logits_processor=transformers.LogitsProcessorList([draw]),
                stopping_criteria=criteria,
            )
        rows = out[:, given.shape[1] :].tolist()
        found = zip(rows, stopping.found, *draw.logprobs(), strict=True)
        return [self._read(*row, decoding.stop) for row in found]

    def _read(
        self, row: list[int], stopped: int | None, own: Any, untempered: Any, stop: Sequence[str]
    ) -> Sample:
        """Return a row of tokens as a response; `stopped` counts the tokens up to its stop text, if any."""
        kept = row[:stopped]
        n_drawn = self.policy.drawn(kept)
        sums = (float(values[:n_drawn].sum()) for values in (own, untempered))
        return self.policy.read(kept, *sums, stop=stop)

    def _pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        ends = self.policy.ends
        return int(pad if pad is not None else ends[0] if ends else 0)

    def _rows_at_once(self, n_prompt: int, decoding: Decoding) -> int:
        """Return how many responses fit into half of the free memory: the maximum, halved until it fits.

        The same machine finds the same number again, so a continued run makes the same batches.
        """
        config = self.model.config.get_text_config()
        heads = int(getattr(config, "num_attention_heads", 1) or 1)
        hidden = int(getattr(config, "hidden_size", 1_024))
        width = int(getattr(config, "head_dim", None) or hidden // heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        size = self.model.dtype.itemsize
        cached = 2 * int(getattr(config, "num_hidden_layers", 24)) * kv_heads * width * size
        passing = size * 20 * hidden  # one layer's values of a prompt token
        drawing = 40 * int(config.vocab_size)  # logits and probabilities, in float32 and float64
        row = cached * (n_prompt + decoding.max_tokens) + passing * n_prompt + drawing
        found = min(decoding.n, _MOST_ROWS[self.model.device.type])
        while found > 1 and found * row > _SHARE_OF_FREE * free_bytes(self.model.device):
            found = math.ceil(found / 2)
        return found
