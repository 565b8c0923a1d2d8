"""Every architecture of transformers with a classifier or a language model, as a tiny random checkpoint.

Its texts lie on both sides of each window and switch that its config names. It is refused in one line, or
gives each text the reward of a forward pass of its own. A few run by default, all of them with `-m slow`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_models

from rmbench.errors import ConfigError
from rmbench.models.resolve import Runtime, load_model
from rmbench.types import Turn

Make = Callable[..., Path]
PROMPTS = ["What is the capital of France? " * 5, "Tell me all. "]
REPLIES = ["Paris.", "I do not know. " * 7, "Tell me all, and then 0 1 2."]
TEXTS = [(prompt, reply) for prompt in PROMPTS for reply in REPLIES]
BATCH = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)] for prompt, reply in TEXTS
]
SMALL: dict[str, Any] = {
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "dim", "embedding_size", "word_embed_proj_dim"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "d_ff", "hidden_dim", "n_inner", "dim_ff"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), 2),
    **dict.fromkeys(("encoder_layers", "decoder_layers"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 24),
    **dict.fromkeys(("max_position_embeddings", "n_positions"), 256),
    **dict.fromkeys(("sliding_window", "attention_window_size", "attention_chunk_size"), 48),
    **dict.fromkeys(("local_attention", "attention_window", "window_size", "sliding_window_size"), 48),
    **dict.fromkeys(("qk_nope_head_dim", "v_head_dim", "head_dim", "rotary_dim", "dim_head"), 8),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "qk_rope_head_dim"), 8),
    "vocab_size": 400, "num_key_value_heads": 2, "num_experts_per_tok": 2, "use_sliding_window": True,
    "max_window_layers": 2, "keep_window_size": 48, "initializer_range": 0.2, "n_group": 2, "topk_group": 1,
    "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "first_k_dense_replace": 1, "index_topk": 48,
    "block_size": 4, "num_buckets": 8, "axial_pos_embds": False, "tie_word_embeddings": False,
}  # fmt: skip
MORE: dict[str, dict[str, Any]] = {
    "phi3": {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1e4, "factor": 4.0,
             "original_max_position_embeddings": 64, "short_factor": [1.0] * 4, "long_factor": [6.0] * 4},
             "original_max_position_embeddings": 64},
    "big_bird": {"num_random_blocks": 1},
}  # fmt: skip
FEW = [
    ("SequenceClassification", name)
    for name in ("bert", "fnet", "llama", "mistral", "phi3", "phimoe", "big_bird", "gpt2", "qwen3")
]
TASKS = {
    "SequenceClassification": "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES",
    "TokenClassification": "MODEL_FOR_TOKEN_CLASSIFICATION_MAPPING_NAMES",
    "CausalLM": "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES",
}
LARGEST = 20_000_000


class NotBuiltError(Exception):
    """transformers makes no tiny model of this kind from the settings here."""


def build(make: Make, arch: str, task: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, bool]:
    """Return the folder of a tiny model, and whether it reads text pairs."""
    import torch
    import transformers

    try:
        known = transformers.AutoConfig.for_model(arch).to_dict()
    except Exception as error:
        raise NotBuiltError(f"{type(error).__name__}: {error}") from error
    settings = {key: value for key, value in SMALL.items() if key in known} | MORE.get(arch, {})
    if "qk_rope_head_dim" in settings:
        settings.pop("head_dim", None)
        settings["num_key_value_heads"] = settings["num_attention_heads"]
    monkeypatch.setattr(
        tiny_models,
        "tiny_config",
        lambda _, **more: transformers.AutoConfig.for_model(arch, **(settings | more)),
    )
    auto = getattr(transformers, f"AutoModelFor{task}")
    try:
        with torch.device("meta"):
            made = auto.from_config(transformers.AutoConfig.for_model(arch, **settings))
        if sum(weight.numel() for weight in made.parameters()) > LARGEST:
            raise NotBuiltError("too large")
        pair = task == "SequenceClassification" and not hasattr(made, "score")
        text = {"tokenizer": "pair", "template": None} if pair else {}
        return make(arch, task=task, folder=arch, **text), pair
    except Exception as error:
        raise NotBuiltError(f"{type(error).__name__}: {error}") from error


def reference(folder: Path, task: str, pair: bool) -> list[float]:
    """Return each reward from transformers' own forward pass of one text."""
    import torch
    import transformers

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, f"AutoModelFor{task}").from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for prompt, reply in TEXTS:
        before = f"<s><|user|>{prompt}</s><|assistant|>"
        texts = ([prompt], [reply]) if pair else ([f"{before}{reply}</s>"],)
        inputs = dict(tokenizer(*texts, add_special_tokens=pair, return_tensors="pt"))
        del inputs["attention_mask"]
        ids = inputs["input_ids"]
        with torch.no_grad():
            logits = model(**inputs, **({} if pair else {"use_cache": False})).logits[0]
        start = len(tokenizer(before, add_special_tokens=False)["input_ids"])
        if task == "SequenceClassification":
            found.append(float(logits[0]))
        elif task == "TokenClassification":
            found.append(float(logits[start:, 0].mean()))
        else:
            logps = logits[start - 1 : -1].log_softmax(dim=-1)
            found.append(float(logps.gather(1, ids[0, start:, None]).sum()))
    return found


def outcome(make: Make, arch: str, task: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return `right`, or `refused: ...`; AssertionError if rewards are wrong."""
    folder, pair = build(make, arch, task, monkeypatch)
    spec = {"CausalLM": "dpo:policy={}", "TokenClassification": "process:{}"}.get(task, "{}").format(folder)
    options = {
        "CausalLM": {"reference": "none"},
        "TokenClassification": {"reduce": "mean", "value": "logit"},
    }.get(task, {})
    try:
        model: Any = load_model(spec, options, Runtime(device="cpu")).model
        found = [scored.reward for scored in model.score(BATCH)]
    except ConfigError as error:
        return f"refused: {error}"
    expected = reference(folder, task, pair)
    scale = max(1.0, *(abs(x) for x in expected))
    alone = [model.score([c])[0].reward for c in BATCH]
    assert found == pytest.approx(expected, abs=1e-4 * scale), arch
    assert alone == pytest.approx(expected, abs=1e-4 * scale), arch
    return "right"


@pytest.mark.parametrize(("task", "arch"), FEW)
def test_a_few_architectures(
    make_checkpoint: Make, arch: str, task: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = outcome(make_checkpoint, arch, task, monkeypatch)
    assert found.startswith("refused:" if arch == "big_bird" else "right")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", TASKS)
def test_every_architecture(
    make_checkpoint: Make, task: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes: each is built, saved, loaded twice and read text by text."""
    from transformers.models.auto import modeling_auto

    n_right, told, wrong = 0, list[str](), list[str]()
    for arch in getattr(modeling_auto, TASKS[task]):
        try:
            found = outcome(make_checkpoint, arch, task, monkeypatch)
        except NotBuiltError as error:
            found = f"not built: {error}"
        except Exception as error:  # whatever a foreign class does, it is to be one line
            wrong.append(f"{arch}: {type(error).__name__}: {error}")
            continue
        n_right += found == "right"
        told.append(f"{arch}: {found}")
    with capsys.disabled():
        print(
            "\n".join([f"\n{task}: {n_right} right", *(t[:200] for t in told if not t.endswith(": right"))])
        )
    assert not wrong, "\n".join(wrong)
    assert n_right > 30
