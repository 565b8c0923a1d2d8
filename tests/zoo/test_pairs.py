"""Models that compare two replies against replicas: one pair at a time, batched, shared, and by the command."""

import gzip
import json
import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pair_replicas
import pytest
from pair_replicas import Make, PairReplica, probability

from rmbench.cli.main import run
from rmbench.errors import ConfigError
from rmbench.models.pair.recipe import pair_recipes
from rmbench.models.resolve import load_model
from rmbench.models.runtime import Runtime
from rmbench.types import Pair, Turn

FOX = "The quick brown fox jumps over the lazy dog. "
ONE = [("user", "What is the capital of France?")]
PAIRS = [
    (ONE, "Paris.", "I do not know."),
    (ONE, "I do not know.", "Paris."),
    (ONE, FOX * 2, "No."),
    ([("user", "Tell me all.\nAll of it.")], "a\nb\nc", FOX),
    ([("user", "Tell me all.\nAll of it.")], FOX, "a\nb\nc"),
]
MORE = [("user", "Hello."), ("assistant", "Hi, what is it?"), ("user", "Tell me all.")]
Build = Callable[[Make], PairReplica]
FOUND: dict[str, tuple[Build, str]] = {
    "pairrm-hf": (pair_replicas.pairrm, "pairrm"),
    "pairrm-tasks": (partial(pair_replicas.pairrm, n_tasks=3), "pairrm"),
    "pairrm-original": (partial(pair_replicas.pairrm, is_original=True), "pairrm"),
    "rlhflow": (pair_replicas.rlhflow, "rlhflow-pair"),
    "rlhflow-gemma2": (
        partial(pair_replicas.rlhflow, arch="gemma2", final_logit_softcapping=0.8), "rlhflow-pair",
    ),
    "steamshp": (pair_replicas.steamshp, "steamshp"),
}  # fmt: skip
"""Replica -> how it is built, and the recipe that reads it."""


def pair_of(prompt: Any, first: str, second: str) -> Pair:
    return Pair(tuple(Turn(role=role, content=text) for role, text in prompt), first, second)


def load(folder: Path, **options: str) -> Any:
    return load_model(f"pair:{folder}", options, Runtime(device="cpu", dtype="float32", offline=True)).model


def preferences(model: Any, pairs: Any) -> list[float]:
    return [scored.reward for scored in model.prefer([pair_of(*pair) for pair in pairs])]


@pytest.mark.parametrize("name", FOUND)
def test_a_replica_is_read_as_its_own_code_reads_it(make_checkpoint: Make, name: str) -> None:
    build, recipe = FOUND[name]
    replica = build(make_checkpoint)
    pairs = PAIRS + ([] if recipe == "steamshp" else [(MORE, "Paris.", FOX)])
    expected = [probability(replica.log_odds(*pair)) for pair in pairs]
    assert len({round(x, 4) for x in expected}) == len(expected)
    model = load(replica.folder, **replica.options)
    assert preferences(model, pairs) == pytest.approx(expected, abs=1e-5)
    assert preferences(model, pairs[::-1]) == pytest.approx(expected[::-1], abs=1e-5)
    assert [preferences(model, [pair])[0] for pair in pairs] == pytest.approx(expected, abs=1e-5)
    if recipe == "rlhflow-pair":
        apart = load(replica.folder, **replica.options, share_prompts="no")
        assert preferences(apart, pairs) == pytest.approx(expected, abs=1e-5)
        assert apart.fingerprint() == model.fingerprint()
    assert model.fingerprint()["recipe"] == pair_recipes()[recipe].identity
    assert any(note.startswith(f"recipe {recipe} (") for note in model.notes())
    assert not any(scored.truncated for scored in model.prefer([pair_of(*pair) for pair in pairs]))


def test_every_recipe_has_a_replica() -> None:
    assert {recipe for _, recipe in FOUND.values()} == set(pair_recipes())
    assert {recipe.verified for recipe in pair_recipes().values()} == {"replica"}


