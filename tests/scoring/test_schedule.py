"""Schedules of comparisons: the graphs, the rewards on them, what is asked, and what a run says of it."""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from rmbench.cli.main import run
from rmbench.errors import ConfigError, ScoringError
from rmbench.models.pairwise import rewards_from_pairs, rewards_from_preferences
from rmbench.models.schedule import KINDS, Kind, Schedule
from rmbench.scoring import open_store, score_items
from rmbench.types import Item, Pair, Response, Turn

Edges = list[tuple[int, int]]


def item(*texts: str) -> Item:
    return Item("i", (Turn(role="user", content="q"),), tuple(Response(t) for t in texts), cluster="q")


def numbered(k: int) -> Item:
    return item(*(f"reply {n}" for n in range(k)))


def reached(k: int, edges: Edges) -> set[int]:
    """Return the responses that a walk along the edges finds from the first one."""
    found = {0}
    for _ in range(k):
        found |= {v for edge in edges if found & set(edge) for v in edge}
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("k", range(2, 14))
def test_every_budget_gives_that_many_distinct_pairs_of_a_connected_graph(k: int, kind: Kind) -> None:
    every = k * (k - 1) // 2
    for budget in range(k - 1, every + 3):
        edges = Schedule(budget, kind, seed=k).pairs(numbered(k))
        assert len(set(edges)) == len(edges) == min(budget, every) == Schedule(budget, kind).n_pairs(k)
        assert all(0 <= i < j < k for i, j in edges)
        assert reached(k, edges) == set(range(k))


@pytest.mark.parametrize(("k", "m"), [(9, 1), (9, 3), (12, 2), (12, 5)])
def test_whole_rings_give_each_response_the_same_number_of_pairs(k: int, m: int) -> None:
    degrees = Counter(v for edge in Schedule(k * m).pairs(numbered(k)) for v in edge)
    assert set(degrees.values()) == {2 * m}


@pytest.mark.parametrize("kind", KINDS)
def test_the_pairs_follow_the_texts_and_the_seed_and_not_the_order(kind: Kind) -> None:
    texts = [f"reply {n}" for n in range(10)]
    back = texts[::-1]

    def asked(texts: Sequence[str], seed: int) -> set[frozenset[str]]:
        edges = Schedule(17, kind, seed).pairs(item(*texts))
        return {frozenset((texts[i], texts[j])) for i, j in edges}

    assert asked(texts, 0) == asked(back, 0)
    assert asked(texts, 0) != asked(texts, 1)


def preferences(k: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.02, 0.98, (k, k))


@pytest.mark.parametrize("k", range(2, 12))
def test_on_every_pair_the_rewards_are_those_of_the_round_robin(k: int) -> None:
    p = preferences(k, k)
    rewards, _, flips = rewards_from_pairs(p, list(combinations(range(k), 2)))
    expected, _, expected_flips = rewards_from_preferences(p)
    np.testing.assert_allclose(rewards, expected, atol=1e-12, rtol=0)
    assert flips == expected_flips


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("k", "budget"), [(8, 9), (9, 18), (13, 30)])
def test_rewards_and_errors_are_those_of_ordinary_least_squares(k: int, budget: int, kind: Kind) -> None:
    p, edges = preferences(k, budget), Schedule(budget, kind).pairs(numbered(k))
    mean = [(p[i, j] + 1 - p[j, i]) / 2 for i, j in edges]
    y = np.array([np.log(q / (1 - q)) for q in mean])
    # Regression without response 0, whose reward is 0; then centred.
    x = np.zeros((len(edges), k))
    for row, (i, j) in enumerate(edges):
        x[row, i], x[row, j] = 1, -1
    free, residual, _, _ = np.linalg.lstsq(x[:, 1:], y, rcond=None)
    centre = np.eye(k) - 1 / k
    covariance = np.zeros((k, k))
    covariance[1:, 1:] = np.linalg.inv(x[:, 1:].T @ x[:, 1:]) * float(residual[0]) / (len(edges) - (k - 1))
    rewards, stderr, _ = rewards_from_pairs(p, edges)
    assert stderr is not None
    np.testing.assert_allclose(rewards, centre @ np.concatenate([[0.0], free]), atol=1e-10)
    np.testing.assert_allclose(stderr, np.sqrt(np.diag(centre @ covariance @ centre)), atol=1e-10)


def test_errors_on_a_ring_have_a_closed_form() -> None:
    k, logit = 6, 0.9
    edges = [(a, a + 1) for a in range(k - 1)] + [(0, k - 1)]
    p = np.full((k, k), 0.5)
    win = 1 / (1 + np.exp(-logit))
    p[0, k - 1], p[k - 1, 0] = win, 1 - win
    rewards, stderr, _ = rewards_from_pairs(p, edges)
    # One contradiction of `logit` around the ring is spread over its K pairs: RSS = logit^2 / K, one degree
    # of freedom. The diagonal of the pseudo-inverse of a ring's Laplacian is (K^2 - 1) / (12 K).
    assert rewards[0] - rewards[k - 1] == pytest.approx(logit * (k - 1) / k, abs=1e-12)
    assert stderr == pytest.approx(
        np.full(k, logit / np.sqrt(k) * np.sqrt((k * k - 1) / (12 * k))), abs=1e-12
    )


def test_a_tree_has_no_errors_and_a_graph_in_parts_no_rewards() -> None:
    p = preferences(4, 1)
    assert rewards_from_pairs(p, [(0, 1), (1, 2), (2, 3)])[1] is None
    with pytest.raises(ScoringError, match="2 pairs do not connect 4 responses"):
        rewards_from_pairs(p, [(0, 1), (2, 3)])


