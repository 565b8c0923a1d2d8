"""The built-in linear model: features, training and the shipped file."""

import importlib
import json
import math
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmbench.errors import ConfigError
from rmbench.models.builtin import LINEAR_FILE, N_FEATURES, LinearReward, featurize
from rmbench.models.resolve import fingerprint_of, load_model
from rmbench.types import Turn

EMBEDDED_SCRIPTS = Path(__file__).resolve().parents[2] / "scripts" / "embedded"
WORDS = ("the", "cat", "dog", "runs", "fast", "over", "blue", "river", "house", "tree", "and", "nice")


@pytest.fixture
def trainer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script that trains the shipped model."""
    monkeypatch.syspath_prepend(str(EMBEDDED_SCRIPTS))
    return importlib.import_module("train_linear")


def chat(prompt: str, response: str) -> list[Turn]:
    return [Turn(role="user", content=prompt), Turn(role="assistant", content=response)]


def rows(n_prompts: int, seed: int = 0) -> list[dict[str, object]]:
    """Two kinds of prompt with opposite wishes: only a model that reads the prompt can serve both."""
    rng = random.Random(seed)
    made: list[dict[str, object]] = []
    for k in range(n_prompts):
        shout = k % 2 == 0
        prompt = f"Answer in {'capital' if shout else 'small'} letters about the {rng.choice(WORDS)}."
        texts = [" ".join(rng.choices(WORDS, k=rng.randint(2, 12))) for _ in range(8)]
        responses = [text.upper() if i % 2 else text for i, text in enumerate(texts)]
        gold = [float((text == text.upper()) == shout) for text in responses]
        made.append({"id": str(k), "prompt": prompt, "responses": responses, "gold": gold})
    return made


def test_features_are_sparse_sorted_and_the_same_in_every_process() -> None:
    conversation = chat('Write JSON with "name", 3 lines', '{"name": "\u00e9\u2028"}\n- x!')
    indices, values = featurize(conversation)
    assert (np.diff(indices) > 0).all()
    assert indices.min() >= 0
    assert indices.max() < N_FEATURES
    assert np.isfinite(values).all()
    code = (
        "from rmbench.models.builtin import featurize; import json, sys;"
        "i, v = featurize(json.loads(sys.argv[1])); print(json.dumps([i.tolist(), v.tolist()]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(conversation)],
        capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"},
    )  # fmt: skip
    assert json.loads(done.stdout) == [indices.tolist(), values.tolist()]


@pytest.mark.parametrize("text", ["", " ", "\n\n", "[" * 3000, "\ud800", "a" * 50_000, "1", "{}"])
def test_any_text_has_features(text: str) -> None:
    indices, values = featurize(chat(text, text))
    assert len(indices) == len(values) > 0
    assert np.isfinite(values).all()


def test_pairs_are_of_one_prompt_with_the_better_first(trainer: Any) -> None:
    pairs = trainer.make_pairs(rows(6), seed=0)
    assert pairs.differences.shape[1] == N_FEATURES
    assert (pairs.weights > 0).all()
    # 4 good and 4 bad answers per prompt: 16 pairs each.
    assert np.bincount(pairs.groups).tolist() == [16] * 6


def test_it_learns_what_the_prompt_asks_for_and_generalises(trainer: Any) -> None:
    fitted = trainer.fit(trainer.make_pairs(rows(40), seed=0))
    assert fitted.accuracy_cv > 0.95
    held_out = trainer.make_pairs(rows(20, seed=1), seed=0)
    assert ((held_out.differences @ fitted.weights) > 0).mean() > 0.95
    shuffled = rows(40)
    rng = random.Random(3)
    for row in shuffled:
        rng.shuffle(row["gold"])  # type: ignore[arg-type]
    assert abs(trainer.fit(trainer.make_pairs(shuffled, seed=0)).accuracy_cv - 0.5) < 0.15


def test_training_is_reproducible_and_the_file_is_what_is_scored(
    trainer: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows(12)))
    for name in ("a.npz", "b.npz"):
        trainer.main(["--rows", str(source), "--output", str(tmp_path / name)])
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert "cross-validated" in capsys.readouterr().out
    model = LinearReward(tmp_path / "a.npz")
    loud, soft = model.score(
        [chat("Answer in capital letters.", "THE CAT"), chat("Answer in capital letters.", "a cat")]
    )
    assert loud > soft
    indices, values = featurize(chat("Answer in capital letters.", "THE CAT"))
    weights = np.load(tmp_path / "a.npz")["weights"].astype(float)
    assert loud == pytest.approx(math.fsum(weights[i] * v for i, v in zip(indices, values, strict=True)))


def test_weights_of_other_features_are_refused(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "old.npz", weights=np.zeros(3, np.float32), metadata=np.array('{"features_version":"0"}')
    )
    with pytest.raises(ConfigError, match="trained with features '0'"):
        LinearReward(tmp_path / "old.npz")
    with pytest.raises(ConfigError, match=r"there is no none\.npz in this installation"):
        LinearReward(tmp_path / "none.npz")


def test_the_shipped_model_scores_without_scikit_learn() -> None:
    assert LINEAR_FILE.stat().st_size < 1_000_000
    loaded = load_model("builtin:linear")
    assert loaded.name == "builtin:linear"
    assert fingerprint_of(loaded)["kind"] == "linear"
    code = (
        "import sys; from rmbench.models.resolve import load_model;"
        "load_model('builtin:linear').model.score([[{'role': 'assistant', 'content': 'x'}]]);"
        "print([m for m in ('sklearn', 'torch', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
