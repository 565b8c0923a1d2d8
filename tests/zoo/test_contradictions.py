"""Options that contradict each other, files that contradict their config, and recipes that contradict themselves."""

import gzip
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import replicas
from replicas import Make, drawn

from rmbench.cli.main import run
from rmbench.errors import ConfigError, UnwritableError
from rmbench.models.hf.recipes.recipe import read_recipe
from rmbench.models.resolve import load_model
from rmbench.types import Turn

TEXTS = [("Tell me all.", "I do not know."), ("Tell me all.", "No."), ("What?", "Paris is the capital. " * 3)]
CONVERSATIONS = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)] for prompt, reply in TEXTS
]


def load(folder: Path, **options: str) -> Any:
    return load_model(str(folder), options).model


def rewards(model: Any) -> list[float]:
    return [scored.reward for scored in model.score(CONVERSATIONS)]


def change(folder: Path, **keys: Any) -> Path:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))
    return folder


@pytest.mark.parametrize(("options", "told"), [
    ({"recipe": "none", "head": "token:0"}, "option 'recipe' is 'none'"),
    ({"recipe": "value-head", "head": "token:0"}, "'value-head', which reads v_head, and option 'head'"),
    ({"format": "ultrarm", "chat_template": "plain"}, "both say how the text is written"),
    ({"format": "template", "chat_template": "plain"}, "both say how the text is written"),
    ({"head": "token:7-7"}, "is 0 for every text"),
    ({"recipe": "none"}, "its files have v_head.weight (1, 32), which was not asked for"),
])  # fmt: skip
def test_options_that_contradict_each_other(
    make_checkpoint: Make, options: dict[str, str], told: str
) -> None:
    replica = replicas.value_head(make_checkpoint)
    with pytest.raises(ConfigError) as caught:
        load(replica.folder, **options)
    assert told in str(caught.value)
    assert "fresh_head=SEED" not in str(caught.value)


