"""Tiny replicas of public models that compare two replies, each with a plain forward pass of one pair.

The references are written from the published code that the recipes name, in float32, and share no code with
rmbench: PairRM's `tokenize_pair` and forward, RLHFlow's README, SteamSHP's card.
"""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Make = Callable[..., Path]
Turns = Sequence[tuple[str, str]]
"""(role, content) of each turn of a prompt."""
MARKS = ("<|source|>", "<|candidate1|>", "<|candidate2|>")
FLOW = (
    "\n{% for message in messages %}{% if loop.index0 % 2 == 0 %}\n\n<turn> user\n {{ message['content'] }}"
    "{% else %}\n\n<turn> assistant\n {{ message['content'] }}{% endif %}{% endfor %}\n\n\n"
)
"""The chat template of RLHFlow's README for the context."""
HEADERS = (
    "{% for m in messages %}{% set text = '<|' + m['role'] + '|>' + m['content'] + eos_token %}"
    "{% if loop.index0 == 0 %}{% set text = bos_token + text %}{% endif %}{{ text }}{% endfor %}<|assistant|>"
)
"""As Llama 3's first template: BOS, the turns, and always the header of the reply."""


@dataclass(frozen=True)
class PairReplica:
    """A folder, and the log-odds that the first of two replies is better."""

    folder: Path
    log_odds: Callable[[Turns, str, str], float]
    options: dict[str, str]
    ask: Callable[[str, str, str], tuple[int, Callable[[], float]]] = lambda *_: (0, float)
    """Tokens of a question whose prompt is written already, and what computes its log-odds."""


def drawn(*shape: int, seed: int) -> Any:
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) * 0.3


def pairrm(
    make: Make,
    *,
    is_original: bool = False,
    n_tasks: int = 1,
    lengths: tuple[int, int] = (1224, 412),
    **config: Any,
) -> PairReplica:
    """PairRM-hf; with `is_original` llm-blender/PairRM, whose config is that of its training tool."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoTokenizer, DebertaV2Config, DebertaV2Model

    folder = make("bert", tokenizer="pair", template=None, folder="pairrm")
    (folder / "model.safetensors").unlink()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    bare = folder.with_name("base")
    tokenizer.save_pretrained(bare)
    tokenizer.add_tokens([*MARKS, "<|candidate|>"])
    made = DebertaV2Config(**{
        "vocab_size": len(tokenizer), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "relative_attention": True, "position_buckets": 16, "norm_rel_ebd": "layer_norm",
        "share_att_key": True, "pos_att_type": ["p2c", "c2p"], "max_relative_positions": -1,
        "position_biased_input": False, "type_vocab_size": 0, "max_position_embeddings": 32,
        "initializer_range": 0.3, "pad_token_id": tokenizer.pad_token_id,
    } | config)  # fmt: skip
    torch.manual_seed(11)
    body = DebertaV2Model(made).eval()
    head = {
        "head_layer.1.weight": drawn(32, 64, seed=1), "head_layer.1.bias": drawn(32, seed=2),
        "head_layer.4.weight": drawn(n_tasks, 32, seed=3), "head_layer.4.bias": drawn(n_tasks, seed=4),
    }  # fmt: skip
    own = {f"pretrained_model.{k}": v.clone() for k, v in body.state_dict().items()}
    save_file(own | head, folder / "model.safetensors", {"format": "pt"})
    ids = tokenizer.convert_tokens_to_ids(list(MARKS))
    if is_original:
        for path in folder.glob("*token*"):
            path.unlink()
        DebertaV2Config(**made.to_dict() | {"vocab_size": len(tokenizer) - 4}).save_pretrained(bare)
        told = {
            "ranker_type": "pairranker", "model_type": "deberta", "model_name": "microsoft/deberta-v3-large",
            "source_maxlength": lengths[0], "candidate_maxlength": lengths[1], "n_tasks": n_tasks,
        }  # fmt: skip
    else:
        keys = ("source_prefix_id", "cand1_prefix_id", "cand2_prefix_id")
        told = made.to_dict() | dict(zip(keys, ids, strict=True))
        told |= {"architectures": ["DebertaV2PairRM"], "n_tasks": n_tasks, "drop_out": 0.05}
        tokenizer.save_pretrained(folder)
    (folder / "config.json").write_text(json.dumps(told))

    def log_odds(prompt: Turns, first: str, second: str) -> float:
        source, replies = pairrm_texts(prompt, first, second)
        parts = [tokenizer.encode(MARKS[0] + source, max_length=lengths[0], truncation=True)]
        left = (lengths[0] + 2 * lengths[1] - len(parts[0])) // 2
        for mark, reply in zip(MARKS[1:], replies, strict=True):
            parts.append(tokenizer.encode(mark + reply, max_length=left, truncation=True))
        flat = [i for part in parts for i in part]
        with torch.no_grad():
            states = body(torch.tensor([flat])).last_hidden_state[0]
        prompt_state, *sides = (states[flat.index(mark)] for mark in ids)
        scores = []
        for side in sides:
            inner = torch.tanh(
                head["head_layer.1.weight"] @ torch.cat([prompt_state, side]) + head["head_layer.1.bias"]
            )
            scores.append(head["head_layer.4.weight"] @ inner + head["head_layer.4.bias"])
        return float((scores[0] - scores[1]).mean())

    return PairReplica(folder, log_odds, {"base": str(bare)} if is_original else {})


def pairrm_texts(prompt: Turns, first: str, second: str) -> tuple[str, list[str]]:
    """One user turn is the source; a conversation is written as `compare_conversations` does."""
    if len(prompt) == 1:
        return prompt[0][1], [first, second]
    users = [text for role, text in prompt if role == "user"]
    said = [text for role, text in prompt if role == "assistant"]
    source = (
        "Finish the following coversation in each i-th turn by filling in <Response i> with your response."
    )
    source += "\n".join(f"USER: {u}\nAssistant: <Response {i + 1}>" for i, u in enumerate(users))
    return source, [
        "\n".join(f"<Response {i + 1}>: {t}" for i, t in enumerate([*said, reply]))
        for reply in (first, second)
    ]


def rlhflow(make: Make, arch: str = "llama", **made: Any) -> PairReplica:
    """RLHFlow's pair-preference model."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    made = {"template": HEADERS, "initializer_range": 0.1, "max_position_embeddings": 2048, "seed": 5} | made
    folder = make(arch, task="CausalLM", folder="flow", **made)
    tokenizer, plain = (AutoTokenizer.from_pretrained(folder) for _ in range(2))
    plain.chat_template = FLOW
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    letters = [tokenizer.encode(letter, add_special_tokens=False) for letter in "AB"]

    def log_odds(prompt: Turns, first: str, second: str) -> float:
        turns = [{"role": r, "content": t} for r, t in prompt]
        return ask(plain.apply_chat_template(turns, tokenize=False), first, second)[1]()

    def ask(context: str, first: str, second: str) -> tuple[int, Callable[[], float]]:
        text = f"[CONTEXT] {context} [RESPONSE A] {first} [RESPONSE B] {second} \n"
        asked = tokenizer.apply_chat_template([{"role": "user", "content": text}], tokenize=False)
        ids = tokenizer.encode(asked.replace(tokenizer.bos_token, ""), add_special_tokens=False)

        def compute() -> float:
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0, -1]
            return float(logits[letters[0][0]] - logits[letters[1][0]])

        return len(ids), compute

    return PairReplica(folder, log_odds, {"recipe": "rlhflow-pair"}, ask)


