"""Baselines, precomputed rewards and the conversion of preferences."""

import gzip
import json
import math
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.errors import ConfigError, DataError, ScoringError, UnknownNameError
from rmbench.models.baselines import Constant, Length, Markdown, Random, Shortest
from rmbench.models.pairwise import P_MIN, average_orders, rewards_from_preferences
from rmbench.models.resolve import Runtime, load_model
from rmbench.models.scores import ScoresFile
from rmbench.types import Item, Response, Turn


def chat(response: str, prompt: str = "Hi") -> list[Turn]:
    return [Turn(role="user", content=prompt), Turn(role="assistant", content=response)]


def test_length_counts_characters_not_bytes() -> None:
    batch = [chat(""), chat("abc"), chat("\u00e9\U0001f600")]
    assert Length().score(batch) == [0.0, 3.0, 2.0]
    assert Shortest().score(batch) == [0.0, -3.0, -2.0]


@pytest.mark.parametrize(
    ("text", "marks"),
    [
        ("plain words - with a dash, 2 * 3, snake_case_name and a > b", 0),
        ("# Title\n\ntext", 1),
        ("#hashtag", 0),
        ("- one\n* two\n  + three\n10. four\n2) five", 5),
        ("**bold** and ** not bold ** and **also** this", 2),
        ("use `x` and `y`", 2),
        ("```python\nx = `a`\n```", 3),
        ("| a | b |\n|---|---|\n| 1 | 2 |", 3),
        ("> said\n>not said", 1),
        ("", 0),
    ],
)
def test_markdown_counts_marks_per_word(text: str, marks: int) -> None:
    assert Markdown().score([chat(text)]) == [marks / max(1, len(text.split()))]


def test_random_depends_on_seed_and_conversation_alone() -> None:
    batch = [chat(str(k)) for k in range(2000)]
    drawn = Random(seed=1).score(batch)
    assert Random(seed=1).score(batch[::-1]) == drawn[::-1]
    assert [Random(seed=1).score([c])[0] for c in batch[:3]] == drawn[:3]
    assert Random(seed=2).score(batch) != drawn
    assert Random(seed=1).score([chat("0", prompt="other")]) != drawn[:1]
    assert all(0 <= x < 1 for x in drawn)
    # Uniform: the largest gap to the straight line stays under the 1% point of Kolmogorov-Smirnov.
    gaps = np.abs(np.sort(drawn) - (np.arange(2000) + 0.5) / 2000)
    assert gaps.max() < 1.63 / math.sqrt(2000)


def test_random_takes_the_seed_of_the_run_unless_it_has_its_own() -> None:
    assert load_model("random", {}, Runtime(seed=7)).model.fingerprint()["seed"] == "7"
    assert load_model("random", {"seed": "3"}, Runtime(seed=7)).model.fingerprint()["seed"] == "3"


def test_constant() -> None:
    assert Constant(2.5).score([chat("a"), chat("b")]) == [2.5, 2.5]
    with pytest.raises(ConfigError, match="expected a finite number"):
        Constant(float("nan"))


def item(name: str, k: int = 2) -> Item:
    responses = tuple(Response(f"r{i}", gold=float(i == 0)) for i in range(k))
    return Item(name, (Turn(role="user", content=name),), responses, cluster=name)


def write(path: Path, rows: list[Any]) -> Path:
    text = "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_scores_are_looked_up_by_id(tmp_path: Path) -> None:
    rows = [
        {"id": "b", "rewards": [1, 2.5, None], "gold": [1, 0, 0], "lengths": [3, 4, 5], "strata": {}},
        {"id": "a", "rewards": [[0.25], [-1]], "n_tokens": [1, 2], "truncated": [False, True]},
    ]
    path = write(tmp_path / "my.rm.jsonl", rows)
    loaded = load_model(f"scores:{path}")
    assert loaded.name == "my.rm"
    found = loaded.model.rewards([item("a"), item("b", 3)])  # type: ignore[union-attr]
    assert found[0] == [0.25, -1.0]
    assert found[1][:2] == [1.0, 2.5]
    assert math.isnan(found[1][2])
    packed = load_model(f"scores:{write(tmp_path / 'other.jsonl.gz', rows[::-1])}", {"name": "mine"})
    assert packed.name == "mine"
    assert packed.model.fingerprint() == loaded.model.fingerprint()
    rows[0]["rewards"] = [1, 2.5, 0]
    changed = ScoresFile(str(write(tmp_path / "changed.jsonl", rows)))
    assert changed.fingerprint() != loaded.model.fingerprint()


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {"id": "a", "rewards": [1, "2"]},
            "line 2, key 'rewards': reward 1 is \"2\"; expected a finite number",
        ),
        ({"id": "a", "rewards": [True, 1]}, "reward 0 is true"),
        ('{"id": "a", "rewards": [NaN, 1]}', "reward 0 is nan"),
        ('{"id": "a", "rewards": [1, -Infinity]}', "reward 1 is -inf"),
        ('{"id": "a", "rewards": [1, 1' + "0" * 400 + "]}", "a number of 401 digits; expected at most 308"),
        ({"id": "a", "rewards": [[1, 2], [3, 4]]}, "reward 0 is [1,2]"),
        ({"id": 7, "rewards": [1, 2]}, "key 'id': is 7; expected a string"),
        ({"rewards": [1, 2]}, "key 'id': is missing"),
        ({"id": "a"}, "key 'rewards': is missing"),
        ({"id": "a", "reward": [1, 2], "rewards": [1, 2]}, "unknown key 'reward'. Did you mean 'rewards'?"),
        ({"id": "first", "rewards": [1, 2]}, "'first' occurs twice, first in line 1"),
        ([1, 2], "a list; expected an object"),
        ('{"id": ', "line 2: not valid JSON"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: Any, message: str) -> None:
    path = write(tmp_path / "scores.jsonl", [{"id": "first", "rewards": [0, 1]}, row])
    with pytest.raises(ConfigError) as caught:
        ScoresFile(str(path))
    assert message in str(caught.value)
    assert "scores.jsonl, line 2" in str(caught.value)


