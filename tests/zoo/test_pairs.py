"""Models that compare two replies against replicas: one pair at a time, batched, shared, and by the command."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pair_replicas
import pytest
from pair_replicas import Make, PairReplica, probability

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


@pytest.mark.parametrize("family", ["rlhflow", "steamshp"])
def test_a_long_question_loses_its_prompt_first(make_checkpoint: Make, family: str) -> None:
    """A conversation loses its beginning, a post its end; then the replies lose their ends."""
    replica = getattr(pair_replicas, family)(make_checkpoint)
    model = load(replica.folder, **replica.options, max_length="140")
    prompt = "What now? " + FOX * 12
    written = f"\n\n<turn> user\n {prompt}\n" if family == "rlhflow" else prompt
    kept = [written[n:] if family == "rlhflow" else written[: len(written) - n] for n in range(len(written) + 1)]
    long = ["A. " + FOX * 9, "B. " + FOX * 6]
    asked = [
        [replica.ask(text, "Paris.", "No.") for text in kept],
        [replica.ask("", *(text[:n] for text in long)) for n in range(len(long[0]))],
    ]
    found = model.prefer([pair_of([("user", prompt)], "Paris.", "No."), pair_of([("user", prompt)], *long)])
    for scored, questions in zip(found, asked, strict=True):
        # A text may have as many tokens as a longer one: any of the fullest ones will do.
        fullest = [compute() for n, compute in questions if n == 140]
        assert (scored.n_tokens, scored.truncated) == (140, True)
        assert any(scored.reward == pytest.approx(probability(odds), abs=1e-5) for odds in fullest)
