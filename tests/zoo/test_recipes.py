"""Recipes against replicas: one text at a time, batched, and with shared prompts, the same reward to 1e-5."""

import gzip
import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import gated
import internlm2
import pytest
import replicas
from replicas import Make, Replica

from rmbench.errors import ConfigError
from rmbench.models.hf.recipes import padding
from rmbench.models.hf.recipes.recipe import recipes
from rmbench.models.resolve import load_model
from rmbench.types import Turn

TEXTS = [
    ("What is the capital of France?", "Paris is the capital of France."),
    ("What is the capital of France?", "No."),
    ("Tell me all.", "The quick brown fox jumps over the lazy dog. " * 3),
    ("Tell me all.", "I do not know."),
]
CONVERSATIONS = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)] for prompt, reply in TEXTS
]
Build = Callable[[Make], Replica]
SOFTCAP = "its attention uses softcap"
"""Why Gemma-2's prompts are not shared."""

FOUND: dict[str, tuple[Build, str]] = {
    "mlp-score": (replicas.mlp_score, "mlp-score"),
    "value-head": (replicas.value_head, "value-head"),
    "starling": (replicas.starling, "value-head-transformer"),
    "trl": (replicas.trl_value_head, "trl-value-head"),
    "llama-factory": (replicas.llama_factory, "trl-value-head"),
    "grm": (replicas.grm, "grm"),
    "athene": (replicas.athene, "athene"),
    "grm-deep": (partial(replicas.grm, n_hidden=2), "grm"),
    "starling-7b": (replicas.starling_7b, "starling-7b"),
    "ultrarm": (replicas.ultrarm, "ultrarm"),
    "eurus-rm": (replicas.eurus_rm, "eurus-rm"),
    "qrm": (gated.qrm, "qrm"),
    "qrm-gemma": (partial(gated.qrm, arch="gemma2"), "qrm-gemma"),
    "urm": (gated.urm, "urm"),
    "ldl-reward": (gated.ldl, "ldl-reward"),
    "internlm2-reward": (internlm2.reward_model, "internlm2-reward"),
    "internlm2-sentencepiece": (partial(internlm2.reward_model, sentencepiece=True), "internlm2-reward"),
    "internlm2-bias": (partial(internlm2.reward_model, bias=True), "internlm2-reward"),
    "beaver-reward": (replicas.beaver, "beaver-reward"),
    "beaver-cost": (partial(replicas.beaver, kind="cost"), "beaver-cost"),
    "openrlhf": (replicas.openrlhf, "openrlhf"),
    "openrlhf-no-eos": (partial(replicas.openrlhf, template=replicas.NO_EOS), "openrlhf"),
    "openrlhf-value-head": (partial(replicas.openrlhf, prefix="value_head"), "openrlhf"),
    "openrlhf-normalised": (
        partial(replicas.openrlhf, normalize_reward=True, mean=0.5, std=2.0), "openrlhf",
    ),
    "openrlhf-old": (replicas.old_openrlhf, "openrlhf-value-head"),
    "armorm": (replicas.armorm, "armorm"),
    "score-bias": (replicas.score_bias, "score-bias"),
    "trl-pad-eos": (replicas.trl_pad_eos, "trl-pad-eos"),
}  # fmt: skip
"""Replica -> how it is built, and the recipe that its evidence finds."""


def rewards(model: Any, batch: Any = CONVERSATIONS) -> list[float]:
    return [scored.reward for scored in model.score(batch)]


def check(replica: Replica, **options: str) -> Any:
    expected = [replica.reward(*pair) for pair in TEXTS]
    assert len({round(x, 4) for x in expected}) == len(expected)
    model: Any = load_model(str(replica.folder), options).model
    assert model.sharing_problem in (None, SOFTCAP)
    assert (model.sharing_problem is None) == (model.model.config.model_type != "gemma2")
    assert rewards(model) == pytest.approx(expected, abs=1e-5)
    assert [rewards(model, [c])[0] for c in CONVERSATIONS] == pytest.approx(expected, abs=1e-5)
    apart: Any = load_model(str(replica.folder), options | {"share_prompts": "no"}).model
    assert rewards(apart) == pytest.approx(expected, abs=1e-5)
    return model