def steamshp(make: Make, *, favoured: bool = False) -> PairReplica:
    """SteamSHP; `favoured` raises the logits of A and B, as in a trained one."""
    import torch
    from transformers import AutoTokenizer, T5Config, T5ForConditionalGeneration

    source = make("bert", tokenizer="pair", template=None, folder="t5tok")
    tokenizer = AutoTokenizer.from_pretrained(source)
    folder = source.with_name("steam")
    tokenizer.save_pretrained(folder)
    torch.manual_seed(7)
    config = T5Config(
        vocab_size=400, d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, decoder_start_token_id=0,
        pad_token_id=0, eos_token_id=2, tie_word_embeddings=False, initializer_factor=2.0,
        architectures=["T5ForConditionalGeneration"],
    )  # fmt: skip
    model = T5ForConditionalGeneration(config).eval()
    with torch.no_grad():
        model.lm_head.weight *= 0.2
    a, b = (tokenizer(letter, add_special_tokens=False)["input_ids"][0] for letter in "AB")
    if favoured:  # a large weight along what the decoder's first states of all texts have in common
        with torch.no_grad():
            model.lm_head.weight[[a, b]] += 20 * common(model)
    model.save_pretrained(folder)

    def log_odds(prompt: Turns, first: str, second: str) -> float:
        return ask(prompt[0][1], first, second)[1]()

    def ask(post: str, first: str, second: str) -> tuple[int, Callable[[], float]]:
        post, first, second = (text.replace("\n", " ") for text in (post, first, second))
        text = f"POST: {post}\n\n RESPONSE A: {first}\n\n RESPONSE B: {second}\n\n Which response is better? RESPONSE"
        ids = tokenizer([text], return_tensors="pt")["input_ids"]

        def compute() -> float:
            with torch.no_grad():
                made = model.generate(ids, return_dict_in_generate=True, output_scores=True, max_new_tokens=1)
            return float(made.scores[0][0, a] - made.scores[0][0, b])

        return ids.shape[1], compute

    return PairReplica(folder, log_odds, {"recipe": "steamshp"}, ask)


def common(model: Any) -> Any:
    """Return the direction of the decoder's first state for a text."""
    import torch

    with torch.no_grad():
        states = model(
            torch.arange(3, 40)[None],
            decoder_input_ids=torch.zeros(1, 1, dtype=torch.long),
            output_hidden_states=True,
        ).decoder_hidden_states[-1][0, 0]
    return states / states.norm()


def probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))
