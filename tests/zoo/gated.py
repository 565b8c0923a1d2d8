"""Replicas of reward models whose head has a gate: QRM, URM, LDL-Reward. As `replicas`, from the published code."""

from typing import Any

from replicas import GATE, HEADERS, TEMPLATE, Body, Make, Replica, chat, drawn

GEMMA = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] }}<end_of_turn>\n{% endfor %}"
)
GEMMA_GATE = "<end_of_turn>\n<start_of_turn>model\n"
N_QUANTILES = 4


def batch_norm(heads: dict[str, Any], name: str, x: Any) -> Any:
    """Return what torch's layer does after training."""
    import torch

    parts = [heads[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
    return torch.nn.functional.batch_norm(x[None], *parts, training=False)[0]


def norm_tensors(name: str, size: int, seed: int) -> dict[str, Any]:
    """Return the tensors of a batch normalisation that has seen data."""
    import torch

    return {
        f"{name}.weight": drawn(size, seed=seed), f"{name}.bias": drawn(size, seed=seed + 1),
        f"{name}.running_mean": drawn(size, seed=seed + 2), f"{name}.running_var": drawn(size, seed=7) ** 2 + 0.5,
        f"{name}.num_batches_tracked": torch.tensor(9),
    }  # fmt: skip


def qrm(make: Make, arch: str = "llama") -> Replica:
    """QRM: three objectives of four quantiles; the gate has batch normalisation after each ReLU.

    On Gemma-2 dropout stands after the first two normalisations, and there is no matrix.
    """
    gemma = arch == "gemma2"
    linear, norm, last = ((0, 4, 8), (2, 6, 10), 11) if gemma else ((0, 3, 6), (2, 5, 8), 9)
    heads: dict[str, Any] = {
        "regression_layer.weight": drawn(3 * N_QUANTILES, 32),
        "gating.logit_scale": drawn(1),
    }
    for n, (at, after) in enumerate(zip(linear, norm, strict=True)):
        heads[f"gating.layers.{at}.weight"] = drawn(16, 32 if n == 0 else 16, seed=n)
        heads |= norm_tensors(f"gating.layers.{after}", 16, n)
    heads |= {f"gating.layers.{last}.weight": drawn(3, 16), f"gating.layers.{last}.bias": drawn(3)}
    if not gemma:
        heads["reward_transform_matrix"] = drawn(3, 3)
    config = {"num_quantiles": N_QUANTILES} | ({} if gemma else {"gating_temperature": 5.0})
    special = ["<end_of_turn>", "<start_of_turn>"] if gemma else ["<|eot_id|>"]
    body = Body(make, arch, heads=heads, template=GEMMA if gemma else HEADERS, without=("lm_head",),
                special={"additional_special_tokens": special}, config=config, vocab_size=420)  # fmt: skip

    def reward(prompt: str, reply: str) -> float:
        import torch

        turns = [{"role": "user", "content": prompt}, {"role": "assistant", "content": reply}]
        ids, states = body.states(body.tokenizer.apply_chat_template(turns, tokenize=False))
        mark = body.tokenizer(GEMMA_GATE if gemma else GATE, add_special_tokens=False)["input_ids"]
        x = states[max(k for k in range(len(ids)) if ids[k : k + len(mark)] == mark)]
        for at, after in zip(linear, norm, strict=True):
            x = batch_norm(heads, f"gating.layers.{after}", body.linear(f"gating.layers.{at}", x).relu())
        x = body.linear(f"gating.layers.{last}", x)
        weights = (x / (1.0 if gemma else 5.0)).softmax(dim=0) * heads["gating.logit_scale"][0]
        expected = body.linear("regression_layer", states[-1]).reshape(3, N_QUANTILES).mean(dim=1)
        if not gemma:
            expected = expected @ heads["reward_transform_matrix"]
        return float(torch.sum(weights * expected))

    return Replica(body.folder, reward)


def urm(make: Make) -> Replica:
    """URM: pairs of mean and uncertainty; a gate of SELU layers at the last token, without a softmax."""
    heads = {"score.weight": drawn(6, 32)}
    for n, size in enumerate((32, 32, 3)):
        heads |= {
            f"weights.fc.{2 * n}.weight": drawn(size, 32, seed=n) / 5,
            f"weights.fc.{2 * n}.bias": drawn(size),
        }
    body = Body(make, heads=heads, without=("lm_head",), config={"num_labels": 6}, template=TEMPLATE)

    def reward(prompt: str, reply: str) -> float:
        import torch

        last = body.states(chat(prompt, reply))[1][-1]
        x = last
        for n in range(3):
            x = body.linear(f"weights.fc.{2 * n}", x if n == 0 else torch.nn.functional.selu(x))
        means = body.linear("score", last).view(3, 2)[:, 0]
        return float((means * x).sum())

    return Replica(body.folder, reward)


def ldl(make: Make) -> Replica:
    """LDL-Reward: two objectives with a distribution over ten values each; the head is in two pickles."""
    import torch

    heads = {}
    for n, (size, width) in enumerate(((16, 32), (16, 16), (20, 16))):
        heads |= {f"regression_layer.network.{2 * n}.weight": drawn(size, width, seed=n) / 4,
                  f"regression_layer.network.{2 * n}.bias": drawn(size)}  # fmt: skip
    for n, (size, width) in enumerate(((16, 32), (16, 16), (2, 16))):
        heads |= {f"gating_layer.network.{3 * n}.weight": drawn(size, width, seed=n + 5) / 4,
                  f"gating_layer.network.{3 * n}.bias": drawn(size)}  # fmt: skip
    body = Body(make, "gemma2", heads={}, rename=("model.", ""), without=("lm_head",))
    body.heads = heads
    for part in ("regression_layer", "gating_layer"):
        own = {k.removeprefix(f"{part}."): v for k, v in heads.items() if k.startswith(f"{part}.")}
        torch.save(own, body.folder / f"{part}.pt")

    def network(x: Any, name: str, step: int) -> Any:
        for n in range(3):
            x = body.linear(f"{name}.network.{step * n}", x if n == 0 else torch.nn.functional.leaky_relu(x))
        return x

    def reward(prompt: str, reply: str) -> float:
        last = body.states(chat(prompt, reply))[1][-1]
        rewards = network(last, "regression_layer", 2).view(-1, 10).softmax(dim=-1)  # (2, 10)
        distribution = network(last, "gating_layer", 3) @ rewards
        return float((distribution * torch.linspace(0, 1, 10)).sum())

    return Replica(body.folder, reward)
