"""InternLM2-reward: random weights in its published layout, and its forward pass written out.

The body is written here in plain torch from InternLM2's description (RMS norm, rotary positions, grouped
queries in one matrix, a gated feed-forward network). Neither rmbench nor transformers' Llama has a part in it.
"""

import json
import re
from typing import Any

from replicas import Make, Replica, drawn

N_QUERIES, N_KEYS, WIDTH, SIZE = 4, 2, 8, 32
THETA, EPSILON = 1000.0, 1e-5
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\\n' + m['content'] + '<|im_end|>'"
    " + '\\n' }}{% endfor %}"
)
REWARD = "[UNUSED_TOKEN_130]"
MARKS = ("<s>", "<|im_start|>", "<|im_end|>", REWARD)
AUTO_MAP = {
    "AutoConfig": "configuration_internlm2.InternLM2Config",
    "AutoModel": "modeling_internlm2.InternLM2ForRewardModel",
}


def weights(vocabulary: int, bias: bool) -> dict[str, Any]:
    """Return tensors under InternLM2's names."""
    found = {"model.tok_embeddings.weight": drawn(vocabulary, SIZE), "model.norm.weight": drawn(SIZE, seed=1),
             "v_head.weight": drawn(1, SIZE)}  # fmt: skip
    for n in range(2):
        at = f"model.layers.{n}"
        rows = (N_QUERIES + 2 * N_KEYS) * WIDTH
        found |= {
            f"{at}.attention.wqkv.weight": drawn(rows, SIZE, seed=n) / 4,
            f"{at}.attention.wo.weight": drawn(SIZE, SIZE, seed=n) / 4,
            f"{at}.feed_forward.w1.weight": drawn(48, SIZE, seed=n) / 4,
            f"{at}.feed_forward.w2.weight": drawn(SIZE, 48, seed=n) / 4,
            f"{at}.feed_forward.w3.weight": drawn(48, SIZE, seed=n + 9) / 4,
            f"{at}.attention_norm.weight": drawn(SIZE, seed=n + 2),
            f"{at}.ffn_norm.weight": drawn(SIZE, seed=n + 4),
        }
        if bias:
            found |= {
                f"{at}.attention.wqkv.bias": drawn(rows, seed=n),
                f"{at}.attention.wo.bias": drawn(SIZE),
            }
    return found


def normalised(x: Any, weight: Any) -> Any:
    return weight * x / (x.pow(2).mean(-1, keepdim=True) + EPSILON).sqrt()