@pytest.mark.parametrize("name", FOUND)
def test_a_replica_is_read_as_its_own_code_reads_it(make_checkpoint: Make, name: str) -> None:
    build, recipe = FOUND[name]
    model = check(build(make_checkpoint))
    assert model.fingerprint()["recipe"] == recipes()[recipe].identity
    assert any(note.startswith(f"recipe {recipe} (") for note in model.notes())
    gap = model.diagnose(CONVERSATIONS[0])["own_forward_gap"]
    assert gap is None or gap < 1e-5


BY_COMMAND = ("mlp-score", "llama-factory", "athene", "ultrarm", "qrm", "internlm2-reward", "beaver-cost",
              "openrlhf-normalised", "armorm", "trl-pad-eos")  # fmt: skip


@pytest.mark.parametrize("name", BY_COMMAND)
def test_from_the_command_line(make_checkpoint: Make, tmp_path: Path, name: str) -> None:
    """The rewards in the record, of pairs in the layout that trainers write."""
    from click.testing import CliRunner

    from rmbench.cli.main import cli

    replica = FOUND[name][0](make_checkpoint)
    questions = {prompt: [reply for p, reply in TEXTS if p == prompt] for prompt, _ in TEXTS}
    rows = [{"prompt": q, "chosen": replies[0], "rejected": replies[1]} for q, replies in questions.items()]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    asked = ["eval", "-m", str(replica.folder), "-t", "preference", "--data", str(tmp_path / "pairs.jsonl")]
    places = ["--results", str(tmp_path / "results"), "--store", str(tmp_path / "store"), "--device", "cpu"]
    done = CliRunner().invoke(cli, [*asked, *places])
    assert done.exit_code == 0, done.output
    assert f"recipe {FOUND[name][1]} (" in done.output.replace("\n", " ")
    (path,) = (tmp_path / "results").glob("*/*/*.rewards.jsonl.gz")
    stored = [json.loads(line)["rewards"] for line in gzip.decompress(path.read_bytes()).splitlines()]
    expected = [[replica.reward(row["prompt"], row[side]) for side in ("chosen", "rejected")] for row in rows]
    for found, wanted in zip(stored, expected, strict=True):
        assert found == pytest.approx(wanted, abs=1e-5)


def test_every_recipe_has_a_replica() -> None:
    of_replies = {name for name, recipe in recipes().items() if recipe.steps is None}  # others: test_steps.py
    assert {recipe for _, recipe in FOUND.values()} | {"nemotron-reward-hf"} == of_replies
    assert {recipe.verified for recipe in recipes().values()} == {"replica"}


def test_a_logit_of_the_vocabulary_is_asked_for(make_checkpoint: Make) -> None:
    replica = replicas.nemotron(make_checkpoint)
    named = check(replica, recipe="nemotron-reward-hf")
    asked = check(replica, head="token:0")
    assert rewards(named) == rewards(asked)
    two = replicas.nemotron(make_checkpoint, ids=(7, 9))
    check(two, head="token:7-9")


def test_a_recipe_of_the_user(make_checkpoint: Make, tmp_path: Path) -> None:
    body = replicas.Body(make_checkpoint, heads={"my_head.weight": replicas.drawn(1, 32)})
    file = tmp_path / "mine.yaml"
    file.write_text("about: my own head\nhead:\n  layers: [my_head]\n")
    replica = Replica(body.folder, replicas.last_token(body, "my_head"))
    model = check(replica, recipe=str(file))
    assert model.fingerprint()["recipe"].startswith("mine:")
    file.write_text("about: another text\nhead:\n  layers: [my_head]\n  activation: tanh\n")
    other: Any = load_model(str(body.folder), {"recipe": str(file)}).model
    assert other.fingerprint()["recipe"] != model.fingerprint()["recipe"]


def test_a_plain_classifier_has_no_recipe(make_checkpoint: Make) -> None:
    model: Any = load_model(str(make_checkpoint("llama")), {}).model
    assert "recipe" not in model.fingerprint()
    assert not any(note.startswith("recipe") for note in model.notes())


