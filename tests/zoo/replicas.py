"""Tiny replicas of public reward models: random weights in the published layout, and a plain forward pass.

The reference reads one text at a time, in float32, with transformers' body and the head written out here from
the published description. It shares no code with rmbench.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

Make = Callable[..., Path]
EOS = "</s>"
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{% endfor %}"
)
WITH_NEWLINE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}{{ eos_token }}{{ '\\n' }}{% endfor %}"
)
NO_EOS = "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}\n{% endfor %}"
HEADERS = (
    "{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] }}<|eot_id|>{% endfor %}"
)
GATE = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


@dataclass(frozen=True)
class Replica:
    """A folder, and the reward of a prompt and a reply as its own code would give it."""

    folder: Path
    reward: Callable[[str, str], float]


class Body:
    """A language model whose folder is changed into a reward model's."""

    def __init__(self, make: Make, arch: str = "llama", *, heads: Mapping[str, Any], **made: Any) -> None:
        import torch
        from safetensors.torch import load_file, save_file
        from transformers import AutoModelForCausalLM, AutoTokenizer

        config = made.pop("config", {})
        rename, without = made.pop("rename", ("", "")), made.pop("without", ())
        beside = made.pop("beside", None)
        special = made.pop("special", {})
        made = {"template": TEMPLATE, "initializer_range": 0.1, "seed": 3} | made
        self.folder = make(arch, task="CausalLM", **made)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        if special:
            self.tokenizer.add_special_tokens(special)
            self.tokenizer.save_pretrained(self.folder)
        self.model = AutoModelForCausalLM.from_pretrained(self.folder, dtype=torch.float32).eval()
        file = self.folder / "model.safetensors"
        own = load_file(file)
        own = {rename[1] + k.removeprefix(rename[0]): v for k, v in own.items() if not k.startswith(without)}
        self.heads = dict(heads)
        if beside is None:
            own |= heads
        else:
            save_file(dict(heads), self.folder / beside)
        save_file(own, file, {"format": "pt"})
        path = self.folder / "config.json"
        told = json.loads(path.read_text())
        path.write_text(json.dumps(told | config))

    def states(self, text: str, *, special: bool = False) -> tuple[list[int], Any]:
        """Return the ids of a text, and the hidden state of each, (T, D)."""
        import torch

        ids = self.tokenizer(text, add_special_tokens=special)["input_ids"]
        with torch.no_grad():
            body = getattr(self.model, self.model.base_model_prefix)
            return ids, body(torch.tensor([ids])).last_hidden_state[0]

    def linear(self, name: str, x: Any) -> Any:
        """Apply the linear map of a name."""
        weight, bias = self.heads[f"{name}.weight"], self.heads.get(f"{name}.bias")
        return x @ weight.T + (0 if bias is None else bias)


def drawn(*shape: int, seed: int = 0) -> Any:
    """Return random numbers."""
    import torch

    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed + sum(shape)))


def chat(prompt: str, reply: str) -> str:
    """Return what `TEMPLATE` writes."""
    return f"<s><|user|>{prompt}{EOS}<|assistant|>{reply}{EOS}"


def mlp_score(make: Make) -> Replica:
    """INF-ORM, Qwen2.5-Math-RM: `score` of two linear maps, ReLU between them."""
    heads = {
        "score.0.weight": drawn(32, 32), "score.0.bias": drawn(32), "score.2.weight": drawn(1, 32),
        "score.2.bias": drawn(1),
    }  # fmt: skip
    body = Body(make, "qwen2", heads=heads, config={"architectures": ["Qwen2ForRewardModel"]})

    def reward(prompt: str, reply: str) -> float:
        last = body.states(chat(prompt, reply))[1][-1]
        return float(body.linear("score.2", body.linear("score.0", last).relu()))

    return Replica(body.folder, reward)


def last_token(body: Body, name: str, **states: Any) -> Callable[[str, str], float]:
    """Return the reward of a linear head at the last token of `TEMPLATE`."""
    return lambda prompt, reply: float(body.linear(name, body.states(chat(prompt, reply), **states)[1][-1]))


def value_head(make: Make) -> Replica:
    """A causal language model with `v_head.weight`."""
    body = Body(make, heads={"v_head.weight": drawn(1, 32)})
    return Replica(body.folder, last_token(body, "v_head"))


