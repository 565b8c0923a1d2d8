"""Sample many replies to one prompt from a small Llama on the CPU, the same ones every time.

`generate` of transformers spends most of a step of so small a model outside its matrix products (cache
concatenation, repeated keys, padding, rows that have long ended). This decode loop keeps the cache in
place, lets the query heads of a group share their keys, and drops rows as they end: about twice as fast.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

STOP_TOKENS = ("<|im_end|>", "<|im_start|>", "<|endoftext|>")


@dataclass(frozen=True, slots=True)
class Reply:
    """One sampled reply."""

    text: str
    """Decoded without special tokens, surrounding whitespace removed; may be empty."""
    finish: str
    """`stop`: the model ended it. `length`: cut at the token limit."""
    n_tokens: int
    """Sampled tokens, the end token not counted."""


@dataclass(slots=True)
class _Cache:
    """Keys and values of every layer, both (layers, rows, kv heads, positions, head size)."""

    keys: torch.Tensor
    values: torch.Tensor

    def keep(self, rows: torch.Tensor) -> None:
        """Keep only `rows`, an index tensor."""
        self.keys = self.keys[:, rows].contiguous()
        self.values = self.values[:, rows].contiguous()


def load_gguf(path: Path, dtype: str) -> "Sampler":
    """Return a sampler of the model in a GGUF file, its weights unpacked to dense ones.

    Args:
        path: The file; its tokenizer and chat template are used too.
        dtype: `bfloat16` (faster where the processor has AMX or AVX512-BF16) or `float32`.
    """
    folder, name = str(path.parent), path.name
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    # Packed weights (transformers' default for GGUF) would be unpacked again in every product.
    packed = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, dtype=getattr(torch, dtype), quantization_config=packed
    )
    return Sampler(model.eval(), tokenizer)


class Sampler:
    """A Llama chat model (no biases, tied or untied head) with its tokenizer, ready to be sampled."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        config = model.config
        self.n_heads, self.n_kv = config.num_attention_heads, config.num_key_value_heads
        self.head_size = config.hidden_size // self.n_heads
        self.eps = config.rms_norm_eps
        stops = tokenizer.convert_tokens_to_ids(list(STOP_TOKENS))
        if tokenizer.eos_token != STOP_TOKENS[0] or None in stops:
            raise SystemExit(f"expected the end token {STOP_TOKENS[0]}, found {tokenizer.eos_token}")
        self.stops = torch.tensor(stops)
        self.layers = [self._fused(layer) for layer in model.model.layers]

    def _fused(self, layer: Any) -> tuple[torch.Tensor, ...]:
        attention, mlp = layer.self_attn, layer.mlp
        qkv = torch.cat([attention.q_proj.weight, attention.k_proj.weight, attention.v_proj.weight])
        gate_up = torch.cat([mlp.gate_proj.weight, mlp.up_proj.weight])
        norms = (layer.input_layernorm.weight, layer.post_attention_layernorm.weight)
        return (*norms, qkv, attention.o_proj.weight, gate_up, mlp.down_proj.weight)

    def encode(self, prompt: str) -> torch.Tensor:
        """Return the ids (1, T) of a chat with one user turn, up to where the assistant speaks.

        The model's own template is used; it puts its default system prompt in front.
        """
        text = self.tokenizer.apply_chat_template(
            [{"role": "user", "content": prompt}], tokenize=False, add_generation_prompt=True
        )
        ids: torch.Tensor = self.tokenizer(text, add_special_tokens=False, return_tensors="pt").input_ids
        return ids

    @torch.inference_mode()
    def sample(self, prompt: str, *, n: int, max_new_tokens: int, seed: int) -> list[Reply]:
        """Return `n` replies drawn at temperature 1 from the whole vocabulary.

        Row r at step t uses the uniform number u[r, t] of a generator seeded with `seed`, so the replies
        to a prompt depend on no other prompt, nor on when the run was interrupted.
        """
        uniform = torch.rand((n, max_new_tokens), generator=torch.Generator().manual_seed(seed)).double()
        ids = self.encode(prompt)
        start = ids.shape[1]
        first, cache = self._prefill(ids, n, start + max_new_tokens)
        tokens = torch.full((n, max_new_tokens), -1)
        alive = torch.arange(n)
        logits = first.expand(n, -1)
        for step in range(max_new_tokens):
            drawn = _draw(logits, uniform[alive, step])
            going = ~torch.isin(drawn, self.stops)
            tokens[alive[going], step] = drawn[going]
            if not going.all():
                rows = going.nonzero().flatten()
                alive, drawn = alive[rows], drawn[rows]
                cache.keep(rows)
            if not len(alive) or step == max_new_tokens - 1:
                break
            logits = self._step(drawn, cache, start + step)
        return [self._reply(row, max_new_tokens) for row in tokens]

    def _reply(self, row: torch.Tensor, limit: int) -> Reply:
        ids = row[row >= 0].tolist()
        text = self.tokenizer.decode(ids, skip_special_tokens=True).strip()
        return Reply(text=text, finish="length" if len(ids) == limit else "stop", n_tokens=len(ids))

    def _prefill(self, ids: torch.Tensor, n: int, size: int) -> tuple[torch.Tensor, _Cache]:
        output = self.model(ids, use_cache=True, logits_to_keep=1)
        shape = (len(self.layers), n, self.n_kv, size, self.head_size)
        dtype = self.model.dtype
        cache = _Cache(keys=torch.zeros(shape, dtype=dtype), values=torch.zeros(shape, dtype=dtype))
        for i, layer in enumerate(output.past_key_values.layers):
            cache.keys[i, :, :, : ids.shape[1]] = layer.keys
            cache.values[i, :, :, : ids.shape[1]] = layer.values
        return output.logits[:, -1], cache

    def _step(self, tokens: torch.Tensor, cache: _Cache, position: int) -> torch.Tensor:
        """Return the logits (rows, vocabulary) after `tokens` (rows,) at `position`; extends the cache."""
        base = self.model.model
        x = base.embed_tokens.weight[tokens]
        rows, size = len(tokens), self.head_size
        cos, sin = base.rotary_emb(x, torch.tensor([[position]]))
        cos, sin = cos[:, :, None], sin[:, :, None]
        for i, (norm1, norm2, qkv, out, gate_up, down) in enumerate(self.layers):
            packed = functional.linear(functional.rms_norm(x, x.shape[-1:], norm1, self.eps), qkv)
            heads = packed.view(rows, 1, -1, size)
            turned = _rotate(heads[:, :, : self.n_heads + self.n_kv], cos, sin)
            cache.keys[i, :, :, position] = turned[:, 0, self.n_heads :]
            cache.values[i, :, :, position] = heads[:, 0, self.n_heads + self.n_kv :]
            query = turned[:, 0, : self.n_heads].reshape(rows, self.n_kv, -1, size)
            # The query heads of one group stand as rows of one product: keys are never repeated.
            mixed = functional.scaled_dot_product_attention(
                query, cache.keys[i, :, :, : position + 1], cache.values[i, :, :, : position + 1]
            )
            x = x + functional.linear(mixed.reshape(rows, -1), out)
            gate, up = functional.linear(
                functional.rms_norm(x, x.shape[-1:], norm2, self.eps), gate_up
            ).chunk(2, -1)
            x = x + functional.linear(functional.silu(gate) * up, down)
        x = functional.rms_norm(x, x.shape[-1:], base.norm.weight, self.eps)
        return functional.linear(x, self.model.lm_head.weight)

    @torch.inference_mode()
    def self_check(self, prompt: str, n_steps: int = 8) -> float:
        """Return the largest difference of log-probability between this loop and transformers' forward."""
        ids = self.encode(prompt)
        logits, cache = self._prefill(ids, 1, ids.shape[1] + n_steps)
        worst = 0.0
        for _ in range(n_steps):
            token = logits.argmax(-1)
            logits = self._step(token, cache, ids.shape[1])
            ids = torch.cat([ids, token[None]], 1)
            wanted = self.model(ids, logits_to_keep=1).logits[:, -1]
            difference = wanted.float().log_softmax(-1) - logits.float().log_softmax(-1)
            likely = wanted.float().softmax(-1) > 1e-3
            worst = max(worst, float(difference[likely].abs().max()))
        return worst


def _rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    left, right = x.chunk(2, -1)
    return x * cos + torch.cat([-right, left], -1) * sin


def _draw(logits: torch.Tensor, uniform: torch.Tensor) -> torch.Tensor:
    """Return one token per row by inverting the distribution function at `uniform` (rows,)."""
    cumulative = logits.float().softmax(-1).cumsum(-1, dtype=torch.float64)
    target = (uniform * cumulative[:, -1])[:, None]
    return torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
