"""Weights in the files that the model does not take: refused with what they mean, or remarked on."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="needs the extra hf")

from rmbench.errors import ConfigError  # noqa: E402
from rmbench.models.resolve import load_model  # noqa: E402
from rmbench.models.runtime import Runtime  # noqa: E402
from rmbench.types import Turn  # noqa: E402

Make = Callable[..., Path]
CPU = Runtime(device="cpu", dtype="float32", offline=True)
TALK = [Turn(role="user", content="What is the capital?"), Turn(role="assistant", content="Paris.")]
ATTENTION = "model.layers.0.self_attn."


def load(spec: str | Path, **options: str) -> Any:
    return load_model(str(spec), options, CPU).model


def reward(spec: str | Path, **options: str) -> float:
    return float(load(spec, **options).score([TALK])[0].reward)


def put_in(folder: Path, more: Mapping[str, Any]) -> Path:
    """Put more tensors into a checkpoint's file."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    save_file({**load_file(path), **more}, path, metadata={"format": "pt"})
    return folder


def set_config(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


FOREIGN = {
    "lora": (
        [f"{ATTENTION}q_proj.lora_A.default.weight", f"{ATTENTION}q_proj.lora_B.default.weight"],
        r"2 weights are in its files that Llama.* does not take .*q_proj\.lora_A.*: an adapter that was not merged;",
    ),
    "fp8": (
        [f"{ATTENTION}{name}_proj.weight_scale_inv" for name in "qkvo"],
        r"4 weights are .*\.\.\. 1 more\): scales of quantised weights, and its config\.json has no quant",
    ),
    "fp8 of compressed-tensors": ([f"{ATTENTION}q_proj.weight_scale"], r"1 weight is .*scales of quantised"),
    "norms": (
        [f"{ATTENTION}q_norm.weight", f"{ATTENTION}k_norm.weight"],
        r"k_norm\.weight, .*q_norm\.weight\): weights of another architecture than model_type 'llama'",
    ),
    "biases": ([f"{ATTENTION}q_proj.bias"], "weights of another architecture"),
    "head": (
        ["v_head.summary.weight"],
        r"v_head\.summary\.weight \(4,\); no recipe reads such",
    ),
    "normalisation": (["mean", "std"], r"\(mean, std\): another head"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_foreign_weights_are_refused(make_checkpoint: Make, kind: str) -> None:
    names, told = FOREIGN[kind]
    folder = put_in(make_checkpoint(), {name: torch.ones(4) for name in names})
    with pytest.raises(ConfigError, match=told):
        load(folder)


def test_layers_beyond_the_config_are_refused(make_checkpoint: Make) -> None:
    folder = make_checkpoint(num_hidden_layers=3)
    set_config(folder, num_hidden_layers=2)
    told = (
        r"9 weights are in its files .*model\.layers\.2\..*: layers up to number 2, and its config\.json says"
        r" num_hidden_layers 2 \(0 to 1\)"
    )
    with pytest.raises(ConfigError, match=told):
        load(folder)
    policy = make_checkpoint(task="CausalLM", num_hidden_layers=3, folder="policy")
    set_config(policy, num_hidden_layers=2)
    with pytest.raises(ConfigError, match=told):
        load(f"dpo:policy={policy}", reference="none")
    steps = make_checkpoint(task="TokenClassification", num_hidden_layers=3, folder="steps")
    set_config(steps, num_hidden_layers=2)
    with pytest.raises(ConfigError, match=told):
        load(f"process:{steps}")


def test_names_under_a_prefix_are_told_as_they_are(make_checkpoint: Make) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_checkpoint()
    path = folder / "model.safetensors"
    renamed = {f"module.{name}": tensor for name, tensor in load_file(path).items()}
    save_file(renamed, path, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"20 weights are .*\(module\.model\.embed_tokens\.weight, "):
        load(folder)


def test_a_second_head_of_a_policy_or_a_token_classifier_is_refused(make_checkpoint: Make) -> None:
    policy = put_in(make_checkpoint(task="CausalLM", folder="policy"), {"v_head.weight": torch.ones(1, 32)})
    with pytest.raises(ConfigError, match=r"v_head\.weight\): another head"):
        load(f"dpo:policy={policy}", reference="none")
    steps = make_checkpoint(task="TokenClassification", folder="steps")
    put_in(steps, {"v_head.weight": torch.ones(1, 32)})
    with pytest.raises(ConfigError, match=r"its files have a head: v_head\.weight \(1, 32\)"):
        load(f"process:{steps}")


def test_a_bias_of_the_language_models_own_head_is_refused(make_checkpoint: Make) -> None:
    policy = put_in(make_checkpoint(task="CausalLM"), {"lm_head.bias": torch.ones(400)})
    with pytest.raises(ConfigError, match=r"lm_head\.bias\)"):
        load(f"dpo:policy={policy}", reference="none")


@pytest.mark.parametrize(
    ("arch", "names", "told"),
    [
        ("llama", ["lm_head.weight"], "not used: a head for text (lm_head.weight)"),
        ("gpt2", ["transformer.h.0.attn.bias", "transformer.h.0.attn.masked_bias"],
         "not used: attention masks (transformer.h.0.attn.masked_bias)"),
        ("llama", ["model.layers.0.self_attn.rotary_emb.inv_freq"], None),  # transformers does not list it, nor attn.bias below
        ("llama", ["model.rotary_emb.cos_cached"],
         "not used: rotary buffers (model.rotary_emb.cos_cached)"),
    ],
)  # fmt: skip
def test_what_no_reward_depends_on_is_a_remark(
    make_checkpoint: Make, arch: str, names: list[str], told: str | None
) -> None:
    folder = make_checkpoint(arch)
    expected, before = reward(folder), load(folder).notes()
    put_in(folder, {name: torch.ones(4) for name in names})
    model = load(folder)
    assert float(model.score([TALK])[0].reward) == expected
    said = [note for note in model.notes() if note not in before]
    assert said == ([] if told is None else [told])


def test_parts_of_an_encoders_pre_training_are_a_remark(make_checkpoint: Make) -> None:
    folder = make_checkpoint("roberta", tokenizer="pair", template=None)
    expected = reward(folder)
    put_in(folder, {"lm_head.dense.weight": torch.ones(4), "roberta.pooler.dense.weight": torch.ones(4)})
    model = load(folder)
    assert float(model.score([TALK])[0].reward) == pytest.approx(expected, abs=1e-5)
    assert "not used: a head for text (lm_head.dense.weight)" in model.notes()
    assert "not used: a pooler (roberta.pooler.dense.weight)" in model.notes()


def test_a_trained_base_with_a_language_head_says_so(make_checkpoint: Make) -> None:
    folder = make_checkpoint(task="CausalLM")
    assert "not used: a head for text (lm_head.weight)" in load(folder, fresh_head="3").notes()
