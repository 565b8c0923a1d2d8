"""Process reward models against replicas: the value of each step, alone, batched and with shared prompts."""

import gzip
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import replicas
import step_replicas
from replicas import Make
from step_replicas import StepReplica

from rmbench.cli.main import run
from rmbench.errors import ConfigError
from rmbench.models.hf.recipes.recipe import recipes
from rmbench.models.resolve import Runtime, load_model
from rmbench.types import Turn

TEXTS = [
    ("What is the capital of France?", "It is in France.\n\nSo it is known.\n\nThe answer: Paris."),
    ("What is the capital of France?", "It is in France.\n\nSo it is known.\n\nThe answer: Lyon."),
    ("What is the capital of France?", "Paris."),
    ("Tell me all.", "First a line\n  and one below it.\n\nThen no more.\n\n"),
    ("Tell me all.", "\n\nThe quick brown fox.\n\n\nIt jumps.\n\n\n\nIt sleeps."),
]  # fmt: skip
CONVERSATIONS = [
    [Turn(role="user", content=prompt), Turn(role="assistant", content=reply)] for prompt, reply in TEXTS
]
REDUCED: dict[str, Callable[[list[float]], float]] = {
    "last": lambda v: v[-1], "min": min, "mean": lambda v: sum(v) / len(v), "prod": lambda v: sum(map(math.log, v)),
}  # fmt: skip
STEP = {"label": "1", "step_token": r"\n\n"}
Build = Callable[[Make], StepReplica]

BY_EVIDENCE: dict[str, tuple[Build, str]] = {
    "qwen": (step_replicas.qwen_math_prm, "qwen-math-prm"),
    "skywork": (step_replicas.skywork_o1_prm, "skywork-o1-prm"),
    "trl": (step_replicas.trl_prm, "trl-prm"),
    "trl-gpt2": (partial(step_replicas.trl_prm, arch="gpt2"), "trl-prm"),
}
BY_NAME: dict[str, Build] = {
    "math-shepherd": step_replicas.math_shepherd,
    "rlhflow-prm": step_replicas.rlhflow_prm,
    "versaprm": step_replicas.versaprm,
}


def load(folder: Path, **options: str) -> Any:
    return load_model(f"process:{folder}", options, Runtime(device="cpu")).model


def rewards(model: Any, batch: Any = CONVERSATIONS) -> list[float]:
    return [scored.reward for scored in model.score(batch)]


def check(replica: StepReplica, **options: str) -> Any:
    values = [replica.values(*pair) for pair in TEXTS]
    assert len({len(v) for v in values}) > 1
    for reduce, of in REDUCED.items():
        expected = [of(v) for v in values]
        assert reduce == "min" or len({round(x, 5) for x in expected}) == len(expected)
        model = load(replica.folder, reduce=reduce, **options)
        assert model.sharing_problem is None
        assert rewards(model) == pytest.approx(expected, abs=1e-5)
        assert [rewards(model, [c])[0] for c in CONVERSATIONS] == pytest.approx(expected, abs=1e-5)
    apart = load(replica.folder, reduce=reduce, share_prompts="no", **options)
    assert rewards(apart) == pytest.approx(expected, abs=1e-5)
    counts = model.step_counts(CONVERSATIONS)
    assert counts["steps"] == sum(map(len, values))
    return model


@pytest.mark.parametrize("name", BY_EVIDENCE)
def test_a_layout_is_found_and_read_as_its_own_code_reads_it(make_checkpoint: Make, name: str) -> None:
    build, recipe = BY_EVIDENCE[name]
    model = check(build(make_checkpoint))
    assert model.fingerprint()["recipe"] == recipes()[recipe].identity
    assert any(note.startswith(f"recipe {recipe} (") for note in model.notes())
    assert model.diagnose(CONVERSATIONS[0])["own_forward_gap"] < 1e-5


@pytest.mark.parametrize("name", BY_NAME)
def test_a_language_model_that_rates_by_a_word_is_named(make_checkpoint: Make, name: str) -> None:
    replica = BY_NAME[name](make_checkpoint)
    model = check(replica, recipe=name)
    assert model.fingerprint()["recipe"] == recipes()[name].identity
    with pytest.raises(ConfigError, match="needs -M recipe= with math-shepherd, rlhflow-prm, versaprm"):
        load(replica.folder)