def starling_7b(make: Make) -> Replica:
    """Starling-RM-7B: the text of its card, to which the tokenizer adds BOS."""
    body = Body(make, heads={"v_head.weight": drawn(1, 32)}, rename=("model.", "transformer."),
                without=("lm_head",), config={"vocab_size": 32000}, vocab_size=32000)  # fmt: skip

    def reward(prompt: str, reply: str) -> float:
        text = f"[INST] {prompt} </s> [/INST] {reply}</s>"
        return float(body.linear("v_head", body.states(text, special=True)[1][-1]))

    return Replica(body.folder, reward)


def starling(make: Make) -> Replica:
    """Starling: the body is saved as `transformer`."""
    body = Body(
        make, heads={"v_head.weight": drawn(1, 32)}, rename=("model.", "transformer."), without=("lm_head",)
    )
    return Replica(body.folder, last_token(body, "v_head"))


def trl_value_head(make: Make) -> Replica:
    """TRL's value head, with its bias."""
    heads = {"v_head.summary.weight": drawn(1, 32), "v_head.summary.bias": drawn(1)}
    body = Body(make, "gpt2", heads=heads)
    return Replica(body.folder, last_token(body, "v_head.summary"))


def llama_factory(make: Make) -> Replica:
    """LLaMA-Factory: TRL's head in a file of its own."""
    heads = {"v_head.summary.weight": drawn(1, 32), "v_head.summary.bias": drawn(1)}
    body = Body(make, "qwen2", heads=heads, beside="value_head.safetensors")
    return Replica(body.folder, last_token(body, "v_head.summary"))


def grm(make: Make, n_hidden: int = 1) -> Replica:
    """GRM: a value head of linear maps, ReLU between them (`vhead_num_layers`)."""
    sizes = [32, *[24] * n_hidden, 1]
    heads = {}
    for n, (size, after) in enumerate(pairwise(sizes)):
        heads |= {f"v_head.summary.{2 * n}.weight": drawn(after, size, seed=n) / 4,
                  f"v_head.summary.{2 * n}.bias": drawn(after, seed=n)}  # fmt: skip
    body = Body(make, heads=heads)

    def reward(prompt: str, reply: str) -> float:
        x = body.states(chat(prompt, reply))[1][-1]
        for n in range(n_hidden + 1):
            x = body.linear(f"v_head.summary.{2 * n}", x if n == 0 else x.relu())
        return float(x)

    return Replica(body.folder, reward)


def athene(make: Make) -> Replica:
    """Athene: read at the CLS token that follows the text."""
    body = Body(
        make, heads={"v_head.weight": drawn(1, 32)}, special={"cls_token": "<s>"}, without=("lm_head",)
    )

    def reward(prompt: str, reply: str) -> float:
        ids, states = body.states(chat(prompt, reply) + "<s>")
        assert ids[-1] == body.tokenizer.cls_token_id
        return float(body.linear("v_head", states[-1]))

    return Replica(body.folder, reward)


def regression_head(make: Make, arch: str, form: str) -> Replica:
    """UltraRM, Eurus-RM: no EOS, last token."""
    heads = {"regression_head.weight": drawn(1, 32)}
    body = Body(make, arch, heads=heads, template=None, without=("lm_head",))

    def reward(prompt: str, reply: str) -> float:
        text = form.format(prompt=prompt, reply=reply)
        return float(body.linear("regression_head", body.states(text, special=True)[1][-1]))

    return Replica(body.folder, reward)


def ultrarm(make: Make) -> Replica:
    """UltraRM: no template, no EOS, last token."""
    return regression_head(make, "llama", "Human: {prompt}\nAssistant: {reply}")


def eurus_rm(make: Make) -> Replica:
    """Eurus-RM: the same on Mistral, in another text."""
    return regression_head(make, "mistral", "[INST] {prompt} [/INST] {reply}")


def beaver(make: Make, kind: str = "reward") -> Replica:
    """safe-rlhf's score models."""
    heads = {"score_head.weight": drawn(1, 32), "score_head.bias": drawn(1)}
    config = {"architectures": ["LlamaModelForScore"], "score_type": kind, "do_normalize": False}
    body = Body(make, heads=heads, template=None, config=config, without=("lm_head",))
    sign = {"reward": 1, "cost": -1}[kind]

    def reward(prompt: str, reply: str) -> float:
        text = f"BEGINNING OF CONVERSATION: USER: {prompt} ASSISTANT:{reply}</s>"
        return sign * float(body.linear("score_head", body.states(text, special=True)[1][-1]))

    return Replica(body.folder, reward)


