"""Preference accuracy against loops over pairs, scikit-learn, and properties."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from panels import make_panel, pair_panel, random_panel

from rmbench.errors import ConfigError, ScoringError
from rmbench.metrics import measure_suite
from rmbench.metrics.panel import Panel, pairs_of
from rmbench.metrics.preference import measure_preference

CONTROLLED = {"accuracy_length_controlled", "longer_wins_length_controlled"}
NAMES = {"accuracy", "accuracy_macro", "longer_wins"} | CONTROLLED


def loop_over_pairs(panel: Panel, ties: str) -> tuple[float, int, int]:
    """Return accuracy, reward ties and gold ties, pair by pair."""
    credit, reward_ties, gold_ties = [], 0, 0
    for start, end in zip(panel.offsets, panel.offsets[1:], strict=False):
        rewards, gold = panel.rewards[start:end], panel.gold[start:end]
        for i in range(len(rewards)):
            for j in range(i + 1, len(rewards)):
                if gold[i] == gold[j]:
                    gold_ties += 1
                    continue
                c, r = (i, j) if gold[i] > gold[j] else (j, i)
                if rewards[c] == rewards[r]:
                    reward_ties += 1
                    share = 1 / int((rewards == rewards[c]).sum())
                    credit.append({"half": 0.5, "zero": 0.0, "fractional": share}[ties])
                else:
                    credit.append(float(rewards[c] > rewards[r]))
    return float(np.mean(credit)), reward_ties, gold_ties


@pytest.mark.parametrize("ties", ["half", "zero", "fractional"])
@pytest.mark.parametrize("seed", range(4))
def test_equals_a_loop_over_all_pairs(seed: int, ties: str) -> None:
    panel = random_panel(seed, levels=3)
    measured = measure_preference(panel, {"ties": ties})
    accuracy, reward_ties, gold_ties = loop_over_pairs(panel, ties)
    assert measured.metrics["accuracy"].value == pytest.approx(accuracy, abs=1e-12)
    assert (measured.counts["reward_ties"], measured.counts["gold_ties"]) == (reward_ties, gold_ties)
    assert measured.metrics["accuracy"].n == measured.counts["pairs"]


@pytest.mark.parametrize(
    ("convention", "credit"), [("clean", 0.5), ("judgebench", 0.0), ("rm-bench", 0.0), ("rewardbench", 0.0)]
)
def test_conventions_differ_in_what_a_tie_is_worth(convention: str, credit: float) -> None:
    panel = make_panel([[1.0, 1.0], [2.0, 1.0]], [[1.0, 0.0]] * 2)
    measured = measure_preference(panel, {"convention": convention})
    assert measured.metrics["accuracy"].value == (1.0 + credit) / 2
    given_ties = measure_preference(panel, {"convention": convention, "ties": "half"})
    assert given_ties.metrics["accuracy"].value == 0.75, "an explicit policy wins"


@settings(max_examples=60)
@example(seed=19137)
@given(seed=st.integers(0, 10**6))
def test_swapping_chosen_and_rejected_gives_the_complement(seed: int) -> None:
    panel = random_panel(seed, 12, levels=4)
    swapped = Panel(**{**{f: getattr(panel, f) for f in panel.__slots__}, "gold": -panel.gold})
    a, b = (measure_preference(p, {"macro_over": "half"}).metrics for p in (panel, swapped))
    assert a.keys() == b.keys()
    for name in NAMES & a.keys():  # few pairs of near-equal length: no length-controlled number, in both
        assert a[name].value == pytest.approx(1.0 - b[name].value, abs=1e-12)


def test_a_constant_scorer_is_at_one_half() -> None:
    panel = random_panel(1)
    constant = Panel(**{**{f: getattr(panel, f) for f in panel.__slots__}, "rewards": 0 * panel.rewards})
    got = measure_preference(constant, {"macro_over": "half"}).metrics
    for name in NAMES - CONTROLLED - {"longer_wins"}:
        assert got[name].value == 0.5
        low, high = got[name].estimate().ci95 or (0.0, 0.0)
        assert low + high == pytest.approx(1.0)
        # 20 prompts of unequal weight: all ties among them is no proof of nothing but ties.
        assert 0.5 * 0.025 ** (1 / 12) < low < 0.5 * 0.025 ** (1 / 20) + 1e-9, name
    for name in CONTROLLED:
        assert got[name].value == pytest.approx(0.5, abs=1e-12)


def test_macro_is_the_plain_mean_of_strata_and_micro_is_not() -> None:
    rows = [([2.0, 1.0], "easy")] * 6 + [([1.0, 2.0], "hard")] * 2
    panel = make_panel([r for r, _ in rows], [[1.0, 0.0]] * 8, strata=[{"level": level} for _, level in rows])
    suite = measure_suite(panel, ["preference"], {"seed": 0}, ["level"])
    assert suite.metrics["accuracy"].value == 0.75
    assert suite.metrics["accuracy_macro"].value == 0.5
    assert {k: v["accuracy"].value for k, v in suite.strata["level"].items()} == {"easy": 1.0, "hard": 0.0}


def test_macro_counts_pairs_of_all_strata_as_independent_clusters() -> None:
    rng = np.random.default_rng(0)
    right = rng.random(400) < np.repeat([0.9, 0.6], [300, 100])
    panel = make_panel(
        [[1.0, 0.0] if r else [0.0, 1.0] for r in right],
        [[1.0, 0.0]] * 400,
        strata=[{"level": "easy" if k < 300 else "hard"} for k in range(400)],
    )
    macro = measure_suite(panel, ["preference"], {"seed": 0}, ["level"]).metrics["accuracy_macro"]
    parts = [right[:300], right[300:]]
    # Strata are independent: the variances of their means add, a quarter of each.
    expected = np.sqrt(sum(p.var() / len(p) for p in parts)) / 2
    assert macro.stderr == pytest.approx(expected, rel=0.01)


def test_longer_wins_is_the_share_of_pairs_whose_chosen_is_longer() -> None:
    panel = make_panel([[1.0, 0.0]] * 4, [[1.0, 0.0]] * 4, lengths=[[9, 3], [3, 9], [5, 5], [8, 2]])
    longer = measure_preference(panel, {}).metrics["longer_wins"]
    assert longer.value == (1 + 0 + 0.5 + 1) / 4
    assert longer.higher_is_better is None, "it describes the data"


def test_no_pair_with_different_gold_says_so_for_every_metric() -> None:
    measured = measure_preference(make_panel([[1.0, 2.0]], [[1.0, 1.0]]), {})
    assert set(measured.undefined) == NAMES
    assert measured.counts["gold_ties"] == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_invalid_rewards(bad: float) -> None:
    panel = make_panel([[bad, 0.0], [1.0, 0.0], [1.0, 0.0]], [[1.0, 0.0]] * 3)
    with pytest.raises(ScoringError, match="not finite"):
        measure_preference(panel, {})
    wrong = measure_preference(panel, {"invalid": "wrong"})
    assert (wrong.metrics["accuracy"].value, wrong.counts["invalid_items"]) == (pytest.approx(2 / 3), 1)
    drop = measure_preference(panel, {"invalid": "drop"})
    assert (drop.metrics["accuracy"].value, drop.metrics["accuracy"].n) == (1.0, 2)
    with pytest.raises(ConfigError, match="fail, wrong, drop"):
        measure_preference(panel, {"invalid": "zero"})


@pytest.mark.parametrize(
    ("params", "said"), [({"ties": "win"}, "half, zero, fractional"), ({"convention": "x"}, "rewardbench")]
)
def test_unknown_policies_are_refused(params: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        measure_preference(pair_panel(np.array([1.0])), params)


def test_a_soft_label_of_one_half_has_no_order() -> None:
    panel = pair_panel(np.array([1.0, 1.0, -1.0]), np.array([0.5, 0.9, 0.3]))
    measured = measure_preference(panel, {})
    assert measured.metrics["accuracy"].value == 1.0
    expected = {"pairs": 2, "reward_ties": 0, "gold_ties": 1, "invalid_items": 0}
    assert {name: measured.counts[name] for name in expected} == expected


@pytest.mark.parametrize("scale", [1.0, 1e307])
def test_rewards_near_the_largest_float_keep_their_order(scale: float) -> None:
    rewards = [[9.0, -9.0], [-9.0, 9.0], [9.0, 9.0], [3.0, 1.0]]
    panel = make_panel([[r * scale for r in row] for row in rewards], [[1.0, 0.0]] * 4)
    found = measure_preference(panel, {})
    assert found.metrics["accuracy"].value == (1 + 0 + 0.5 + 1) / 4
    assert found.counts["reward_ties"] == 1
    assert np.sign(pairs_of(panel).margin).tolist() == [1, -1, 0, 1]