def test_every_recipe_for_steps_has_a_replica() -> None:
    found = {recipe for _, recipe in BY_EVIDENCE.values()} | set(BY_NAME)
    assert found == {name for name, recipe in recipes().items() if recipe.steps is not None}


@pytest.mark.parametrize(("separator", "split"), [("\n", "\n\n"), (".", "."), (" Next,", "\n\n")])
def test_a_separator_is_inserted_as_tokens(make_checkpoint: Make, separator: str, split: str) -> None:
    """Without TRL's card; the text is TRL's by `format`."""
    replica = step_replicas.trl_prm(make_checkpoint, separator=separator, split=split, card=False)
    options = {"insert": separator, "step_token": split, "format": "trl-prm", "label": "1"}
    written = {key: value.replace("\n", "\\n") for key, value in options.items()}
    texts = [pair for pair in TEXTS if all(step.strip() for step in pair[1].strip().split(split))]
    batch = [[Turn(role="user", content=p), Turn(role="assistant", content=r)] for p, r in texts]
    model = load(replica.folder, reduce="mean", **written)
    expected = [REDUCED["mean"](replica.values(*pair)) for pair in texts]
    assert rewards(model, batch) == pytest.approx(expected, abs=1e-5)
    assert "recipe options (-M format=trl-prm, -M step_token=" in " ".join(model.notes())


def test_inserted_after_a_chat_template(make_checkpoint: Make) -> None:
    """What comes before the reply is the template's, tokenised apart from it."""
    import torch
    from transformers import AutoModelForTokenClassification, AutoTokenizer

    folder = make_checkpoint(task="TokenClassification", n_labels=2)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = AutoModelForTokenClassification.from_pretrained(folder, dtype=torch.float32).eval()

    def last(prompt: str, reply: str) -> float:
        def encode(text: str) -> list[int]:
            return list(tokenizer(text, add_special_tokens=False)["input_ids"])

        ids = encode(f"<s><|user|>{prompt}</s><|assistant|>")
        for step in (step for step in reply.split("\n\n") if step.strip()):
            ids += encode(step) + encode("##")
        with torch.no_grad():
            return float(own(torch.tensor([ids])).logits[0, -1].softmax(-1)[1])

    model = load(folder, **STEP, insert="##")
    assert rewards(model) == pytest.approx([last(*pair) for pair in TEXTS], abs=1e-5)


def test_replies_that_differ_in_the_last_step_get_different_rewards(make_checkpoint: Make) -> None:
    """The separator stands between the steps alone: today's way to write replies."""
    folder = make_checkpoint(task="TokenClassification", n_labels=2)
    for reduce in ("last", "mean", "prod"):
        model = load(folder, **STEP, reduce=reduce)
        paris, lyon = rewards(model, CONVERSATIONS[:2])
        assert abs(paris - lyon) > 1e-4
    assert any("pass -M insert=" in note for note in model.notes())
    assert model.step_counts(CONVERSATIONS) == {"steps": 3 + 3 + 1 + 2 + 5, "responses_without_separator": 1}
    assert load(folder, label="1").step_counts(CONVERSATIONS) is None


def test_a_reply_that_has_marks_is_divided_there(make_checkpoint: Make) -> None:
    """Data of these models comes with them; a word that begins like the mark is none."""
    model = load(step_replicas.math_shepherd(make_checkpoint).folder, recipe="math-shepherd", reduce="mean")
    prompt = Turn(role="user", content="Tell me all.")
    replies = ["One.\nTwo, a кит.", "One. ки\nTwo, a кит. ки", "One. ки\nTwo, a кит."]
    batch = [[prompt, Turn(role="assistant", content=reply)] for reply in replies]
    ids = {row.ids for row in model.encode(batch)}
    steps = {len(row.steps) for row in model.encode(batch)}
    assert steps == {2}
    assert len(ids) == 1
    assert model.step_counts(batch) == {"steps": 6, "responses_without_separator": 0}