def test_a_long_pair_is_cut_as_its_own_code_cuts_it(make_checkpoint: Make) -> None:
    """PairRM cuts each text at its end; what is left of a short prompt's room goes to the replies."""
    replica = pair_replicas.pairrm(make_checkpoint, lengths=(122, 41))
    asked = [(ONE, FOX * 9, "No."), ([("user", FOX * 20)], "Yes." + FOX * 6, FOX * 6), (ONE, "Paris.", "No.")]
    model = load(replica.folder, max_length="204")
    found = model.prefer([pair_of(*pair) for pair in asked])
    expected = [probability(replica.log_odds(*pair)) for pair in asked]
    assert [scored.reward for scored in found] == pytest.approx(expected, abs=1e-5)
    assert [scored.truncated for scored in found] == [True, True, False]
    assert max(scored.n_tokens for scored in found) == 204
    trained = pair_replicas.pairrm(make_checkpoint, is_original=True, lengths=(60, 30))  # its config says so
    own = load(trained.folder, **trained.options)
    expected = [probability(trained.log_odds(*pair)) for pair in asked]
    assert [scored.reward for scored in own.prefer([pair_of(*pair) for pair in asked])] == pytest.approx(
        expected, abs=1e-5
    )


@pytest.mark.parametrize("family", ["rlhflow", "steamshp"])
def test_a_long_question_loses_its_prompt_first(make_checkpoint: Make, family: str) -> None:
    """A conversation loses its beginning, a post its end; then the replies lose their ends."""
    replica = getattr(pair_replicas, family)(make_checkpoint)
    model = load(replica.folder, **replica.options, max_length="140")
    prompt = "What now? " + FOX * 12
    written = f"\n\n<turn> user\n {prompt}\n" if family == "rlhflow" else prompt
    kept = [
        written[n:] if family == "rlhflow" else written[: len(written) - n] for n in range(len(written) + 1)
    ]
    long = ["A. " + FOX * 9, "B. " + FOX * 6]
    asked = [
        [replica.ask(text, "Paris.", "No.") for text in kept],
        [replica.ask("", *(text[:n] for text in long)) for n in range(len(long[0]))],
    ]
    found = model.prefer([pair_of([("user", prompt)], "Paris.", "No."), pair_of([("user", prompt)], *long)])
    for scored, questions in zip(found, asked, strict=True):
        # A text may have as many tokens as a longer one: any of the fullest ones will do.
        fullest = [compute() for n, compute in questions if n == scored.n_tokens]
        assert scored.truncated
        assert 138 <= scored.n_tokens <= 140
        assert any(scored.reward == pytest.approx(probability(odds), abs=1e-5) for odds in fullest)