class Judge:
    """Prefers the higher number, and remembers what it was asked."""

    def __init__(self, silent: str = "") -> None:
        self.asked: list[tuple[str, str]] = []
        self.silent = silent

    def fingerprint(self) -> Mapping[str, str]:
        return {"kind": "judge"}

    def prefer(self, batch: Sequence[Pair]) -> Sequence[float]:
        self.asked += [(p.first, p.second) for p in batch]
        gaps = [int(p.first.split()[1]) - int(p.second.split()[1]) for p in batch]
        mute = [self.silent in (p.first, p.second) for p in batch]
        return [float("nan") if m else 1 / (1 + np.exp(-0.3 * g)) for m, g in zip(mute, gaps, strict=True)]


def test_both_orders_of_the_scheduled_pairs_are_asked_and_no_pair_twice(tmp_path: Path) -> None:
    judge, texts = Judge(), numbered(9)
    with open_store(tmp_path, judge.fingerprint()) as store:
        small = score_items(judge, [texts], store, schedule=Schedule(9))
        assert len(judge.asked) == len(set(judge.asked)) == 18
        assert {pair[::-1] for pair in judge.asked} == set(judge.asked)
        wide = score_items(judge, [texts], store, schedule=Schedule(18), batch_tokens=1)
        assert (small.n_computed, wide.n_computed) == (18, 18)  # the ring was known
        full = score_items(judge, [texts], store)
    assert len(judge.asked) == len(set(judge.asked)) == full.n_units == 72
    for scoring in (small, wide, full):  # a judge without noise: every graph has the same rewards
        assert scoring.rewards[0] == pytest.approx([0.3 * (n - 4) for n in range(9)], abs=1e-9)
    assert wide.pairs is not None
    assert (wide.pairs.asked, wide.pairs.of) == (18, 36)
    assert wide.pairs.stderr == pytest.approx(0, abs=1e-9)
    assert (wide.comparisons, full.pairs) == ((18,), None)


def test_an_unanswered_pair_makes_the_item_invalid(tmp_path: Path) -> None:
    judge = Judge(silent="reply 3")
    with open_store(tmp_path, judge.fingerprint()) as store:
        scoring = score_items(judge, [numbered(9)], store, schedule=Schedule(18))
    assert scoring.n_invalid == 9
    assert scoring.comparisons == (0,)


def test_a_budget_that_cannot_connect_the_responses_asks_nothing(tmp_path: Path) -> None:
    judge = Judge()
    with (
        open_store(tmp_path, judge.fingerprint()) as store,
        pytest.raises(ConfigError, match=r"comparisons=5: item 'i' has 9 responses.*comparisons=8 or more"),
    ):
        score_items(judge, [numbered(4), numbered(9)], store, schedule=Schedule(5))
    assert not judge.asked


FILE = '''
class Judge:
    """Prefers the longer reply."""

    def fingerprint(self):
        return {"kind": "test-judge"}

    def prefer(self, batch):
        return [0.9 if len(p.first) > len(p.second) else 0.1 for p in batch]
'''


def evaluate(folder: Path, *options: str) -> int:
    return run(
        ["eval", "--model", f"{folder}/judge.py:Judge", *options, "-t", "bon", "--data", f"{folder}/items.jsonl",
         "--results", f"{folder}/results", "--store", f"{folder}/store"]
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "judge.py").write_text(FILE)
    rows = [
        {"id": f"i{n}", "prompt": f"question {n}", "responses": ["x" * (1 + k * n) for k in range(9)],
         "gold": [k / 9 for k in range(9)], "gold_kind": "graded"}
        for n in range(1, 5)
    ]  # fmt: skip
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def test_a_run_says_its_budget_and_has_an_identity_of_its_own(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate(folder) == 0
    full = capsys.readouterr().err
    assert "K=9: 36 of 36 pairs, both orders: 72 questions; 288 questions for 4 items" in full
    assert "-M comparisons=27 asks 54" in full
    assert evaluate(folder, "-M", "comparisons=18") == 0
    said = capsys.readouterr()
    assert "K=9: 18 of 36 pairs, both orders: 36 questions; 144 questions for 4 items" in said.err
    assert "72 of 144 pairs of responses asked; standard error of a reward" in said.out + said.err
    assert evaluate(folder, "-M", "comparisons=18", "-M", "schedule=sampled") == 0
    records = [json.loads(path.read_text()) for path in folder.glob("results/**/*.json")]
    told = {r["identity"]["model"].get("comparisons"): r for r in records if "identity" in r}
    assert set(told) == {None, "circular, 18 pairs an item, seed 0", "sampled, 18 pairs an item, seed 0"}
    scheduled = told["circular, 18 pairs an item, seed 0"]
    assert scheduled["counts"]["pairs"] == {"asked": 72, "of": 144}
    assert scheduled["provenance"]["computed"] == 0  # the full round robin asked them all
    assert "pairs" not in told[None]["counts"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["comparisons=5"], "comparisons=8 or more"),
        (["comparisons=0"], "expected pairs of an item, 1 or more"),
        (["comparisons=many"], "'many'"),
        (["schedule=sampled"], "needs comparisons=N"),
        (["comparisons=9", "schedule=circlar"], "Did you mean 'circular'?"),
    ],
)
def test_options_that_make_no_schedule_are_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    given = [word for option in options for word in ("-M", option)]
    assert evaluate(folder, *given) == 2
    assert message in capsys.readouterr().err


def test_a_model_of_rewards_compares_no_pairs(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["eval", "--model", "length", "-M", "comparisons=9", "-t", "bon", "--data",
                f"{folder}/items.jsonl", "--results", f"{folder}/r"]) == 2  # fmt: skip
    assert "which compares no pairs" in capsys.readouterr().err