@pytest.mark.parametrize("pad", ["</s>", "<pad>"])
def test_read_at_decides_where_padding_is_eos(make_checkpoint: Make, pad: str) -> None:
    """TRL's models with pad == eos are trained at the token that transformers' own forward pass reads."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = make_checkpoint("llama", pad=pad)
    own = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)

    def reward(prompt: str, reply: str) -> float:
        ids = tokenizer(replicas.chat(prompt, reply), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            hidden = own.model(torch.tensor([ids])).last_hidden_state[0]
            return float(own.score(hidden[-2]))

    model = check(Replica(folder, reward), read_at="before_eos")
    assert model.fingerprint()["recipe"].startswith("options:")
    if pad == "</s>":
        ids = tokenizer(replicas.chat(*TEXTS[0]), return_tensors="pt", add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            assert float(own(ids).logits) == pytest.approx(reward(*TEXTS[0]), abs=1e-5)
        assert not any("own forward pass" in note for note in model.notes())


@pytest.mark.parametrize("seed", [1, 2])
def test_where_the_place_is_unknown_it_says_how_much_it_matters(make_checkpoint: Make, seed: int) -> None:
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = make_checkpoint("llama", pad="</s>", seed=seed)
    own = AutoModelForSequenceClassification.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    read: list[list[float]] = [[], []]
    for turns in padding.PROBE:
        ids = tokenizer(replicas.chat(*(t["content"] for t in turns)), add_special_tokens=False)["input_ids"]
        with torch.no_grad():
            rewards = own.score(own.model(torch.tensor([ids])).last_hidden_state[0])[:, 0]
            assert float(own(torch.tensor([ids])).logits) == pytest.approx(float(rewards[-2]), abs=1e-5)
        for place, found in zip((-2, -1), read, strict=True):
            found.append(float(rewards[place]))
    pairs = [(a, b) for a in range(20) for b in range(a)]
    differ = sum((read[0][a] - read[0][b]) * (read[1][a] - read[1][b]) < 0 for a, b in pairs)
    assert 0 < differ < len(pairs) == 190
    model: Any = load_model(str(folder), {}).model
    (note,) = [n for n in model.notes() if "own forward pass" in n]
    assert f"rank {differ} of 190 pairs of probe texts differently" in note
    (folder / "rmbench.json").write_text("{}")
    ours: Any = load_model(str(folder), {}).model
    assert [n for n in ours.notes() if "where rmbench trained it" in n]
    assert not any("own forward pass" in n for n in ours.notes())


def test_what_a_model_says_of_itself_stands_in_the_record(make_checkpoint: Make, tmp_path: Path) -> None:

    from click.testing import CliRunner

    from rmbench.cli.main import cli

    replica = replicas.grm(make_checkpoint)
    places = ["--results", str(tmp_path / "results"), "--store", str(tmp_path / "store"), "--device", "cpu"]
    told = ["eval", "-m", str(replica.folder), "-t", "preference", "--limit", "3", *places]
    done = CliRunner().invoke(cli, told)
    assert done.exit_code == 0, done.output
    (path,) = (tmp_path / "results").glob("*/*/*.json")
    said = json.loads(path.read_text())["provenance"]["remarks"]
    assert [text for text in said if text.startswith("recipe grm (v_head.summary.2.weight")]


def test_options_change_the_text_of_a_plain_classifier(make_checkpoint: Make) -> None:
    folder = make_checkpoint("qwen2", template=replicas.NO_EOS)
    plain: Any = load_model(str(folder), {}).model
    changed: Any = load_model(str(folder), {"strip_newline": "yes", "append_eos": "yes"}).model
    one, other = (m.encode(CONVERSATIONS[:1])[0].ids for m in (plain, changed))
    assert (plain.tokenizer.decode(one[-2:]), other[-1]) == (".\n", 2)
    assert other[:-1] == one[:-1]
    assert changed.fingerprint()["format"] != plain.fingerprint()["format"]


def test_a_card_alone_does_not_move_the_reading(make_checkpoint: Make) -> None:
    folder = replicas.trl_pad_eos(make_checkpoint).folder
    for text in ("# no head", "---\ntags: [trl]\n---\n", "---\ntags: &a [*a]\n---\n"):
        (folder / "README.md").write_text(text)
        model: Any = load_model(str(folder), {}).model
        assert "recipe" not in model.fingerprint()
        assert any("own forward pass" in note for note in model.notes())


def test_the_command_line_lists_recipes_and_scores_by_one(make_checkpoint: Make) -> None:
    from click.testing import CliRunner

    from rmbench.cli.main import cli

    listed = CliRunner().invoke(cli, ["models", "recipes"])
    assert listed.exit_code == 0
    assert all(name in listed.output for name in recipes())
    replica = replicas.grm(make_checkpoint)
    checked = CliRunner().invoke(cli, ["check", "--model", str(replica.folder), "--device", "cpu"])
    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize("name", ["urm", "armorm"])
def test_a_gate_where_padding_ends_every_text(make_checkpoint: Make, name: str) -> None:
    """The remark compares the rewards of both places, the gate's part in them included."""
    from rmbench.models.hf.recipes.padding import PROBE, rankings_that_differ

    folder = FOUND[name][0](make_checkpoint).folder
    last: Any = load_model(str(folder), {}).model
    path = folder / "config.json"
    end = last.encode(CONVERSATIONS[:1])[0].ids[-1]
    path.write_text(json.dumps(json.loads(path.read_text()) | {"pad_token_id": end}))
    padded: Any = load_model(str(folder), {}).model
    assert rewards(padded) == pytest.approx(rewards(last), abs=1e-6)
    told = next(note for note in padded.notes() if "transformers' own forward pass reads" in note)
    if name == "urm":
        early: Any = load_model(str(folder), {"read_at": "before_eos"}).model
        n, of = rankings_that_differ(rewards(early, PROBE), rewards(padded, PROBE))
        assert f"rank {n:,} of {of:,} pairs" in told


