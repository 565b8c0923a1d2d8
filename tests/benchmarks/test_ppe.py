"""PPE's measures against enumeration of every draw, against ranks, and under changes that must not matter."""

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from panels import make_panel
from scipy.stats import rankdata

from rmbench.benchmarks.ppe import SETS, conflict_credit, conflict_text, curve_loss, measure_ppe
from rmbench.metrics import Panel
from rmbench.metrics.best_of_n import best_of_n_curves
from rmbench.metrics.selection import pools_of
from rmbench.metrics.suite import measure_suite

QUESTION = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=4, max_size=4)


def one_set(questions: list[list[tuple[float, int]]], name: str = "MATH", **strata: str) -> Panel:
    return make_panel(
        [[float(r) for r, _ in q] for q in questions],
        [[float(g) for _, g in q] for q in questions],
        strata=[{"set": name, **strata}] * len(questions),
        kind="label",
    )


def drawn(question: list[tuple[float, int]], k: int) -> tuple[float, float]:
    """The gold of the pick and the best there is, over every draw of k and every one of the tied."""
    picks, best = [], []
    for draw in combinations(question, k):
        top = max(r for r, _ in draw)
        picks.append(np.mean([g for r, g in draw if r == top]))
        best.append(max(g for _, g in draw))
    return float(np.mean(picks)), float(np.mean(best))


@given(st.lists(QUESTION, min_size=1, max_size=4))
def test_is_what_enumeration_and_ranks_give(questions: list[list[tuple[float, int]]]) -> None:
    measured = measure_ppe(one_set(questions), {})
    values = {name: m.value for name, m in measured.metrics.items()}
    table = np.array([[drawn(q, k) for k in range(1, 5)] for q in questions]).mean(axis=0)
    curve = measured.curves["best_of_k"]["MATH"]
    assert curve["gold"] == pytest.approx(table[:, 0].tolist(), abs=1e-12)
    assert curve["oracle"] == pytest.approx(table[:, 1].tolist(), abs=1e-12)
    assert values["official_math_max"] == pytest.approx(table[:, 0].max(), abs=1e-12)
    assert values["official_math_end"] == pytest.approx(table[-1, 0], abs=1e-12)
    loss = np.square(table[:, 0] - table[:, 1]).mean()
    assert values["official_math_loss"] == pytest.approx(loss, abs=1e-12)
    credit = [
        np.mean(c) for q in questions
        if (c := [(r > s) + 0.5 * (r == s) for r, g in q for s, h in q if g > h])
    ]  # fmt: skip
    assert ("official_math" in values) == bool(credit)
    assert measured.counts["questions_without_a_conflict"] == len(questions) - len(credit)
    if credit:
        assert values["official_math"] == pytest.approx(np.mean(credit), abs=1e-12)
    flat = []
    for q in questions:
        r = np.array([x for x, _ in q], dtype=float)
        flat += ((r - r.min()) / np.ptp(r) if np.ptp(r) else np.full(4, 0.5)).round(12).tolist()
    right = np.array([g for q in questions for _, g in q]) == 1
    if 0 < right.sum() < len(right):
        ranks, n = rankdata(flat), right.sum()
        area = (ranks[right].sum() - n * (n + 1) / 2) / (n * (len(right) - n))
        assert values["official_math_auc"] == pytest.approx(area, abs=1e-12)
    else:
        assert "all right, or all wrong" in measured.undefined["official_math_auc"]


@example([[(0, 0), (0, 0), (1, 1), (2, 0)], [(0, 0), (1, 0), (2, 1), (0, 0)]], 0.1, 1.0)
@given(st.lists(QUESTION, min_size=1, max_size=4), st.floats(0.1, 9), st.floats(-9, 9))
def test_the_scale_of_a_question_does_not_matter(
    questions: list[list[tuple[float, int]]], factor: float, shift: float
) -> None:
    moved = [[(factor * r + shift, g) for r, g in questions[0]], *questions[1:]]
    before, after = (measure_ppe(one_set(q), {}).metrics for q in (questions, moved))
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].value == pytest.approx(value.value, abs=1e-9)


def test_what_is_known_of_perfect_and_reversed_rewards() -> None:
    questions = [
        [(float(g) + 0.01 * k, g) for k, g in enumerate(gold)] for gold in ((1, 0, 0, 1), (0, 1, 0, 0))
    ]
    perfect = measure_ppe(one_set(questions), {}).metrics
    reversed_ = measure_ppe(one_set([[(-r, g) for r, g in q] for q in questions]), {}).metrics
    assert [perfect[f"official_math{s}"].value for s in ("", "_auc", "_end", "_loss")] == [1.0, 1.0, 1.0, 0.0]
    assert [reversed_[f"official_math{s}"].value for s in ("", "_auc", "_end")] == [0.0, 0.0, 0.0]
    assert not perfect["official_math_loss"].higher_is_better


def test_published_pairs_count_as_they_are_and_one_question_as_another() -> None:
    panel = make_panel(
        [[1, 2, 3, 4], [4, 3, 2, 1]],
        [[1, 0, 1, 0], [1, 0, 1, 0]],
        strata=[{"set": "MATH", "conflict_pairs": conflict_text([(2, 1), (2, 1), (0, 3)])}, {"set": "MATH"}],
        kind="label",
    )
    assert conflict_credit(panel).tolist() == [2 / 3, 3 / 4]


def test_pools_of_several_sizes_have_no_curve_and_other_sets_are_counted() -> None:
    panel = make_panel(
        [[2, 1], [3, 2, 1], [1, 2]],
        [[1, 0], [1, 0, 0], [1, 0]],
        strata=[{"set": "GPQA"}, {"set": "GPQA"}, {"set": "Riddles"}],
        kind="label",
    )
    measured = measure_ppe(panel, {})
    assert measured.metrics["official_gpqa"].value == 1.0
    assert measured.undefined["official_gpqa_end"] == "pools of the set GPQA differ in size"
    assert measured.counts["items_of_other_sets"] == 1
    assert "no item of the set MATH" in measured.undefined["official"]


def random_sets(seed: int, n: int) -> Panel:
    rng = np.random.default_rng(seed)
    gold = (rng.random((n, 8)) < rng.random((n, 1))).astype(float)
    rewards = gold + rng.normal(size=(n, 8)) * 2
    return make_panel(
        rewards.tolist(), gold.tolist(), strata=[{"set": SETS[k % 5]} for k in range(n)], kind="label"
    )


def test_every_mean_has_an_interval_and_the_same_bytes_twice() -> None:
    panel = random_sets(1, 200)
    first, second = (measure_suite(panel, ["ppe"], {}) for _ in range(2))
    for name, metric in first.metrics.items():
        low, high = metric.estimate().ci95 or (np.nan, np.nan)
        assert low <= metric.value <= high, name
        assert metric.estimate() == second.metrics[name].estimate()
    assert first.metrics["official"].n == 200 - first.counts["ppe"]["questions_without_a_conflict"]


def test_the_error_of_the_loss_is_that_of_leaving_questions_out() -> None:
    panel = random_sets(2, 150)

    def loss(part: Panel) -> Any:
        return curve_loss(best_of_n_curves(pools_of(part), tuple(range(1, 9))), part)

    whole = loss(panel)
    left_out = np.array([loss(panel.take(np.arange(150) != k)).value for k in range(150)])
    jackknife = np.sqrt(149 / 150 * np.square(left_out - left_out.mean()).sum())
    assert whole.influence.sum() == pytest.approx(0.0, abs=1e-12)
    assert whole.stderr == pytest.approx(jackknife, rel=0.02)
