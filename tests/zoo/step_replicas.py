"""Tiny replicas of public process reward models, and the value of each step as their own code gives it.

One text at a time, in float32, written from the published description; nothing of rmbench is called.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from replicas import HEADERS, Body, Make, drawn

SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
LLAMA_3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
)
LLAMA_3_TOKENS = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]


@dataclass(frozen=True)
class StepReplica:
    """A folder, and the probabilities of the steps of a reply as its own code would give them."""

    folder: Path
    values: Callable[[str, str], list[float]]
    body: Body


def run(body: Body, ids: list[int]) -> Any:
    """Return the hidden states of ids, (T, D)."""
    import torch

    with torch.no_grad():
        inner = getattr(body.model, body.model.base_model_prefix)
        return inner(torch.tensor([ids])).last_hidden_state[0]


def qwen_math_prm(make: Make, template: str = HEADERS) -> StepReplica:
    """The card of Qwen2.5-Math-PRM: steps joined by <extra_0> and one after the last, softmax[1] there."""
    heads = {
        "score.0.weight": drawn(32, 32), "score.0.bias": drawn(32), "score.2.weight": drawn(2, 32) / 30,
        "score.2.bias": drawn(2),
    }  # fmt: skip
    config = {"architectures": ["Qwen2ForProcessRewardModel"],
              "auto_map": {"AutoModel": "modeling_qwen2_rm.Qwen2ForProcessRewardModel"}}  # fmt: skip
    body = Body(make, "qwen2", heads=heads, config=config, template=template, vocab_size=420,
                special={"additional_special_tokens": ["<extra_0>"]}, without=("lm_head",))  # fmt: skip

    def values(prompt: str, reply: str) -> list[float]:
        steps = [step for step in reply.split("\n\n") if step.strip()]
        turns = [
            {"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt},
            {"role": "assistant", "content": "<extra_0>".join(steps) + "<extra_0>"},
        ]  # fmt: skip
        text = body.tokenizer.apply_chat_template(turns, tokenize=False)
        ids, states = body.states(text)
        logits = body.linear("score.2", body.linear("score.0", states).relu())
        mark = body.tokenizer.convert_tokens_to_ids("<extra_0>")
        found = [float(logits[k].softmax(-1)[1]) for k, i in enumerate(ids) if i == mark]
        assert len(found) == len(steps)
        return found

    return StepReplica(body.folder, values, body)


def skywork_o1_prm(make: Make, arch: str = "qwen2") -> StepReplica:
    """`prepare_input` of skywork-o1-prm-inference: a flag at the line break after every line, sigmoid."""
    heads = {"v_head.summary.weight": drawn(1, 32) / 5, "v_head.summary.bias": drawn(1)}
    body = Body(make, arch, heads=heads, config={"architectures": ["Qwen2ForPrmModel"]})

    def values(prompt: str, reply: str) -> list[float]:
        def encode(text: str) -> list[int]:
            found: list[int] = body.tokenizer(text, add_special_tokens=False)["input_ids"]
            return found

        ids = encode(body.tokenizer.bos_token + prompt + "\n")
        flagged = []
        for line in reply.split("\n"):
            ids += [*encode(line), encode("\n")[-1]]
            flagged.append(len(ids) - 1)
        states = run(body, ids)
        return [float(body.linear("v_head.summary", states[k]).sigmoid()) for k in flagged]

    return StepReplica(body.folder, values, body)


def word_logits(body: Body, states: Any) -> Any:
    """Return the softmax over the logits of + and -, (T, 2)."""
    ids = [body.tokenizer(word, add_special_tokens=False)["input_ids"][-1] for word in "+-"]
    return (states @ body.model.lm_head.weight.detach().T)[:, ids].softmax(-1)


def math_shepherd(make: Make) -> StepReplica:
    """The card of math-shepherd-mistral-7b-prm: `{question} {lines, each with " ки" after it}`."""
    body = Body(make, "mistral", heads={}, template=None)

    def values(prompt: str, reply: str) -> list[float]:
        lines = [line for line in reply.split("\n") if line.strip()]
        ids, states = body.states(f"{prompt} " + " ки\n".join(lines) + " ки", special=True)
        tag = body.tokenizer("ки", add_special_tokens=False)["input_ids"][-1]
        good = word_logits(body, states)[:, 0]
        found = [float(good[k]) for k, i in enumerate(ids) if i == tag]
        assert len(found) == len(lines)
        return found

    return StepReplica(body.folder, values, body)


def versaprm(make: Make) -> StepReplica:
    """The same with blank lines as the tag, after each step."""
    body = Body(make, heads={}, template=LLAMA_3, vocab_size=420,
                special={"additional_special_tokens": [" \n\n\n\n"]})  # fmt: skip

    def values(prompt: str, reply: str) -> list[float]:
        steps = [step.strip() for step in reply.split("\n\n") if step.strip()]
        text = f"{prompt} \n\n" + "".join(f"{step} \n\n\n\n" for step in steps)
        ids, states = body.states(text, special=True)
        tag = body.tokenizer.convert_tokens_to_ids(" \n\n\n\n")
        good = word_logits(body, states)[:, 0]
        return [float(good[k]) for k, i in enumerate(ids) if i == tag]

    return StepReplica(body.folder, values, body)


def rlhflow_prm(make: Make) -> StepReplica:
    """`select_sample` of prm_evaluate.py: position -3 of the conversation up to each step."""
    body = Body(make, heads={}, template=LLAMA_3, vocab_size=420,
                special={"additional_special_tokens": LLAMA_3_TOKENS})  # fmt: skip

    def values(prompt: str, reply: str) -> list[float]:
        steps = [step.strip() for step in reply.split("\n\n") if step.strip()]
        turns: list[dict[str, str]] = []
        found = []
        for k, step in enumerate(steps):
            turns.append({"role": "user", "content": step if k else f"{prompt} {step}"})
            turns.append({"role": "assistant", "content": "+"})
            ids, states = body.states(body.tokenizer.apply_chat_template(turns, tokenize=False))
            assert body.tokenizer.decode(ids[-2:]) == "+<|eot_id|>"
            found.append(float(word_logits(body, states)[-3, 0]))
        return found

    return StepReplica(body.folder, values, body)


def trl_prm(
    make: Make, arch: str = "llama", separator: str = "\n", split: str = "\n", *, card: bool = True
) -> StepReplica:
    """`PRMTrainer.tokenize_row`: BOS, prompt, and after each step the separator's tokens, label at the last."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    folder = make(arch, task="TokenClassification", n_labels=2, seed=5, folder="trl-prm")
    if card:
        tags = "tags:\n- generated_from_trainer\n- trl\n- prm\n"
        (folder / "README.md").write_text(f"---\nlibrary_name: transformers\n{tags}---\n\n# Model card\n")
    own = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def values(prompt: str, reply: str) -> list[float]:
        def encode(text: str) -> list[int]:
            found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
            return found

        ids = [tokenizer.bos_token_id, *encode(prompt)]
        labelled = []
        for step in (step for step in reply.split(split) if step.strip()):
            ids += encode(step) + encode(separator)
            labelled.append(len(ids) - 1)
        with torch.no_grad():
            logits = own(torch.tensor([ids])).logits[0]
        return [float(logits[k].softmax(-1)[1]) for k in labelled]

    return StepReplica(folder, values, None)  # type: ignore[arg-type]