def test_longer_conversations_and_empty_replies(make_checkpoint: Make) -> None:
    turns = [
        Turn(role="system", content="Be brief."), Turn(role="user", content="Why?"),
        Turn(role="assistant", content="So."), Turn(role="user", content="Why?"),
    ]  # fmt: skip
    for name, build in {**BY_NAME, **{k: b for k, (b, _) in BY_EVIDENCE.items()}}.items():
        model = load(build(make_checkpoint).folder, **({"recipe": name} if name in BY_NAME else {}))
        batch = [[*turns, Turn(role="assistant", content=text)] for text in ("a\n\nb", "", " \n", "c\udc80")]
        found = rewards(model, batch)
        assert [rewards(model, [c])[0] for c in batch] == pytest.approx(found, abs=1e-5)
        assert all(math.isfinite(reward) for reward in found)
        with_system, without = (model.encode([c])[0].ids for c in (batch[0], batch[0][1:]))
        assert with_system != without


def test_a_long_reply_keeps_its_last_steps(make_checkpoint: Make) -> None:
    for name, (build, _) in BY_EVIDENCE.items():
        folder = build(make_checkpoint).folder
        reply = "\n\n".join(f"Step {k} of them all." for k in range(20))
        batch = [[Turn(role="user", content="Tell me all."), Turn(role="assistant", content=reply)]]
        model = load(folder, max_length="60")
        row = model.encode(batch)[0]
        assert row.truncated, name
        assert len(row.ids) == 60
        assert 1 < len(row.steps) < 20
        assert all(0 < place < 60 for place in row.steps)
        assert model.score(batch)[0].truncated


def test_an_adapter_of_trl_is_read_as_its_card_says(make_checkpoint: Make, tmp_path: Path) -> None:
    from adapter_builders import put_adapter

    base = make_checkpoint(task="CausalLM", folder="base")
    put_adapter(base, tmp_path / "lora", task="TOKEN_CLS", kind="TOKEN_CLS", n_labels=2)
    (tmp_path / "lora" / "README.md").write_text("---\ntags:\n- trl\n- prm\n---\n")
    model = load(tmp_path / "lora")
    assert model.fingerprint()["recipe"] == recipes()["trl-prm"].identity
    plain = load(tmp_path / "lora", recipe="none", label="1")
    assert "recipe" not in plain.fingerprint()
    assert rewards(plain) != pytest.approx(rewards(model), abs=1e-3)


def test_every_option_of_steps_is_part_of_the_identity(make_checkpoint: Make) -> None:
    folder = step_replicas.trl_prm(make_checkpoint).folder
    inserted = {"insert": "#", "label": "1", "recipe": "none"}
    options: list[dict[str, str]] = [
        {}, {"step_token": "."}, {"insert": "."}, {"format": "template"}, {"format": "math-shepherd"},
        {"chat_template": "plain"}, {"reduce": "min"}, {"value": "logit"}, {"label": "0"},
        {"recipe": "none", "label": "1"}, inserted, inserted | {"step_token": "."},
        inserted | {"format": "trl-prm"}, {"recipe": "none", "label": "1", "step_token": "."},
    ]  # fmt: skip
    prints = [tuple(sorted(load(folder, **each).fingerprint().items())) for each in options]
    assert len(set(prints)) == len(options)
    assert len({tuple(rewards(load(folder, **each))) for each in options}) == len(options)


