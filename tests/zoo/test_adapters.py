"""PEFT adapters as models: merged into their base, never twice, never into another one."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hub_cache import put, use_cache

torch = pytest.importorskip("torch", reason="needs the extra hf")
pytest.importorskip("peft", reason="needs the extra train")

from adapter_builders import merged_by_peft, put_adapter, reference_rewards  # noqa: E402

from rmbench.cli.main import run  # noqa: E402
from rmbench.errors import ConfigError  # noqa: E402
from rmbench.models.hf.weights import adapter as adapters  # noqa: E402
from rmbench.models.resolve import load_model  # noqa: E402
from rmbench.models.runtime import Runtime  # noqa: E402
from rmbench.types import Turn  # noqa: E402

Make = Callable[..., Path]
CPU = Runtime(device="cpu", dtype="float32", offline=True)
PROMPTS = ("What is the capital of France?", "Tell me all. The quick brown fox jumps over the lazy dog.")
REPLIES = ("Paris.", "I do not know, and then it sleeps. 1 2 3", "No.")
TALKS = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)]
    for prompt in PROMPTS
    for reply in REPLIES
]


def load(spec: str | Path, **options: str) -> Any:
    return load_model(str(spec), options, CPU).model


def numbers(model: Any, talks: Any = TALKS) -> list[float]:
    return [scored.reward for scored in model.score(talks)]


def is_close(found: list[float], expected: list[float]) -> bool:
    return found == pytest.approx(expected, abs=1e-5)


def check_reads(spec: str | Path, expected: list[float], **options: str) -> Any:
    """Check rewards one text at a time, batched, and with shared prompts."""
    model = load(spec, **options)
    assert is_close(numbers(model), expected)
    assert is_close([numbers(model, [talk])[0] for talk in TALKS], expected)
    assert is_close(numbers(load(spec, share_prompts="false", **options)), expected)
    return model


# --- Right rewards ---


@pytest.mark.parametrize("base_task", ["SequenceClassification", "CausalLM"])
@pytest.mark.parametrize("options", [{}, {"use_dora": True}, {"bias": "lora_only"}, {"use_rslora": True}])
def test_a_classifier_adapter_is_merged_into_its_base(
    make_checkpoint: Make, tmp_path: Path, base_task: str, options: dict[str, Any]
) -> None:
    base = make_checkpoint(task=base_task, folder="base")
    folder = put_adapter(base, tmp_path / "adapter", **options)
    model = load(folder)
    rows = [row.ids for row in model.encode(TALKS)]
    expected = reference_rewards(merged_by_peft(base, folder, "SEQ_CLS", num_labels=1), rows)
    assert len({round(x, 3) for x in expected}) == len(TALKS)
    assert check_reads(folder, expected).sharing_problem is None
    if base_task == "SequenceClassification":
        assert not is_close(numbers(load(base)), expected)
    assert f"the adapter is merged into its base {base}" in model.notes()
    assert model.display_name == "adapter"


@pytest.mark.parametrize("arch", ["mistral", "qwen2", "gemma2"])
def test_other_architectures(make_checkpoint: Make, tmp_path: Path, arch: str) -> None:
    base = make_checkpoint(arch, task="CausalLM", folder="base")
    folder = put_adapter(base, tmp_path / "adapter", target_modules="all-linear")
    rows = [row.ids for row in load(folder).encode(TALKS)]
    expected = reference_rewards(merged_by_peft(base, folder, "SEQ_CLS", num_labels=1), rows)
    check_reads(folder, expected)


def test_an_encoder(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint("bert", tokenizer="pair", template=None, folder="base")
    folder = put_adapter(base, tmp_path / "adapter", target_modules=["query", "value"])
    model, merged = load(folder), merged_by_peft(base, folder, "SEQ_CLS", num_labels=1)
    with torch.inference_mode():
        expected = [
            float(
                merged(**load(base).tokenizer(t[0]["content"], t[1]["content"], return_tensors="pt")).logits[
                    0, 0
                ]
            )
            for t in TALKS
        ]
    assert is_close(numbers(model), expected)
    assert not is_close(numbers(load(base)), expected)


def test_a_head_of_several_labels_decides_their_number(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint(folder="base")
    folder = put_adapter(base, tmp_path / "adapter", n_labels=3)
    with pytest.raises(ConfigError, match="3 labels"):
        load(folder)
    merged = merged_by_peft(base, folder, "SEQ_CLS", num_labels=3)
    rows = [row.ids for row in load(folder, label="0").encode(TALKS)]
    assert is_close(numbers(load(folder, label="0")), reference_rewards(merged, rows))


def test_an_adapter_with_more_tokens_than_its_base(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint(task="CausalLM", folder="base")
    folder = put_adapter(base, tmp_path / "adapter", grow_vocabulary=3)
    merged = merged_by_peft(base, folder, "SEQ_CLS", vocabulary=403, num_labels=1)
    rows = [row.ids for row in load(folder).encode(TALKS)]
    check_reads(folder, reference_rewards(merged, rows))


def test_an_adapter_of_bin_files(make_checkpoint: Make, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    base = make_checkpoint(task="CausalLM", folder="base")
    folder = put_adapter(base, tmp_path / "adapter")
    expected = numbers(load(folder))
    torch.save(load_file(folder / "adapter_model.safetensors"), folder / "adapter_model.bin")
    (folder / "adapter_model.safetensors").unlink()
    check_reads(folder, expected)


def test_a_tokenizer_beside_the_adapter_is_the_one_that_is_read(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    base = make_checkpoint(task="CausalLM", template=None, folder="base")
    own = make_checkpoint(folder="own")
    folder = put_adapter(base, tmp_path / "adapter")
    plain = load(folder).encode(TALKS)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(own / name, folder)
    assert load(folder).encode(TALKS) == load(own).encode(TALKS) != plain


def test_a_policy_and_a_token_classifier(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint(task="CausalLM", folder="base")
    policy = put_adapter(base, tmp_path / "policy", task="CAUSAL_LM", kind="CAUSAL_LM")
    merged = tmp_path / "merged"
    merged_by_peft(base, policy, "CAUSAL_LM").save_pretrained(merged)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / name, merged)
    expected = numbers(load(f"dpo:policy={merged},ref={base}"))
    assert max(map(abs, expected)) > 0.1
    assert is_close(numbers(load(f"dpo:policy={policy},ref={base}")), expected)
    assert is_close(numbers(load(f"dpo:policy={policy},ref={base}", base=str(base))), expected)

    steps = put_adapter(base, tmp_path / "steps", task="TOKEN_CLS", kind="TOKEN_CLS", n_labels=2,
                        modules_to_save=["score"])  # fmt: skip
    model = load(f"process:{steps}", label="1")
    reference = merged_by_peft(base, steps, "TOKEN_CLS", num_labels=2)
    with torch.inference_mode():
        logits = [reference(input_ids=torch.tensor([row.ids])).logits[0] for row in model.encode(TALKS)]
        read = [row.reply[1] - 1 for row in model.encode(TALKS)]
    last = [float(each[k].softmax(-1)[1]) for each, k in zip(logits, read, strict=True)]
    assert is_close(numbers(model), last)


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_a_value_head_beside_the_adapter(make_checkpoint: Make, tmp_path: Path, suffix: str) -> None:
    """LLaMA-Factory writes the head of a reward model in a file of its own."""
    from safetensors.torch import save_file

    base = make_checkpoint(task="CausalLM", folder="base")
    folder = put_adapter(base, tmp_path / "adapter", task="CAUSAL_LM", kind="CAUSAL_LM")
    head = {"v_head.summary.weight": torch.randn(1, 32), "v_head.summary.bias": torch.randn(1)}
    if suffix == "bin":
        torch.save(head, folder / "value_head.bin")
    else:
        save_file(head, folder / "value_head.safetensors")
    merged = merged_by_peft(base, folder, "CAUSAL_LM")
    rows = [row.ids for row in load(folder).encode(TALKS)]
    with torch.inference_mode():
        last = [merged.model(input_ids=torch.tensor([ids])).last_hidden_state[0, -1] for ids in rows]
    weight, bias = head.values()
    model = check_reads(folder, [float(each @ weight[0] + bias[0]) for each in last])
    assert model.fingerprint()["recipe"].startswith("trl-value-head:")


def test_an_adapter_that_trl_trained_with_eos_as_padding(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint(task="CausalLM", folder="base", pad="</s>")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"pad_token_id": None}))
    folder = put_adapter(base, tmp_path / "adapter")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(base / name, folder)
    merged = merged_by_peft(base, folder, "SEQ_CLS", num_labels=1)
    rows = [row.ids for row in load(folder).encode(TALKS)]
    assert is_close(numbers(load(folder)), reference_rewards(merged, rows))
    (folder / "README.md").write_text("---\ntags:\n- trl\n- reward-trainer\n---\n")
    model = check_reads(folder, reference_rewards(merged, [ids[:-1] for ids in rows]))
    assert model.fingerprint()["recipe"].startswith("trl-pad-eos:")


def test_a_head_of_the_base_that_a_recipe_reads(make_checkpoint: Make, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    base = make_checkpoint(task="CausalLM", folder="base")
    folder = put_adapter(base, tmp_path / "adapter")
    alone = put_adapter(base, tmp_path / "alone", task=None)
    file, head = base / "model.safetensors", torch.randn(1, 32)
    save_file({**load_file(file), "v_head.weight": head}, file, metadata={"format": "pt"})
    with pytest.raises(ConfigError, match=r"a head that the recipe value-head does not read: score\.weight"):
        load(folder)
    own = load(folder, recipe="none")
    of_adapter = merged_by_peft(base, folder, "SEQ_CLS", num_labels=1)
    assert is_close(numbers(own), reference_rewards(of_adapter, [row.ids for row in own.encode(TALKS)]))
    model = load(alone)
    merged = merged_by_peft(base, alone, "SEQ_CLS", num_labels=1)
    with torch.no_grad():
        merged.score.weight.copy_(head)
    rows = [row.ids for row in model.encode(TALKS)]
    check_reads(alone, reference_rewards(merged, rows))


# --- The base ---


def test_the_base_is_found_from_the_adapter_from_here_or_by_option(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_checkpoint(folder="base")
    first = put_adapter(base, tmp_path / "adapter", named="../base")
    expected = numbers(load(first))
    second = put_adapter(base, tmp_path / "deep" / "adapter", named="base")
    with pytest.raises(ConfigError, match="base"):
        load(second)
    monkeypatch.chdir(tmp_path)
    assert numbers(load(second)) == expected
    third = put_adapter(base, tmp_path / "third", named="/gone/base")
    with pytest.raises(
        ConfigError, match=r"third: its base '/gone/base' .* is not here; pass -M base=FOLDER"
    ):
        load(third)
    assert numbers(load(third, base=str(base))) == expected


def test_a_name_that_means_two_folders_is_refused(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_checkpoint(folder="base")
    folder = put_adapter(base, tmp_path / "adapter", named="base")
    shutil.copytree(base, folder / "base")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigError, match=r"its base 'base' may be .* and .*; choose one: pass -M base=FOLDER"
    ):
        load(folder)


def test_base_and_adapter_are_both_in_the_identity(make_checkpoint: Make, tmp_path: Path) -> None:
    base, other = make_checkpoint(folder="base"), make_checkpoint(folder="other", seed=3)
    folder = put_adapter(base, tmp_path / "adapter")
    new = put_adapter(base, tmp_path / "new", seed=8)
    found = [load(f, **o).fingerprint()["weights"] for f, o in
             [(base, {}), (folder, {}), (folder, {"base": str(other)}), (new, {})]]  # fmt: skip
    assert len(set(found)) == 4
    assert re.fullmatch(r"sha256:[0-9a-f]{64} adapter sha256:[0-9a-f]{64}", found[1])
    assert found[1].startswith(found[0])


def test_base_and_adapter_from_the_hub(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = use_cache(monkeypatch, tmp_path / "hub")
    base = make_checkpoint(task="CausalLM", folder="base")
    folder = put_adapter(base, tmp_path / "adapter")
    expected = numbers(load(folder))
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"base_model_name_or_path": "org/base", "revision": "v2"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigError, match=r"adapter: its base org/base cannot be read .*-M base=FOLDER"):
        load(folder)
    put(cache, "org/base", "b" * 40, make_checkpoint(task="CausalLM", folder="main", seed=5))
    put(cache, "org/base", "c" * 40, base, branch="v2")
    put(cache, "org/rm", "a" * 40, folder)
    assert load(folder).fingerprint()["weights"].startswith(f"org/base@{'c' * 40} adapter sha256:")
    assert numbers(load(folder)) == expected
    model = load("hf:org/rm")
    assert model.fingerprint()["weights"] == f"org/base@{'c' * 40} adapter org/rm@{'a' * 40}"
    assert numbers(model) == expected


# --- Merged weights with leftovers ---


def without_peft(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapters, "find_spec", lambda name: None)
    monkeypatch.setattr("transformers.models.auto.auto_factory.is_peft_available", lambda: False)
    monkeypatch.setattr("transformers.integrations.peft.is_peft_available", lambda: False)


def test_merged_weights_are_one_model_with_peft_and_without(
    make_checkpoint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, merged = make_checkpoint(folder="base"), make_checkpoint(folder="merged")
    adapter = put_adapter(base, tmp_path / "adapter", merged_into=merged)
    expected = numbers(load(merged))
    assert is_close(expected, numbers(load(adapter)))
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, merged)
    model = check_reads(merged, expected)
    assert (
        "the adapter beside the weights is merged already (score.weight of both is the same); it is not"
        in (" ".join(model.notes()))
    )
    without_peft(monkeypatch)
    again = check_reads(merged, expected)
    assert again.fingerprint() == model.fingerprint()
    assert again.notes() == model.notes()
    with pytest.raises(
        ConfigError, match=r"an adapter \(adapter_config\.json\), which peft reads: pip install"
    ):
        load(adapter)


def test_merged_language_models_are_compared_with_their_base(make_checkpoint: Make, tmp_path: Path) -> None:
    base, merged = (make_checkpoint(task="CausalLM", folder=name) for name in ("base", "merged"))
    spec = f"dpo:policy={merged},ref={base}"
    adapter = put_adapter(base, tmp_path / "adapter", task="CAUSAL_LM", kind="CAUSAL_LM")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copy(adapter / name, merged)
    with pytest.raises(ConfigError, match=r"is not merged into them: .*q_proj\.weight is that of its base"):
        load(spec)
    expected = numbers(load(f"dpo:policy={adapter},ref={base}"))
    assert is_close(numbers(load(spec, base=str(base))), expected)
    put_adapter(base, tmp_path / "again", task="CAUSAL_LM", kind="CAUSAL_LM", merged_into=merged)
    assert is_close(numbers(load(spec)), expected)
    assert any("not applied (they differ from its base)" in note for note in load(spec).notes())
    shutil.rmtree(tmp_path / "adapter")
    config = json.loads((merged / "adapter_config.json").read_text())
    (merged / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": "org/gone"}))
    assert is_close(numbers(load(spec)), expected)
    assert any("its base is not here to compare" in note for note in load(spec).notes())


def test_an_adapter_beside_the_base_itself_is_applied_only_on_request(
    make_checkpoint: Make, tmp_path: Path
) -> None:
    base, both = make_checkpoint(folder="base"), make_checkpoint(folder="both")
    expected = numbers(load(put_adapter(base, tmp_path / "adapter")))
    put_adapter(both, both)
    say = f"To apply it, pass -M base={re.escape(str(both))}; to read the weights alone, move"
    with pytest.raises(ConfigError, match=rf"is not merged into them: score\.weight of both differ\. {say}"):
        load(both)
    assert is_close(numbers(load(both, base=str(both))), expected)
    for path in both.glob("adapter_*"):
        path.unlink()
    put_adapter(both, both, task=None)
    with pytest.raises(ConfigError, match=rf"whether it is merged into them is unknown\. {say}"):
        load(both)


# --- Refusals ---


def test_an_adapter_for_another_base_is_refused(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint(folder="base")
    folder = put_adapter(base, tmp_path / "adapter")
    wide = make_checkpoint(folder="wide", hidden_size=64)
    with pytest.raises(
        ConfigError, match=r"for another base than .*wide: '.*lora_A.weight' is \(4, 32\); expected \(4, 64\)"
    ):
        load(folder, base=str(wide))
    for n, told in [(1, r"of its weights have no place there, first 'model\.layers\.1\."),
                    (3, r"asks for are not in adapter_model\.safetensors, first 'model\.layers\.2\.")]:  # fmt: skip
        deep = make_checkpoint(folder=f"deep{n}", num_hidden_layers=n)
        with pytest.raises(ConfigError, match=told):
            load(folder, base=str(deep))
    gpt = make_checkpoint("gpt2", folder="gpt")
    with pytest.raises(ConfigError, match=r"for another base than .*gpt: (Target|No) modules"):
        load(folder, base=str(gpt))


def test_a_head_that_nobody_trained_is_refused(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint(task="CausalLM", folder="base")
    folder = put_adapter(base, tmp_path / "adapter", task=None)
    with pytest.raises(ConfigError, match=r"adapter: no trained reward head: .* lacks score\.weight"):
        load(folder)
    assert len(set(numbers(load(folder, fresh_head="1")))) == len(TALKS)
    policy = put_adapter(base, tmp_path / "policy", task="CAUSAL_LM", kind="CAUSAL_LM")
    with pytest.raises(ConfigError, match=r"an adapter for CAUSAL_LM .*expected SEQ_CLS\. Load it with dpo:"):
        load(policy)
    reward = put_adapter(base, tmp_path / "reward")
    with pytest.raises(ConfigError, match=r"an adapter for SEQ_CLS .*expected CAUSAL_LM\. Load it with hf:"):
        load(f"dpo:policy={reward},ref={base}")
    with pytest.raises(ConfigError, match=r"an adapter for SEQ_CLS .*expected TOKEN_CLS"):
        load(f"process:{reward}")


def test_a_head_under_another_task_type_is_found(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint(task="CausalLM", folder="base")
    same = put_adapter(base, tmp_path / "same")
    folder = put_adapter(base, tmp_path / "adapter", task=None, modules_to_save=["score"])
    config = json.loads((folder / "adapter_config.json").read_text()) | {"task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    assert numbers(load(folder)) == numbers(load(same))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"base_model_name_or_path": None}, "names no base_model_name_or_path; pass -M base=FOLDER"),
        ({"megatron_config": {"a": 1}, "megatron_core": "antigravity"}, "an adapter of Megatron"),
        ({"peft_type": "NEW"}, "adapter_config.json cannot be read by this peft"),
        ({"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 3, "r": None}, "made-up tokens|cannot be read"),
    ],
)  # fmt: skip
def test_configs_that_cannot_be_used(
    make_checkpoint: Make, tmp_path: Path, change: dict[str, Any], told: str
) -> None:
    folder = put_adapter(make_checkpoint(folder="base"), tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text()) | change
    (folder / "adapter_config.json").write_text(
        json.dumps({k: v for k, v in config.items() if k != "r" or v})
    )
    with pytest.raises(ConfigError, match=told):
        load(folder)


def test_adapters_that_are_not_whole(make_checkpoint: Make, tmp_path: Path) -> None:
    base = make_checkpoint(folder="base")
    folder = put_adapter(base, tmp_path / "adapter")
    with pytest.raises(ConfigError, match=r"option 'base' is for adapters; there is no adapter_config\.json"):
        load(base, base=str(base))
    on_top = put_adapter(base, tmp_path / "top", named=str(folder))
    with pytest.raises(ConfigError, match=r"top: its base .*adapter is an adapter too; merge that one"):
        load(on_top)
    (folder / "adapter_model.safetensors").rename(folder / "other.safetensors")
    with pytest.raises(ConfigError, match=r"adapter_config\.json without weights; expected adapter_model"):
        load(folder)


def bon_data(folder: Path) -> Path:
    path = folder / "bon.jsonl"
    rows = [
        {"id": str(k), "prompt": f"Tell me {k}.", "responses": list(REPLIES), "gold": [0.0, 1.0, 2.0]}
        for k in range(4)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_an_adapter_from_the_command_line(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_checkpoint(task="CausalLM", folder="base")
    folder = put_adapter(base, tmp_path / "adapter", named="/gone/base")
    said = ["eval", "-m", str(folder), "-t", "bon", "--data", str(bon_data(tmp_path)), "--results",
            str(tmp_path / "results"), "--device", "cpu"]  # fmt: skip
    assert run(said) != 0
    assert "pass -M base=FOLDER" in capsys.readouterr().err
    assert run([*said, "-M", f"base={base}"]) == 0
    assert f"the adapter is merged into its base {base}" in capsys.readouterr().err
    record = next((tmp_path / "results").glob("adapter/*/*.json")).read_text()
    assert re.search(r"sha256:[0-9a-f]{64} adapter sha256:[0-9a-f]{64}", record)
