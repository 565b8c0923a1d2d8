"""`builtin:tiny`: what is shipped, that it is an ordinary model, and that it beats the shortcuts."""

from pathlib import Path

import pytest
import torch
import transformers
from safetensors import safe_open

from rmbench.core.files import iter_jsonl
from rmbench.core.overlap import TrainingPrompts
from rmbench.errors import ConfigError
from rmbench.models.builtin import TINY_FOLDER
from rmbench.models.hf.checkpoint import find_checkpoint
from rmbench.models.hf.identity import hashes, weights_of
from rmbench.models.resolve import load_model
from rmbench.results.compare import compare_runs
from rmbench.results.read import find_run
from rmbench.train.base import prompts_seen
from rmbench.types import Estimate, Turn

ROOT = Path(__file__).resolve().parents[2]
TEST_ROWS = [row for _, row in iter_jsonl(ROOT / "rmbench" / "_data" / "embedded" / "test.jsonl.xz")]


def test_it_is_small_and_of_half_precision() -> None:
    assert sum(p.stat().st_size for p in TINY_FOLDER.iterdir()) < 8_000_000
    with safe_open(TINY_FOLDER / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118


def test_its_parameters_are_what_its_file_holds() -> None:
    with safe_open(TINY_FOLDER / "model.safetensors", "pt") as file:
        held = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
    assert load_model("builtin:tiny").model.n_parameters() == held  # type: ignore[union-attr]


def test_it_has_a_name_wherever_a_checkpoint_is_asked_for() -> None:
    named, folder = find_checkpoint("builtin:tiny", None), find_checkpoint(str(TINY_FOLDER), None)
    assert (named.location, named.name, folder.name) == (str(TINY_FOLDER), "builtin:tiny", "tiny")
    assert hashes(named) == hashes(folder)
    # The committed records hold it: another hash would be another run.
    assert weights_of(hashes(named)).startswith("sha256:5ddda87381854ec9")
    with pytest.raises(ConfigError, match=r"builtin:tinny: unknown .* Did you mean 'tiny'\?"):
        find_checkpoint("builtin:tinny", None)
    with pytest.raises(ConfigError, match=r"builtin:linear: unknown .* Known: tiny\."):
        find_checkpoint("builtin:linear", None)


def test_what_is_trained_from_it_has_seen_its_training_prompts() -> None:
    file = ROOT / "rmbench" / "_data" / "embedded" / "train.jsonl.xz"
    shipped = [(Turn(role="user", content=row["prompt"]),) for _, row in iter_jsonl(file)][:20]
    own = (Turn(role="user", content="a prompt of one's own"),)
    assert prompts_seen("builtin:tiny", [own]).count([own, *shipped])["exact"] == 21
    assert TrainingPrompts.of([own]).count([own, *shipped])["exact"] == 1


def test_plain_transformers_give_the_same_rewards() -> None:
    row = TEST_ROWS[0]
    loaded = load_model("builtin:tiny")
    assert loaded.name == "builtin:tiny"
    prompt = Turn(role="user", content=row["prompt"])
    batch = [(prompt, Turn(role="assistant", content=reply)) for reply in row["responses"][:8]]
    rewards = [scored.reward for scored in loaded.model.score(batch)]  # type: ignore[union-attr]
    plain = transformers.AutoModelForSequenceClassification.from_pretrained(TINY_FOLDER, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(TINY_FOLDER)
    for reward, reply in zip(rewards, row["responses"], strict=False):
        turns = [prompt, Turn(role="assistant", content=reply)]
        ids = tokenizer.apply_chat_template(turns, return_tensors="pt", return_dict=True)
        with torch.inference_mode():
            alone = plain(**ids).logits[0, 0]
        assert reward == pytest.approx(float(alone), abs=1e-5)


def test_no_prompt_of_the_test_split_was_trained_on() -> None:
    seen = TrainingPrompts.load(TINY_FOLDER)
    assert seen is not None
    trained_on = [row for _, row in iter_jsonl(ROOT / "rmbench" / "_data" / "embedded" / "train.jsonl.xz")]
    found = seen.count((Turn(role="user", content=row["prompt"]),) for row in trained_on)
    assert found["exact"] > 100
    assert seen.count((Turn(role="user", content=row["prompt"]),) for row in TEST_ROWS)["exact"] == 0


def difference(other: str, task: str, metric: str) -> Estimate:
    results = ROOT / "results"
    report = compare_runs(
        find_run(results, "builtin:tiny", task), find_run(results, other, task), [metric], 0
    )
    return report.metrics[0].paired.difference


@pytest.mark.parametrize("other", ["length", "shortest", "builtin:linear"])
@pytest.mark.parametrize(("task", "metric"), [("preference", "accuracy"), ("bon", "win_rate@max")])
def test_it_beats_the_shortcuts_and_the_linear_model_on_the_test_split(
    other: str, task: str, metric: str
) -> None:
    interval = difference(other, task, metric).ci95
    assert interval is not None
    assert interval[0] > 0