def bon_data(folder: Path) -> Path:
    path = folder / "bon.jsonl"
    rows = [
        {"id": str(k), "prompt": f"Tell me {k}.", "responses": ["One.\n\nTwo.", "One.\n\nThree.", "None."],
         "gold": [0.0, 1.0, 2.0]}
        for k in range(4)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize("name", ["qwen", "skywork", "trl", "rlhflow-prm", "math-shepherd"])
def test_from_the_command_line(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    build = BY_NAME[name] if name in BY_NAME else BY_EVIDENCE[name][0]
    replica = build(make_checkpoint)
    more = ["-M", f"recipe={name}"] if name in BY_NAME else []
    results = tmp_path / "results"
    said = ["eval", "-m", f"process:{replica.folder}", *more, "-M", "reduce=min", "-t", "bon", "--data",
            str(bon_data(tmp_path)), "--results", str(results), "--device", "cpu"]  # fmt: skip
    assert run(said) == 0
    out, err = capsys.readouterr()
    assert "note: tiny: recipe" in err or "note: trl-prm: recipe" in err
    assert "4 responses have no separator of steps, so one step each" in (out + err).replace("\n", " ")
    record = json.loads(next(results.glob("*/*/*.json")).read_text())
    blank = 8 if name == "skywork" else 0  # its own code rates empty lines
    assert record["counts"]["steps"] == {"steps": 20 + blank, "responses_without_separator": 4}
    raw = gzip.decompress(next(results.glob("*/*/*.rewards.jsonl.gz")).read_bytes())
    rows = [json.loads(line) for line in raw.decode().splitlines()]
    replies = json.loads(bon_data(tmp_path).read_text().splitlines()[0])["responses"]
    expected = [min(replica.values("Tell me 0.", reply)) for reply in replies]
    assert next(row for row in rows if row["id"] == "0")["rewards"] == pytest.approx(expected, abs=1e-5)


def test_each_scheme_sends_to_the_other(make_checkpoint: Make) -> None:
    for build, _ in list(BY_EVIDENCE.values())[:2]:
        folder = build(make_checkpoint).folder
        with pytest.raises(
            ConfigError, match=f"rates steps, which hf: does not read; load it with process:{folder}"
        ):
            load_model(str(folder), {})
    outcome = replicas.grm(make_checkpoint).folder
    with pytest.raises(
        ConfigError, match=f"grm reads such as one reward of a whole reply, with hf:{outcome}"
    ):
        load(outcome)
    with pytest.raises(ConfigError, match="gives one reward of a whole reply"):
        load(outcome, recipe="grm")
    with pytest.raises(ConfigError, match="rates steps, which hf: does not read"):
        load_model(str(outcome), {"recipe": "math-shepherd"})


def test_a_recipe_of_the_user(make_checkpoint: Make, tmp_path: Path) -> None:
    replica = step_replicas.skywork_o1_prm(make_checkpoint)
    path = replica.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"architectures": ["MyClass"]}))
    file = tmp_path / "mine.yaml"
    shipped = (Path(recipes.__wrapped__.__globals__["FOLDER"]) / "skywork-o1-prm.yaml").read_text()
    file.write_text(shipped)
    check(replica, recipe=str(file))
    check(replica, recipe="skywork-o1-prm")
    with pytest.raises(ConfigError, match="trl-value-head reads such as one reward of a whole reply"):
        load(replica.folder)
    for bad, told in {
        "read_at: before_eos\n": "'read_at': it does not go with 'steps'",
        "append_eos: true\n": "'append_eos': it does not go with 'steps'",
    }.items():
        file.write_text(bad + shipped)
        with pytest.raises(ConfigError, match=told):
            load(replica.folder, recipe=str(file))


@pytest.mark.parametrize(("options", "told"), [
    ({"insert": ""}, "option 'insert' is empty"),
    ({"head": "text:+"}, "option 'head' needs a recipe for steps"),
    ({"format": "trl-prm"}, "option 'format' needs a recipe for steps"),
    ({"head": "text:+,+", "insert": "#"}, "expected a token of its own for each"),
    ({"head": "words", "insert": "#"}, "or text:GOOD,BAD"),
    ({"recipe": "math-sheperd"}, "Did you mean 'math-shepherd'"),
    ({"recipe": "qwen-math-prm"}, "the recipe qwen-math-prm reads 'score.0.weight', which is not in its files"),
])  # fmt: skip
def test_a_wrong_option_is_one_line(make_checkpoint: Make, options: dict[str, str], told: str) -> None:
    folder = make_checkpoint(task="TokenClassification", n_labels=2)
    with pytest.raises(ConfigError) as caught:
        load(folder, label="1", **options)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_words_of_the_vocabulary_as_options(make_checkpoint: Make) -> None:
    """Math-Shepherd's layout without its recipe: marks as tokens, the words named."""
    replica = step_replicas.math_shepherd(make_checkpoint)
    options = {"head": "text:+,-", "step_token": "\\n", "format": "math-shepherd", "insert": " ки"}
    model = load(replica.folder, **options)
    (row,) = model.encode([CONVERSATIONS[2]])
    states = step_replicas.run(replica.body, list(row.ids))
    good = step_replicas.word_logits(replica.body, states)[row.steps[-1], 0]
    assert rewards(model, [CONVERSATIONS[2]]) == pytest.approx([float(good)], abs=1e-5)
    ids = [replica.body.tokenizer(w, add_special_tokens=False)["input_ids"][-1] for w in "+-"]
    by_id = load(replica.folder, **options | {"head": f"token:{ids[0]}-{ids[1]}"})
    assert rewards(by_id) == rewards(model)


