"""Bodies under other names (InternLM2): tensors, tokenizers, and what is refused."""

import json
from pathlib import Path
from typing import Any

import internlm2
import pytest
from hub_cache import put, use_cache
from replicas import Make, drawn

from rmbench.errors import ConfigError
from rmbench.models.hf.checkpoint import find_checkpoint
from rmbench.models.hf.load import load_causal
from rmbench.models.resolve import load_model
from rmbench.models.runtime import Runtime
from rmbench.types import Turn

CONVERSATION = [
    Turn(role="user", content="Tell me all."),
    Turn(role="assistant", content="I do  not know.\n\nNo."),
]


def reward(folder: Path, **options: str) -> float:
    return load_model(str(folder), options).model.score([CONVERSATION])[0].reward  # type: ignore[union-attr]


def change(folder: Path, **config: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


def test_pickled_weights_and_shards(make_checkpoint: Make) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    replica = internlm2.reward_model(make_checkpoint)
    expected = replica.reward(*(turn["content"] for turn in CONVERSATION))
    file = replica.folder / "model.safetensors"
    tensors = load_file(file)
    file.unlink()
    parts = {f"model-{n}.safetensors": list(tensors)[n::2] for n in range(2)}
    for name, names in parts.items():
        save_file({each: tensors[each] for each in names}, replica.folder / name, {"format": "pt"})
    index = {each: name for name, names in parts.items() for each in names}
    (replica.folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    assert reward(replica.folder) == pytest.approx(expected, abs=1e-5)
    for path in replica.folder.glob("model*"):
        path.unlink()
    torch.save(tensors, replica.folder / "pytorch_model.bin")
    assert reward(replica.folder) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("sentencepiece", [False, True])
def test_the_hub(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sentencepiece: bool
) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    replica = internlm2.reward_model(make_checkpoint, sentencepiece=sentencepiece)
    put(cache, "org/rm", "a" * 40, replica.folder)
    expected = replica.reward(*(turn["content"] for turn in CONVERSATION))
    found: Any = load_model("hf:org/rm", {}).model
    assert found.score([CONVERSATION])[0].reward == pytest.approx(expected, abs=1e-5)


def test_the_language_model_is_read_too(make_checkpoint: Make) -> None:
    import torch
    from safetensors.torch import load_file, save_file

    folder = internlm2.reward_model(make_checkpoint).folder
    tensors = load_file(folder / "model.safetensors")
    del tensors["v_head.weight"]
    tensors["output.weight"] = drawn(len(tensors["model.tok_embeddings.weight"]), internlm2.SIZE)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    change(folder, architectures=["InternLM2ForCausalLM"])
    read = load_causal(find_checkpoint(str(folder), None), Runtime(device="cpu"))
    ids = [1, 30, 40, 50]
    with torch.no_grad():
        logits = read.model(torch.tensor([ids])).logits[0]
    assert logits.numpy() == pytest.approx(
        (internlm2.states(tensors, ids) @ tensors["output.weight"].T).numpy(), abs=1e-4
    )


def test_the_repositorys_code_does_not_run(make_checkpoint: Make) -> None:
    replica = internlm2.reward_model(make_checkpoint)
    for name in ("configuration_internlm2", "modeling_internlm2", "tokenization_internlm2"):
        (replica.folder / f"{name}.py").write_text("raise SystemExit(3)")
    expected = replica.reward(*(turn["content"] for turn in CONVERSATION))
    assert reward(replica.folder) == pytest.approx(expected, abs=1e-5)
    with pytest.raises(ConfigError, match="pass --trust-remote-code"):
        reward(replica.folder, forward="own")


@pytest.mark.parametrize(("config", "told"), [
    ({"num_key_value_heads": 4}, r"attention\.wqkv\.weight' is \(64, 32\), which the heads .* do not fit"),
    ({"num_hidden_layers": 1}, "layers up to number 1"),
    ({"num_hidden_layers": 3}, "weights of the model itself are missing"),
    ({"reward_token_id": 5000}, "the config has 5000 there; expected an id below"),
    ({"reward_token_id": "x"}, "the config has 'x' there; expected an id"),
    ({"max_position_embeddings": 16}, None),
])  # fmt: skip
def test_a_config_of_another_model(make_checkpoint: Make, config: dict[str, Any], told: str | None) -> None:
    folder = internlm2.reward_model(make_checkpoint).folder
    change(folder, **config)
    if told is not None:
        with pytest.raises(ConfigError, match=told) as error:
            reward(folder)
        assert "\n" not in str(error.value)
    elif "max_position_embeddings" in config:  # the rotary switch of long texts is never reached
        with pytest.raises(ConfigError, match="the model has 16 positions"):
            reward(folder, max_length="32")


def test_a_tokenizer_with_a_space_before_each_text(make_checkpoint: Make) -> None:
    """The rule is in tokenizer.model, and not the same in all of them."""
    import sentencepiece

    folder = internlm2.reward_model(make_checkpoint, sentencepiece=True, prefix=True).folder
    tokenizer = load_model(str(folder), {}).model.tokenizer  # type: ignore[union-attr]
    pieces = sentencepiece.SentencePieceProcessor(str(folder / "tokenizer.model"))
    for text in ("Tell me all.", "What is  the capital?", "é 漢"):
        assert tokenizer(text, add_special_tokens=False)["input_ids"] == pieces.encode(text)
        assert pieces.encode(text, out_type=str)[0].startswith("▁")


def test_a_folder_without_a_tokenizer(make_checkpoint: Make) -> None:
    folder = internlm2.reward_model(make_checkpoint).folder
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigError, match="it has no tokenizer"):
        reward(folder)
    (folder / "tokenizer.model").write_bytes(b"no model")
    with pytest.raises(ConfigError, match=r"cannot be (loaded|read)"):
        reward(folder)