def test_a_random_head_takes_no_options_of_recipes(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama", task="CausalLM")
    with pytest.raises(ConfigError, match="leave out -M recipe=none, -M read_at=before_eos"):
        load(folder, fresh_head="1", recipe="none", read_at="before_eos")


def test_a_head_of_the_user_s_is_told_in_place_of_the_recipe_s(make_checkpoint: Make) -> None:
    notes = " ".join(load(replicas.value_head(make_checkpoint).folder, head="token:3").notes())
    assert "v_head.weight, -M head=token:3): the logit token:3" in notes
    assert "a linear value head" not in notes


def test_a_bias_is_never_left_out_without_a_word(make_checkpoint: Make) -> None:
    replica = replicas.score_bias(make_checkpoint, n_labels=3)
    found = rewards(load(replica.folder, label="2"))
    assert found == pytest.approx([replica.reward(*pair) for pair in TEXTS], abs=1e-5)
    model = load(replica.folder, label="2", recipe="none")
    assert any("score.bias (3,), which is not read" in note for note in model.notes())


def test_two_files_of_a_value_head_are_refused(make_checkpoint: Make) -> None:
    import torch

    replica = replicas.llama_factory(make_checkpoint)
    torch.save({"v_head.summary.weight": drawn(1, 32, seed=9)}, replica.folder / "value_head.bin")
    with pytest.raises(ConfigError, match=r"it has value_head\.safetensors and value_head\.bin"):
        load(replica.folder)


def test_a_shape_is_named_with_what_the_config_says(make_checkpoint: Make) -> None:
    body = replicas.Body(make_checkpoint, heads={"score.weight": drawn(1, 32)}, without=("lm_head",))
    with pytest.raises(ConfigError) as caught:
        load(change(body.folder, architectures=["RewardModel"], id2label={"0": "a", "1": "b"}))
    assert "score.weight is (1, 32), and num_labels is 2" in str(caught.value)
    assert "-M recipe=openrlhf if OpenRLHF trained it" in str(caught.value)
    named, prefixed = load(body.folder, recipe="openrlhf"), change(body.folder, value_head_prefix="score")
    assert rewards(named) == rewards(load(prefixed))


def test_padding_beyond_the_vocabulary_is_told(make_checkpoint: Make) -> None:
    folder = change(make_checkpoint("llama"), pad_token_id=9_999)
    with pytest.raises(ConfigError, match=r"pad_token_id is 9999 in its config\.json, and vocab_size is 400"):
        load(folder)


@pytest.mark.parametrize("heads", [
    {"score.0.weight": (16, 32), "score.2.weight": (16, 16), "score.4.weight": (1, 16)},
    {"v_head.weight": (1, 32), "score.weight": (1, 32)},
])  # fmt: skip
def test_advice_names_only_what_would_do(make_checkpoint: Make, heads: dict[str, tuple[int, int]]) -> None:
    body = replicas.Body(make_checkpoint, heads={name: drawn(*shape) for name, shape in heads.items()})
    with pytest.raises(ConfigError) as caught:
        load(body.folder)
    told = str(caught.value)
    assert "mlp-score" not in told
    assert "trl-pad-eos" not in told
    assert ("no recipe reads such" in told) == ("score.0.weight" in heads)
    assert ("pass -M recipe=none" in told) == ("score.weight" in heads)


CODE = {"AutoModelForSequenceClassification": "own.Own"}


@pytest.mark.parametrize("told", [
    {"auto_map": CODE, "architectures": ["Own"]},
    {"auto_map": CODE, "architectures": None},
    {"auto_map": {"AutoModel": "own.Own"}, "architectures": ["Own"]},
    {"auto_map": {"AutoModelForSequenceClassification": "own.LlamaForSequenceClassification"}},
])  # fmt: skip
def test_a_class_of_its_own_is_not_read_as_a_plain_one(make_checkpoint: Make, told: dict[str, Any]) -> None:
    """Its code might pool; what is read without it has to be the user's word."""
    folder = make_checkpoint("llama")
    plain = rewards(load(folder))
    change(folder, **told)
    for options in ({}, {"system": ""}):
        with pytest.raises(ConfigError, match=r"names a class of its own \(own\..*-M recipe=none"):
            load(folder, **options)
    assert rewards(load(folder, recipe="none")) == plain
    assert load(folder, read_at="last").score(CONVERSATIONS)


def test_a_class_that_nobody_has_is_a_remark(make_checkpoint: Make) -> None:
    folder = change(make_checkpoint("llama"), architectures=["RewardModel"])
    assert any("names the class RewardModel" in note for note in load(folder).notes())


def test_an_item_whose_gate_was_cut_away_is_skipped_and_counted(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    replica = replicas.armorm(make_checkpoint)
    with pytest.raises(UnwritableError, match="where the gate is read"):
        load(replica.folder, max_length="120").score(
            [[*CONVERSATIONS[0][:1], Turn(role="assistant", content="No. " * 90)]]
        )
    rows = [
        {"prompt": "What?", "chosen": chosen, "rejected": "No."} for chosen in ("Paris.", "No. " * 90, "Yes.")
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["eval", "-m", str(replica.folder), "-t", "preference", "--data", str(tmp_path / "pairs.jsonl"), "-M",
             "max_length=120", "--results", str(tmp_path / "r"), "--store", str(tmp_path / "s"), "--device", "cpu"]  # fmt: skip
    assert run(asked) == 2
    assert "item 'pairs:2', response 1: a text of 120 tokens lacks" in capsys.readouterr().err
    assert run([*asked, "--on-bad", "skip"]) == 0
    (path,) = (tmp_path / "r").glob("*/*/*.rewards.jsonl.gz")
    assert len(gzip.decompress(path.read_bytes()).splitlines()) == 2
    record = json.loads(next(p for p in path.parent.glob("*.json")).read_text())
    assert record["counts"]["dropped"]["a text without the token that is read"] == 1
    with pytest.raises(ConfigError, match="where the gate is read"):
        load(replica.folder, chat_template="plain")


MINE = {
    "a reply that is not written": ("text: {user: 'U: {text}', assistant: 'A:'}", "'assistant' has {text} 0 times"),
    "BOS in a turn": ("text: {user: '{bos}{text}', assistant: '{text}'}", "'user' has {bos}"),
    "EOS at the beginning": ("text: {begin: '{eos}', user: '{text}', assistant: '{text}'}", "'begin' has {eos}"),
    "text between": ("text: {user: '{text}', assistant: '{text}', between: '{text}'}", "'between' has {text} 1"),
    "before nothing": ("before_eos: ' '", "without 'append_eos: true'"),
    "normalize": ("normalize: {average: mean}", "'average'; expected mean, std and if"),
    "tokens and layers": ("head: {tokens: 'token:0', activation: relu}", "go with 'layers'"),
    "pool alone": ("head: {layers: [v_head], pool: first}", "'pool' needs 'per'"),
    "temperature": (
        "head: {layers: [v_head], gate: {layers: [g], softmax: false, temperature: 2}}", "'softmax' is false",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MINE)
def test_a_recipe_that_contradicts_itself(tmp_path: Path, name: str) -> None:
    text, told = MINE[name]
    (tmp_path / "mine.yaml").write_text(f"about: mine\n{text}\n")
    with pytest.raises(ConfigError) as caught:
        read_recipe(tmp_path / "mine.yaml")
    assert told in str(caught.value)
    assert f"{os.sep}mine.yaml, key" in str(caught.value)


def test_what_a_recipe_needs_of_the_config_and_the_head(make_checkpoint: Make, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("about: mine\nhead: {layers: ['v_head.summary.*']}\n")
    grm = partial(load, replicas.grm(make_checkpoint).folder, recipe=str(mine))
    with pytest.raises(ConfigError, match="several linear maps and no 'activation'"):
        grm()
    mine.write_text("about: mine\nhead: {layers: [score]}\nnormalize: {mean: rm_mean}\n")
    with pytest.raises(ConfigError, match="the config has no 'rm_mean'"):
        load(make_checkpoint("llama", folder="plain"), recipe=str(mine))