def test_missing_items_and_wrong_counts(tmp_path: Path) -> None:
    model = ScoresFile(str(write(tmp_path / "s.jsonl", [{"id": "a", "rewards": [1, 2]}])))
    with pytest.raises(DataError, match=r"no row for 4 of 5 items: 'b', 'c', 'd', \.\.\."):
        model.rewards([item(name) for name in "abcde"])
    with pytest.raises(DataError, match="line 1, key 'rewards': item 'a' has 2 rewards; expected 3"):
        model.rewards([item("a", 3)])
    with pytest.raises(DataError, match="no rows"):
        ScoresFile(str(write(tmp_path / "empty.jsonl", [])))
    with pytest.raises(UnknownNameError):
        load_model(f"scores:{tmp_path / 's.jsonl'}", {"nam": "x"})


probabilities = st.floats(0, 1)


@given(probabilities, probabilities)
def test_a_pair_keeps_the_log_odds_exactly(ab: float, ba: float) -> None:
    rewards, n_pairs, n_flips = rewards_from_preferences(np.array([[0.5, ab], [ba, 0.5]]))
    p = min(max((ab + 1 - ba) / 2, P_MIN), 1 - P_MIN)
    assert rewards[0] - rewards[1] == pytest.approx(math.log(p / (1 - p)), abs=1e-9)
    assert n_pairs == 1
    assert n_flips == int((ab > 0.5 and ba > 0.5) or (ab < 0.5 and ba < 0.5))


@pytest.mark.parametrize("k", range(2, 8))
def test_rewards_are_the_least_squares_solution(k: int) -> None:
    p_first = np.random.default_rng(k).random((k, k))
    rewards, n_pairs, n_flips = rewards_from_preferences(p_first)
    p = average_orders(p_first)
    rows, targets = [], []
    for i in range(k):
        for j in range(i + 1, k):
            row = np.zeros(k)
            row[i], row[j] = 1, -1
            rows.append(row)
            targets.append(math.log(p[i, j] / (1 - p[i, j])))
    solution = np.linalg.lstsq(np.array([*rows, np.ones(k)]), np.array([*targets, 0.0]), rcond=None)[0]
    assert rewards == pytest.approx(solution, abs=1e-9)
    assert n_pairs == k * (k - 1) // 2
    flips = [
        1
        for i, j in permutations(range(k), 2)
        if i < j
        and (p_first[i, j] > 0.5) == (p_first[j, i] > 0.5)
        and 0.5 not in (p_first[i, j], p_first[j, i])
    ]
    assert n_flips == len(flips)


def test_bradley_terry_strengths_are_recovered() -> None:
    strengths = np.array([1.5, -0.25, 0.0, -1.25])
    p_first = 1 / (1 + np.exp(strengths[None, :] - strengths[:, None]))
    assert rewards_from_preferences(p_first)[0] == pytest.approx(strengths, abs=1e-9)


def test_certain_judges_have_finite_rewards() -> None:
    rewards, _, n_flips = rewards_from_preferences(np.array([[0.5, 1.0], [0.0, 0.5]]))
    assert rewards[0] - rewards[1] == pytest.approx(math.log((1 - P_MIN) / P_MIN))
    assert n_flips == 0
    assert rewards_from_preferences(np.array([[0.5, 0.5], [0.9, 0.5]]))[2] == 0


@pytest.mark.parametrize(
    "bad", [[[0.5, 1.5], [0.5, 0.5]], [[0.5, float("nan")], [0.5, 0.5]], [[0.5]], [[0.5, 1.0]]]
)
def test_what_is_no_preference_is_an_error(bad: list[list[float]]) -> None:
    with pytest.raises(ScoringError):
        rewards_from_preferences(np.array(bad))