def rotated(x: Any) -> Any:
    """Return (T, heads, WIDTH) turned by its positions."""
    import torch

    speeds = THETA ** (-torch.arange(0, WIDTH, 2).float() / WIDTH)
    angles = (torch.arange(len(x)).float()[:, None] * speeds).repeat(1, 2)[:, None]  # (T, 1, WIDTH)
    half = torch.cat([-x[..., WIDTH // 2 :], x[..., : WIDTH // 2]], dim=-1)
    return x * angles.cos() + half * angles.sin()


def states(tensors: dict[str, Any], ids: list[int]) -> Any:
    """Return the hidden state of each token, (T, SIZE)."""
    import torch

    def linear(x: Any, name: str) -> Any:
        return torch.nn.functional.linear(x, tensors[f"{name}.weight"], tensors.get(f"{name}.bias"))

    x = tensors["model.tok_embeddings.weight"][torch.tensor(ids)]
    mask = torch.full((len(ids), len(ids)), float("-inf")).triu(1)
    for n in range(2):
        at = f"model.layers.{n}"
        y = normalised(x, tensors[f"{at}.attention_norm.weight"])
        # Per key head: its queries, its key, its value.
        qkv = linear(y, f"{at}.attention.wqkv").view(len(ids), N_KEYS, N_QUERIES // N_KEYS + 2, WIDTH)
        queries = rotated(qkv[:, :, :-2].reshape(len(ids), N_QUERIES, WIDTH))
        keys, values = rotated(qkv[:, :, -2]), qkv[:, :, -1]
        heads = []
        for h in range(N_QUERIES):
            k = h // (N_QUERIES // N_KEYS)
            scores = queries[:, h] @ keys[:, k].T / WIDTH**0.5 + mask
            heads.append(scores.softmax(dim=-1) @ values[:, k])
        x = x + linear(torch.cat(heads, dim=-1), f"{at}.attention.wo")
        y = normalised(x, tensors[f"{at}.ffn_norm.weight"])
        gate = torch.nn.functional.silu(linear(y, f"{at}.feed_forward.w1"))
        x = x + linear(gate * linear(y, f"{at}.feed_forward.w3"), f"{at}.feed_forward.w2")
    return normalised(x, tensors["model.norm.weight"])


def sentencepiece_files(folder: Any, prefix: bool) -> tuple[int, Any]:
    """Train tokenizer.model as InternLM2's is (no space before a text); return its size, and how it splits."""
    import sentencepiece
    from tiny_models import CORPUS

    corpus = folder.parent / "corpus.txt"
    corpus.write_text("\n".join([*CORPUS] * 20))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(folder / "tokenizer"), vocab_size=340, model_type="bpe",
        byte_fallback=True, add_dummy_prefix=prefix, normalization_rule_name="identity",
        remove_extra_whitespaces=False, minloglevel=2,
    )  # fmt: skip
    (folder / "tokenizer.vocab").unlink()
    pieces = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    return pieces.get_piece_size(), pieces.encode


def reward_model(
    make: Make, sentencepiece: bool = False, bias: bool = False, prefix: bool = False
) -> Replica:
    """Return the replica: its tokenizer's class and its model's are not those of transformers."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoTokenizer

    folder = make("llama", template=None, folder="internlm2")
    if sentencepiece:
        (folder / "tokenizer.json").unlink()
        size, encode = sentencepiece_files(folder, prefix)
    else:
        plain = AutoTokenizer.from_pretrained(folder)
        size, encode = len(plain), lambda text: plain(text, add_special_tokens=False)["input_ids"]
    ids = {"<s>": 1} | {mark: size + n for n, mark in enumerate(MARKS[1:])}
    added = {"0": "<unk>", "1": "<s>", "2": "</s>"} if sentencepiece else {}
    added |= {str(ids[mark]): mark for mark in MARKS[1:]}
    if not sentencepiece:
        plain.add_special_tokens({"additional_special_tokens": list(MARKS[1:])})
        plain.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "auto_map": {"AutoTokenizer": ["tokenization_internlm2.InternLM2Tokenizer", None]},
        "tokenizer_class": "InternLM2Tokenizer", "bos_token": "<s>", "eos_token": "</s>", "pad_token": "</s>",
        "added_tokens_decoder": {i: {"content": text, "special": True} for i, text in added.items()},
        "chat_template": TEMPLATE,
    }))  # fmt: skip
    tensors = weights(size + len(MARKS), bias)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    (folder / "config.json").write_text(json.dumps({
        "architectures": ["InternLM2ForRewardModel"], "auto_map": AUTO_MAP, "attn_implementation": "eager",
        "bias": bias, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 2, "hidden_act": "silu",
        "hidden_size": SIZE, "intermediate_size": 48, "max_position_embeddings": 256, "model_type": "internlm2",
        "num_attention_heads": N_QUERIES, "num_hidden_layers": 2, "num_key_value_heads": N_KEYS,
        "reward_token_id": ids[REWARD], "rms_norm_eps": EPSILON, "rope_theta": THETA,
        "rope_scaling": {"type": "dynamic", "factor": 2.0}, "tie_word_embeddings": False,
        "torch_dtype": "float32", "vocab_size": size + len(MARKS),
    }))  # fmt: skip

    def reward(prompt: str, reply: str) -> float:
        text = f"<s><|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{reply}<|im_end|>\n{REWARD}"
        parts = re.split("(" + "|".join(map(re.escape, MARKS)) + ")", text)
        row = [i for part in parts if part for i in ([ids[part]] if part in ids else encode(part))]
        with torch.no_grad():
            return float(states(tensors, row)[-1] @ tensors["v_head.weight"][0])

    return Replica(folder, reward)