def openrlhf(make: Make, template: str = WITH_NEWLINE, prefix: str = "score", **config: Any) -> Replica:
    """OpenRLHF: no `num_labels`, line breaks stripped, EOS ensured, last EOS."""
    heads = {f"{prefix}.weight": drawn(1, 32)}
    body = Body(make, "qwen2", heads=heads, template=template, without=("lm_head",),
                config={"value_head_prefix": prefix, **config})  # fmt: skip

    def reward(prompt: str, reply: str) -> float:
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
        text = body.tokenizer.apply_chat_template(turns, tokenize=False).rstrip("\n")
        if not text.endswith(EOS):
            text += " " + EOS
        ids, states = body.states(text)
        last = max(k for k, i in enumerate(ids) if i == body.tokenizer.eos_token_id)
        found = float(body.linear(prefix, states[last]))
        return (found - config["mean"]) / config["std"] if config.get("normalize_reward") else found

    return Replica(body.folder, reward)


def old_openrlhf(make: Make) -> Replica:
    """OpenRLHF before `value_head_prefix`: a value head, and no key of the config that says so."""
    replica = openrlhf(make, prefix="value_head")
    path = replica.folder / "config.json"
    told = json.loads(path.read_text())
    del told["value_head_prefix"]
    path.write_text(json.dumps(told))
    return replica


def score_bias(make: Make, n_labels: int = 1) -> Replica:
    """A classifier whose own class gave `score` a bias, which transformers' class has no place for."""
    heads = {"score.weight": drawn(n_labels, 32), "score.bias": drawn(n_labels)}
    config = {"architectures": ["LlamaForSequenceClassification"], "num_labels": n_labels}
    body = Body(make, heads=heads, without=("lm_head",), config=config)
    return Replica(
        body.folder, lambda p, r: float(body.linear("score", body.states(chat(p, r))[1][-1])[n_labels - 1])
    )


def nemotron(make: Make, ids: tuple[int, ...] = (0,)) -> Replica:
    """Nemotron-70B-Reward-HF: the logit of token 0 that would come next; with two ids their difference."""
    body = Body(make, heads={})

    def reward(prompt: str, reply: str) -> float:
        last = body.states(chat(prompt, reply))[1][-1]
        logits = last @ body.model.lm_head.weight.detach().T
        return float(logits[ids[0]] - (logits[ids[1]] if len(ids) > 1 else 0))

    return Replica(body.folder, reward)


def trl_pad_eos(make: Make) -> Replica:
    """A classifier of TRL's trainer with EOS as padding: read by transformers' own forward pass."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = make("llama", pad=EOS, seed=5, folder="trl")
    tags = "tags:\n- generated_from_trainer\n- trl\n- reward-trainer\n"
    (folder / "README.md").write_text(f"---\nlibrary_name: transformers\n{tags}---\n\n# Model card\n")
    own = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def reward(prompt: str, reply: str) -> float:
        ids = tokenizer(chat(prompt, reply), add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            return float(own(ids).logits)

    return Replica(folder, reward)


def armorm(make: Make) -> Replica:
    """ArmoRM: rewards times a matrix, weighed by a gate that reads the first token of the reply's header."""
    heads = {
        "regression_layer.weight": drawn(5, 32), "reward_transform_matrix": drawn(5, 5),
        "gating.logit_scale": drawn(1, seed=4), "gating.layers.0.weight": drawn(16, 32),
        "gating.layers.0.bias": drawn(16), "gating.layers.1.weight": drawn(16, 16),
        "gating.layers.1.bias": drawn(16), "gating.layers.2.weight": drawn(5, 16),
    }  # fmt: skip
    body = Body(make, heads=heads, template=HEADERS, without=("lm_head",),
                special={"additional_special_tokens": ["<|eot_id|>"]}, config={"gating_temperature": 10.0},
                vocab_size=420)  # fmt: skip

    def reward(prompt: str, reply: str) -> float:
        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
        ids, states = body.states(body.tokenizer.apply_chat_template(turns, tokenize=False))
        mark = body.tokenizer(GATE, add_special_tokens=False)["input_ids"]
        place = max(k for k in range(len(ids)) if ids[k : k + len(mark)] == mark)
        x = states[place]
        for n in range(3):
            x = body.linear(f"gating.layers.{n}", x if n == 0 else x.relu())
        weights = (x / 10.0).softmax(dim=0) * heads["gating.logit_scale"][0]
        rewards = body.linear("regression_layer", states[-1]) @ heads["reward_transform_matrix"]
        return float((weights * rewards).sum())

    return Replica(body.folder, reward)