def test_a_tokenizer_without_the_mark_is_refused(make_checkpoint: Make) -> None:
    replica = step_replicas.qwen_math_prm(make_checkpoint)
    make_checkpoint("qwen2", task="CausalLM", folder="other", template=replicas.HEADERS)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (replica.folder / name).write_bytes((replica.folder.parent / "other" / name).read_bytes())
    with pytest.raises(ConfigError, match="writes '<extra_0>', which ends a step, as"):
        load(replica.folder)


def test_a_template_that_changes_replies_is_refused(make_checkpoint: Make) -> None:
    from rmbench.errors import UnwritableError

    upper = replicas.HEADERS.replace("{{ m['content'] }}", "{{ m['content'] | replace('<extra_0>', '') }}")
    replica = step_replicas.qwen_math_prm(make_checkpoint, template=upper)
    with pytest.raises(ConfigError, match="the chat template changes a reply in which '<extra_0>' ends"):
        load(replica.folder)
    once = "{% for m in messages[:2] %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    (replica.folder.parent / "once.jinja").write_text(once)
    rlhflow = step_replicas.rlhflow_prm(make_checkpoint)
    once_file = str(replica.folder.parent / "once.jinja")
    model = load(rlhflow.folder, recipe="rlhflow-prm", chat_template=once_file)
    with pytest.raises(UnwritableError, match="the chat template writes 1 of 3 answers to steps"):
        model.score(CONVERSATIONS[:1])


def test_an_encoder_that_has_no_masked_language_model_is_refused(make_checkpoint: Make) -> None:
    """CANINE's token classifier reads to both sides: it is no process reward model."""
    folder = make_checkpoint(
        "canine", task="TokenClassification", n_labels=2, tokenizer="pair", template=None
    )
    with pytest.raises(ConfigError, match="canine is an encoder; process: reads decoders"):
        load(folder, label="1")


def test_an_ensemble_passes_the_count_of_steps_on(make_checkpoint: Make) -> None:
    folder = step_replicas.trl_prm(make_checkpoint).folder
    alone: Any = load(folder)
    both: Any = load_model(f"ensemble:process:{folder},length", {"scale": "1,100"}).model
    conversations = [[Turn(role="user", content=p), Turn(role="assistant", content=r)] for p, r in TEXTS]
    counted = alone.step_counts(iter(conversations))
    assert counted["steps"] > len(conversations)
    assert both.step_counts(iter(conversations)) == counted
    assert not hasattr(load_model("ensemble:length,shortest", {}).model, "step_counts")


def test_the_card_s_example_of_math_shepherd(make_checkpoint: Make) -> None:
    """Its card writes the tag itself after each line; so does the recipe."""
    replica = step_replicas.math_shepherd(partial(make_checkpoint, max_position_embeddings=1_024))
    model = load(replica.folder, recipe="math-shepherd")
    example, found = model.card_example()
    assert "$18" in example.replies[0]
    assert "$17" in example.replies[1]
    own = [replica.values(example.prompt, reply)[-1] for reply in example.replies]
    assert found == pytest.approx(own, abs=1e-5)
    assert load(replica.folder, recipe="math-shepherd", reduce="min").card_example() is None


def test_of_three_labels_none_is_guessed(make_checkpoint: Make) -> None:
    folder = make_checkpoint("llama", task="TokenClassification", n_labels=3)
    (folder / "README.md").write_text("---\ntags:\n- trl\n- prm\n---\n")
    with pytest.raises(ConfigError, match=r"3 labels .*pass -M label=K"):
        load(folder)
    notes = load(folder, label="2", insert="\\n\\n").notes()
    assert any("-M insert=\\n\\n)" in note for note in notes)
