"""Engine `transformers`: `generate` over one prompt at a time, its responses side by side.

No prompt shares a batch with another, so nothing is padded: padding, like every other change of a batch's
shape, changes logits in their last bits, and where two tokens are within that of each other, the text.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rmbench.errors import RunError
from rmbench.models.hf_causal import load_causal
from rmbench.models.hf_checkpoint import find_checkpoint
from rmbench.models.hf_limits import free_bytes
from rmbench.models.hf_load import quiet, torch, transformers
from rmbench.models.runtime import Runtime
from rmbench.sampling.draw import Draw
from rmbench.sampling.engine import Decoding, Prompt, Sample, uniforms
from rmbench.sampling.policy import Policy
from rmbench.sampling.stop import StopAt
from rmbench.types import Turn

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
        self._model, self._tokenizer = load_causal(self._checkpoint, runtime)
        self._rows = rows
        declared = self._model.generation_config
        self._policy = Policy(self._checkpoint, self._model.config, self._tokenizer, declared, chat_template)
        # What is not said to `generate` is taken from here: a checkpoint's own top-k or penalty must not
        # come into a distribution that the pool calls by other settings.
        self._model.generation_config = _CONFIG()

    def identity(self) -> Mapping[str, Any]:
        """Return whatever can change a text; hashes the weights of a folder."""
        dtype = str(self._model.dtype).removeprefix("torch.")
        return self._policy.identity(f"transformers-{ENGINE_VERSION}", dtype)

    def notes(self) -> list[str]:
        """Return remarks on format, end tokens and settings of the checkpoint that are not applied."""
        return self._policy.notes()

    def problem(self, turns: Sequence[Turn], decoding: Decoding) -> str | None:
        """Return why there can be no response to a prompt, or None."""
        return self._policy.problem(turns, decoding)

    def sample(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[list[Sample]]:
        """Yield the responses of one prompt after the other."""
        for prompt in prompts:
            ids = self._policy.encode(prompt.turns)
            rows = self._rows or self._rows_at_once(len(ids), decoding)
            # In parts of equal size: the last one is not left with a few.
            parts = np.array_split(np.arange(decoding.n), math.ceil(decoding.n / rows))
            yield [s for part in parts for s in self._some(ids, prompt, part.tolist(), decoding)]

    def _some(
        self, ids: tuple[int, ...], prompt: Prompt, samples: list[int], decoding: Decoding
    ) -> list[Sample]:
        """Return responses number `samples` of a prompt; what does not fit into memory is halved."""
        try:
            return self._generate(ids, prompt.key, samples, decoding)
        except torch.OutOfMemoryError:
            if len(samples) == 1:
                raise RunError(
                    f"{prompt.place}: one response does not fit into the device's memory; lower --max-tokens"
                ) from None
        self._rows = middle = math.ceil(len(samples) / 2)  # also from now on
        parts = (samples[:middle], samples[middle:])
        return [s for part in parts for s in self._some(ids, prompt, part, decoding)]

    def _generate(
        self, ids: tuple[int, ...], key: str, samples: list[int], decoding: Decoding
    ) -> list[Sample]:
        numbers = np.stack([uniforms(decoding.seed, key, k, decoding.max_tokens) for k in samples])
        draw = Draw(decoding, numbers)
        given = torch.tensor([ids], device=self._model.device).repeat(len(samples), 1)
        config = _CONFIG(
            do_sample=False, num_beams=1, max_new_tokens=decoding.max_tokens, use_cache=True,
            eos_token_id=list(self._policy.ends) or None, pad_token_id=self._pad_id(),
        )  # fmt: skip
        stopping = StopAt(decoding.stop, self._policy.ends, self._policy.text, len(samples), len(ids))
        criteria = transformers.StoppingCriteriaList([stopping] if decoding.stop else [])
        with torch.inference_mode(), quiet():
            out = self._model.generate(
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
        """Return a row of tokens as a response; `stopped` of them hold a stop text, if it said one."""
        kept = row[:stopped]
        n_drawn = self._policy.drawn(kept)
        sums = (float(values[:n_drawn].sum()) for values in (own, untempered))
        return self._policy.read(kept, *sums, stop=stop)

    def _pad_id(self) -> int:
        pad = self._tokenizer.pad_token_id
        ends = self._policy.ends
        return int(pad if pad is not None else ends[0] if ends else 0)

    def _rows_at_once(self, n_prompt: int, decoding: Decoding) -> int:
        """Return how many responses fit into half of the free memory: the most of use, halved until they do.

        So the same machine finds the same number again, and a run that is taken up makes the same batches.
        """
        config = self._model.config.get_text_config()
        heads = int(getattr(config, "num_attention_heads", 1) or 1)
        hidden = int(getattr(config, "hidden_size", 1_024))
        width = int(getattr(config, "head_dim", None) or hidden // heads)
        kv_heads = int(getattr(config, "num_key_value_heads", None) or heads)
        size = self._model.dtype.itemsize
        cached = 2 * int(getattr(config, "num_hidden_layers", 24)) * kv_heads * width * size
        passing = size * 20 * hidden  # what one layer holds of a token of the prompt
        drawing = 40 * int(config.vocab_size)  # logits and probabilities, in float32 and float64
        row = cached * (n_prompt + decoding.max_tokens) + passing * n_prompt + drawing
        found = min(decoding.n, _MOST_ROWS[self._model.device.type])
        while found > 1 and found * row > _SHARE_OF_FREE * free_bytes(self._model.device):
            found = math.ceil(found / 2)
        return found