def test_a_system_message_of_the_recipe(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama", template=replicas.NO_EOS)
    system = [[Turn(role="system", content="Be brief."), *turns] for turns in CONVERSATIONS]
    plain, changed = (load_model(str(folder), o).model for o in ({}, {"system": "Be brief."}))
    assert rewards(changed) == pytest.approx(rewards(plain, system), abs=1e-6)
    assert rewards(changed, system) == rewards(changed)
    empty: Any = load_model(str(folder), {"system": ""}).model
    text = empty.tokenizer.decode(empty.encode(CONVERSATIONS[:1])[0].ids)
    assert text.startswith("<|system|>\n<|user|>")
    identities = {str(model.fingerprint()) for model in (plain, changed, empty)}
    assert len(identities) == 3


@pytest.mark.parametrize("name", ["urm", "internlm2-reward", "mlp-score"])
def test_check_prints_what_the_card_states(make_checkpoint: Make, name: str) -> None:
    from click.testing import CliRunner

    from rmbench.cli.main import cli

    replica, recipe = FOUND[name][0](make_checkpoint), recipes()[FOUND[name][1]]
    assert recipe.example is not None
    model: Any = load_model(str(replica.folder), {}).model
    if recipe.example.system is None:
        own = [replica.reward(recipe.example.prompt, reply) for reply in recipe.example.replies]
        assert model.card_example() == (recipe.example, pytest.approx(own, abs=1e-5))
    done = CliRunner().invoke(cli, ["check", "--model", str(replica.folder), "--device", "cpu"])
    assert done.exit_code == 0, done.output
    told = " ".join(done.output.split())
    assert f"where the {recipe.example.source} states" in told
    assert "expected of that very model only" in told


HEADS = ["v_head.weight", "value_head.weight", "regression_head.weight", "score_head.weight", "score.0.weight",
         "regression_layer.weight", "gating.layers.0.weight", "reward_head.weight"]  # fmt: skip


@pytest.mark.parametrize("name", HEADS)
def test_a_head_in_the_files_is_never_called_missing(make_checkpoint: Make, name: str) -> None:
    body = replicas.Body(make_checkpoint, heads={name: replicas.drawn(3, 32)})
    for options in ({}, {"fresh_head": "1"}):
        with pytest.raises(ConfigError) as caught:
            load_model(str(body.folder), options)
        assert f"{name} (3, 32)" in str(caught.value)
        assert "no trained reward head" not in str(caught.value)
        assert "fresh_head=SEED" not in str(caught.value)


def test_no_head_at_all_is_still_said(make_checkpoint: Make) -> None:
    with pytest.raises(
        ConfigError, match=re.escape("no trained reward head: the checkpoint lacks score.weight")
    ):
        load_model(str(make_checkpoint("llama", task="CausalLM")), {})


def test_a_head_in_a_file_that_nothing_reads_is_named(make_checkpoint: Make) -> None:
    import torch

    folder = make_checkpoint("llama", task="CausalLM")
    torch.save({"weight": replicas.drawn(1, 32)}, folder / "reward_head.pt")
    (folder / "optimizer.pt").write_bytes(b"")
    with pytest.raises(
        ConfigError, match=r"Beside the weights lie reward_head\.pt, which nothing reads"
    ) as error:
        load_model(str(folder), {})
    assert "fresh_head" not in str(error.value)


@pytest.mark.parametrize("config", [
    {"architectures": ["Qwen2ForPrmModel"]}, {"architectures": ["Qwen2ForProcessRewardModel"]},
    {"auto_map": {"AutoModel": "modeling.SkyworkPRMModel"}},
])  # fmt: skip
def test_what_rates_steps_is_not_read_at_the_last_token(
    make_checkpoint: Make, config: dict[str, Any]
) -> None:
    """Skywork-o1-PRM has the head of TRL's value models, and reads it at every step."""
    heads = {"v_head.summary.weight": replicas.drawn(1, 32), "v_head.summary.bias": replicas.drawn(1)}
    body = replicas.Body(make_checkpoint, heads=heads, config=config)
    with pytest.raises(ConfigError, match="rates steps, which hf: does not read"):
        load_model(str(body.folder), {})
    model: Any = load_model(str(body.folder), {"recipe": "trl-value-head"}).model
    assert len(set(rewards(model))) == len(TEXTS)


def test_a_gate_beside_a_plain_head_is_not_ignored(make_checkpoint: Make) -> None:
    """URM's layout: `score` and a gate that weighs its outputs."""
    heads = {"score.weight": replicas.drawn(4, 32), "gating.layers.0.weight": replicas.drawn(2, 32)}
    body = replicas.Body(make_checkpoint, heads=heads, config={"num_labels": 4})
    with pytest.raises(ConfigError, match=r"gating\.layers\.0\.weight \(2, 32\)"):
        load_model(str(body.folder), {"label": "0"})
    model: Any = load_model(str(body.folder), {"label": "0", "recipe": "none"}).model
    assert len(set(rewards(model))) == len(TEXTS)
    assert any("gating.layers.0.weight (2, 32), which is not read" in note for note in model.notes())


def test_what_a_recipe_does_not_do_is_refused(make_checkpoint: Make) -> None:
    replica = replicas.beaver(make_checkpoint)
    path = replica.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_normalize": True}))
    with pytest.raises(ConfigError, match="do_normalize=True, which the recipe beaver-reward does not do"):
        load_model(str(replica.folder), {})


@pytest.mark.parametrize(("options", "told"), [
    ({"recipe": "amorm"}, "Did you mean 'armorm'"),
    ({"read_at": "first"}, "expected last, last_eos, before_eos or appended:TOKEN"),
    ({"head": "token:x"}, "expected token:ID or token:ID-ID"),
    ({"head": "token:5000"}, "so no row 5000; expected ids of the vocabulary"),
    ({"format": "beaver"}, "unknown format 'beaver'"),
    ({"read_at": "appended:<none>"}, "no token '<none>'"),
])  # fmt: skip
def test_a_wrong_option_is_one_line(make_checkpoint: Make, options: dict[str, str], told: str) -> None:
    replica = replicas.value_head(make_checkpoint)
    with pytest.raises(ConfigError) as caught:
        load_model(str(replica.folder), options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_training_does_not_start_from_a_head_that_it_would_lose(make_checkpoint: Make) -> None:
    from rmbench.models.runtime import Runtime
    from rmbench.train.base import load_base

    replica = replicas.grm(make_checkpoint)
    with pytest.raises(ConfigError, match="read by the recipe grm"):
        load_base(str(replica.folder), 0, None, Runtime(device="cpu"))
