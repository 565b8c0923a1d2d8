"""Engine `transformers`: `generate` over one prompt at a time, its responses side by side.

No prompt shares a batch with another, so nothing is padded: padding, like every other change of a batch's
shape, changes logits in their last bits, and where two tokens are within that of each other, the text.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from rmbench.errors import RunError, ScoringError
from rmbench.models.hf_causal import load_causal
from rmbench.models.hf_limits import free_bytes
from rmbench.models.hf_load import find_checkpoint, quiet, torch, transformers, weights_identity
from rmbench.models.hf_text import PlainFormat, decoder_format, read_template
from rmbench.models.runtime import Runtime
from rmbench.sampling.draw import Draw
from rmbench.sampling.engine import Decoding, Prompt, Sample, uniforms
from rmbench.types import Turn

ENGINE_VERSION = "1"
"""Raised when any text could change."""

_MOST_ROWS = {"cpu": 64, "cuda": 256, "mps": 64}
"""Responses side by side beyond which nothing gets faster, or not by much."""
_SHARE_OF_FREE = 0.5
_CONFIG: Any = transformers.GenerationConfig
_DECLARED = ("temperature", "top_k", "top_p", "min_p", "typical_p", "repetition_penalty")
_NEUTRAL: Mapping[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "repetition_penalty": 1.0}


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
        self._format = decoder_format(self._tokenizer, chat_template, read_template)
        self._rows = rows
        declared = self._model.generation_config
        self._stops = _stop_tokens(declared, self._tokenizer)
        self._declared = {
            k: v for k in _DECLARED if (v := getattr(declared, k, None)) not in (None, _NEUTRAL.get(k))
        }
        # What is not said to `generate` is taken from here: a checkpoint's own top-k or penalty must not
        # come into a distribution that the pool calls by other settings.
        self._model.generation_config = _CONFIG()

    def identity(self) -> Mapping[str, Any]:
        """Return whatever can change a text; hashes the weights of a folder."""
        return {
            "policy": self._checkpoint.name,
            **weights_identity(self._checkpoint, self._model.config),
            "engine": f"transformers-{ENGINE_VERSION}",
            "format": self._format.identity,
            "dtype": str(self._model.dtype).removeprefix("torch."),
            "stop_tokens": list(self._stops),
        }

    def notes(self) -> list[str]:
        """Return remarks on format, end tokens and settings of the checkpoint that are not applied."""
        notes = list(self._format.notes())
        if not self._format.opens_reply():
            notes.append(
                "the chat template ignores add_generation_prompt: the policy has to open its reply itself"
            )
        if not self._stops:
            notes.append("the policy has no end token: every response is cut at --max-tokens")
        if self._declared:
            told = ", ".join(f"{key} {value}" for key, value in self._declared.items())
            notes.append(
                f"its generation_config.json asks for {told}; only what the command line says is applied"
            )
        return notes

    def problem(self, turns: Sequence[Turn], decoding: Decoding) -> str | None:
        """Return why there can be no response to a prompt, or None."""
        try:
            n_tokens = len(self._format.encode_prompt(turns))
        except ScoringError as error:
            return str(error)
        if n_tokens == 0:
            return "the prompt has no tokens at all"
        positions = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        if isinstance(positions, int) and n_tokens + decoding.max_tokens > positions > 0:
            return (
                f"the prompt has {n_tokens:,} tokens; with --max-tokens {decoding.max_tokens:,} that is more"
                f" than the policy's {positions:,} positions"
            )
        return None

    def sample(self, prompts: Sequence[Prompt], decoding: Decoding) -> Iterator[list[Sample]]:
        """Yield the responses of one prompt after the other."""
        for prompt in prompts:
            ids = self._format.encode_prompt(prompt.turns)
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
            eos_token_id=list(self._stops) or None, pad_token_id=self._pad_id(),
        )  # fmt: skip
        with torch.inference_mode(), quiet():
            out = self._model.generate(
                input_ids=given,
                attention_mask=torch.ones_like(given),
                generation_config=config,
                logits_processor=transformers.LogitsProcessorList([draw]),
            )
        rows = out[:, given.shape[1] :].tolist()
        return [self._read(*row) for row in zip(rows, *draw.logprobs(), strict=True)]

    def _read(self, row: list[int], own: Any, untempered: Any) -> Sample:
        """Return a row of tokens, and whatever follows its end, as a response."""
        end = next((k for k, token in enumerate(row) if token in self._stops), None)
        n_drawn = len(row) if end is None else end + 1
        sums = [float(values[:n_drawn].sum()) for values in (own, untempered)]
        if not all(map(math.isfinite, sums)):
            raise RunError(
                f"{self._checkpoint.name}: a log-probability is not finite; try --dtype float32 or bfloat16"
            )
        text = self._tokenizer.decode(row[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False)
        if isinstance(self._format, PlainFormat):
            text = text.removeprefix(" ")  # it belongs to the transcript
        return Sample(text, "length" if end is None else "stop", len(row[:end]), *sums)

    def _pad_id(self) -> int:
        pad = self._tokenizer.pad_token_id
        return int(pad if pad is not None else self._stops[0] if self._stops else 0)

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


def _stop_tokens(declared: Any, tokenizer: Any) -> tuple[int, ...]:
    """Return the tokens that end a response: the checkpoint's (there may be several), and the tokenizer's."""
    own = declared.eos_token_id
    found = {*(own if isinstance(own, list | tuple) else [own]), tokenizer.eos_token_id} - {None}
    return tuple(sorted(int(token) for token in found))