def test_by_the_command_line_both_orders_are_asked(
    make_checkpoint: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The rewards in the record are the least-squares strengths of both orders; cut texts are counted."""
    replica = pair_replicas.pairrm(make_checkpoint)
    replies = ["Paris.", "I do not know.", FOX * 2]
    rows = [
        {"id": "a", "prompt": ONE[0][1], "responses": replies, "gold": [2, 0, 1], "gold_kind": "graded"},
        {"id": "b", "prompt": "Say no.", "responses": ["No.", FOX * 60], "gold": [1, 0]},
    ]
    data = tmp_path / "items.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ask = ["eval", "--model", str(replica.folder), "--data", str(data), "--json", "-q", "--device", "cpu"]
    ask += ["-t", "preference", "-M", "max_length=204", "--results", str(tmp_path / "r")]
    assert run([*ask, "--store", str(tmp_path / "s")]) == 0
    record = json.loads(capsys.readouterr().out)[0]
    assert record["metrics"]["flip_rate"]["n"] == 4
    (path,) = (tmp_path / "r").rglob("*.rewards.jsonl.gz")
    first = json.loads(gzip.decompress(path.read_bytes()).splitlines()[0])
    table = [[probability(replica.log_odds(ONE, a, b)) for b in replies] for a in replies]
    both = [[(table[i][j] + 1 - table[j][i]) / 2 for j in range(3)] for i in range(3)]
    strengths = [
        sum(math.log(p / (1 - p)) for j, p in enumerate(row) if j != i) / 3 for i, row in enumerate(both)
    ]
    assert first["rewards"] == pytest.approx(strengths, abs=1e-5)
    (stored,) = (p for p in (tmp_path / "r").rglob("*.json"))
    before = json.loads(stored.read_text())
    assert run([*ask[:-1], str(tmp_path / "again"), "--store", str(tmp_path / "s")]) == 0
    (again,) = (p for p in (tmp_path / "again").rglob("*.json"))
    after = json.loads(again.read_text())
    assert after["provenance"]["computed"] == 0
    assert after["provenance"]["remarks"] == before["provenance"]["remarks"]
    assert after["metrics"] == before["metrics"]
    assert find_key(json.loads(stored.read_text()), "truncated") == 2, "both replies of the pair that was cut"


def find_key(value: Any, key: str) -> Any:
    """Return what a JSON value has under a key, at any depth."""
    if isinstance(value, dict):
        return (
            value[key]
            if key in value
            else next((x for v in value.values() if (x := find_key(v, key)) is not None), None)
        )
    return None


def test_a_question_that_no_recipe_knows_is_a_file_of_the_user(make_checkpoint: Make, tmp_path: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = make_checkpoint("qwen2", task="CausalLM", tokenizer="bare")
    file = tmp_path / "mine.yaml"
    file.write_text(
        'about: mine\nquestion:\n  text: "{prompt}? 1: {first} 2: {second} ="\n  letters: ["1", "2"]\n'
    )
    model = load(folder, recipe=str(file))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    own = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    ids = tokenizer("{second}? 1: a {first} 2: b =", return_tensors="pt")["input_ids"]
    with torch.no_grad():
        logits = own(ids).logits[0, -1]
    one, two = (tokenizer(x, add_special_tokens=False)["input_ids"][0] for x in "12")
    pair = pair_of([("user", "{second}")], "a {first}", "b")
    assert model.prefer([pair])[0].reward == pytest.approx(
        probability(float(logits[one] - logits[two])), abs=1e-5
    )


def test_what_says_how_it_compares_is_the_model_itself(make_checkpoint: Make) -> None:
    """Nothing in the files tells these from a language model; what it answers to a probe does."""
    plain = pair_replicas.steamshp(make_checkpoint)
    with pytest.raises(ConfigError, match=r"'A' and 'B' hold \S+ of .* pass -M recipe=steamshp"):
        load(plain.folder)
    trained = pair_replicas.steamshp(make_checkpoint, favoured=True)
    model = load(trained.folder)
    assert any(note.startswith("'A' and 'B' hold 0.") or "hold 1 of" in note for note in model.notes())
    assert preferences(model, PAIRS[:2]) == pytest.approx(
        [probability(trained.log_odds(*pair)) for pair in PAIRS[:2]], abs=1e-5
    )


def test_a_folder_is_known_by_its_config_and_hf_says_so(make_checkpoint: Make) -> None:
    for is_original in (False, True):
        replica = pair_replicas.pairrm(make_checkpoint, is_original=is_original)
        by_folder: Any = load_model(str(replica.folder), replica.options).model
        assert by_folder.fingerprint() == load(replica.folder, **replica.options).fingerprint()
        with pytest.raises(ConfigError, match=f"compares two replies; use pair:{replica.folder}"):
            load_model(f"hf:{replica.folder}", {})
    steam = pair_replicas.steamshp(make_checkpoint)
    with pytest.raises(ConfigError, match=f"encoder-decoder.*pair:{steam.folder}"):
        load_model(str(steam.folder), {})


def change(replica: PairReplica, **config: Any) -> None:
    path = replica.folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | config))


def without(replica: PairReplica, *names: str, **more: Any) -> None:
    from safetensors.torch import load_file, save_file

    file = replica.folder / "model.safetensors"
    kept = {k: v for k, v in load_file(file).items() if k not in names}
    save_file(kept | more, file, {"format": "pt"})


@pytest.mark.parametrize(
    ("spoil", "options", "expected"),
    [
        (lambda r: change(r, cand1_prefix_id=7), {}, "says cand1_prefix_id=7, its tokenizer has"),
        (
            lambda r: without(r, "head_layer.4.bias"),
            {},
            r"1 weights are missing, first 'head_layer\.4\.bias'",
        ),
        (
            lambda r: without(r, "head_layer.4.weight"),
            {},
            "no recipe for models that compare two replies fits",
        ),
        (lambda r: change(r, num_hidden_layers=1), {}, "layers up to number 1"),
        (lambda r: change(r, hidden_size=64), {}, r"head_layer.1.weight \(32, 64\) does not fit"),
        (lambda r: None, {"recipe": "pairmr"}, "Did you mean 'pairrm'"),
        (lambda r: None, {"base": "there"}, "has a config of its own"),
        (lambda r: None, {"max_length": "9"}, "leaves no room for the replies"),
        (lambda r: None, {"chat_template": "plain"}, "option 'chat_template'"),
    ],
)
def test_what_would_compare_silently_wrong_is_refused(
    make_checkpoint: Make, spoil: Callable[[PairReplica], None], options: dict[str, str], expected: str
) -> None:
    replica = pair_replicas.pairrm(make_checkpoint)
    spoil(replica)
    with pytest.raises(ConfigError, match=expected):
        load(replica.folder, **options)


def test_an_encoder_that_is_not_here_is_asked_for(make_checkpoint: Make) -> None:
    replica = pair_replicas.pairrm(make_checkpoint, is_original=True)
    with pytest.raises(ConfigError, match=r"names the encoder microsoft/deberta-v3-large.*-M base=FOLDER"):
        load(replica.folder)
    with pytest.raises(ConfigError, match=r"option 'base': .*nowhere"):
        load(replica.folder, base=str(replica.folder / "nowhere"))


def test_odd_prompts_have_an_answer_and_a_remark(make_checkpoint: Make) -> None:
    """Systems, roles that do not take turns, empty replies, marks inside a text."""
    replica = pair_replicas.pairrm(make_checkpoint)
    model = load(replica.folder)
    odd = [("user", "One."), ("user", "Two.")]
    found = preferences(
        model, [(odd, "a", "b"), (ONE, "", "<|candidate1|> <|source|>"), (ONE, "\ud800", "b")]
    )
    assert all(0 < x < 1 for x in found)
    assert any("do not take turns" in note for note in model.notes())
    assert not any(scored.why for scored in model.prefer([pair_of(odd, "a", "b")]))
    system = preferences(model, [([("system", "Be brief."), *ONE], "a", "b")])
    assert system == preferences(model, [([("user", f"Be brief.\n\n{ONE[0][1]}")], "a", "b")])


def test_check_knows_such_a_model(make_checkpoint: Make, capsys: pytest.CaptureFixture[str]) -> None:
    replica = pair_replicas.pairrm(make_checkpoint)
    assert run(["check", "--model", f"pair:{replica.folder}", "--device", "cpu"]) == 0
    assert "preferences flip with the order" in capsys.readouterr().out


def test_a_model_of_the_same_files_and_another_text_is_a_remark(make_checkpoint: Make) -> None:
    replica = pair_replicas.pairrm(make_checkpoint)
    model: Any = load_model(f"pair:{replica.folder}", {}).model
    assert any("Better-PairRM has the same files but for their values" in note for note in model.notes())
