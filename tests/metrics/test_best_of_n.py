"""Best of N against enumeration, closed forms and properties."""

from collections.abc import Sequence
from itertools import combinations
from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from panels import make_panel, random_panel

from rmbench.errors import ScoringError
from rmbench.metrics import measure_suite
from rmbench.metrics.best_of_n import measure_best_of_n, n_grid, win_over_rest
from rmbench.metrics.panel import Panel
from rmbench.metrics.selection import pick_probabilities

PARAMS = {"seed": 0}


def values(panel: Panel, **params: object) -> dict[str, float]:
    return {name: s.value for name, s in measure_best_of_n(panel, {**PARAMS, **params}).metrics.items()}


def enumerate_best_of_n(
    rewards: Sequence[float], gold: Sequence[float], n: int
) -> tuple[float, float, float]:
    """Return expected gold, win rate and oracle by going through every subset and every tied pick."""
    m = len(rewards)
    found = []
    for drawn in combinations(range(m), n):
        top = max(rewards[k] for k in drawn)
        picks = [k for k in drawn if rewards[k] == top]
        wins = [
            np.mean([(gold[k] > gold[j]) + 0.5 * (gold[k] == gold[j]) for j in range(m) if j != k])
            for k in picks
        ]
        found.append((np.mean([gold[k] for k in picks]), np.mean(wins), max(gold[k] for k in drawn)))
    return tuple(float(np.mean(column)) for column in zip(*found, strict=True))  # type: ignore[return-value]


@pytest.mark.parametrize("levels", [1, 3, None], ids=["all tied", "some tied", "no ties"])
@pytest.mark.parametrize("m", range(2, 9))
def test_equals_enumeration_of_every_subset(m: int, levels: int | None) -> None:
    rng = np.random.default_rng(m)
    items = 5
    rewards = rng.integers(0, levels, (items, m)).astype(float) if levels else rng.normal(size=(items, m))
    gold = rng.integers(0, 3, (items, m)).astype(float)
    got = values(make_panel(rewards.tolist(), gold.tolist()))
    grid = n_grid(np.full(items, m))
    assert grid[-1] == m
    for n in grid:
        expected = np.array(
            [enumerate_best_of_n(r, g, n) for r, g in zip(rewards.tolist(), gold.tolist(), strict=True)]
        )
        for name, value in zip(("gold", "win_rate", "oracle"), expected.mean(axis=0), strict=True):
            assert got[f"{name}@{n}"] == pytest.approx(value, abs=1e-12)
        assert got[f"regret@{n}"] == pytest.approx(expected[:, 2].mean() - expected[:, 0].mean(), abs=1e-12)
        if n > 1:
            possible = expected[:, 2].mean() - gold.mean()
            gained = expected[:, 0].mean() - gold.mean()
            assert got[f"recovery@{n}"] == pytest.approx(gained / possible, abs=1e-10)


@pytest.mark.parametrize("m", [1, 2, 3, 7, 64, 500])
def test_pick_probabilities_are_those_of_the_binomial_formula(m: int) -> None:
    from math import comb

    grid = tuple(sorted({1, min(2, m), max(1, m // 3), m}))
    table = pick_probabilities(m, grid)
    for column, n in enumerate(grid):
        exact = [comb(m - rank, n - 1) / comb(m, n) for rank in range(1, m + 1)]
        assert table[:, column] == pytest.approx(exact, rel=1e-10, abs=1e-300)
    assert table.sum(axis=0) == pytest.approx(np.ones(len(grid)), abs=1e-12)


@pytest.mark.parametrize("m", [2, 5, 32])
def test_a_perfect_picker_of_distinct_gold_reaches_the_closed_form(m: int) -> None:
    rng = np.random.default_rng(m)
    gold = np.array([rng.permutation(m) for _ in range(6)], dtype=float)
    got = values(make_panel(gold.tolist(), gold.tolist()))
    for n in n_grid(np.full(6, m)):
        # The best rank of n out of m is (m + 1) / (n + 1) on average.
        best_rank = (m + 1) / (n + 1)
        assert got[f"oracle@{n}"] == pytest.approx(m - best_rank)
        assert got[f"gold@{n}"] == got[f"oracle@{n}"]
        assert got[f"win_rate@{n}"] == pytest.approx((m - best_rank) / (m - 1))
        assert got[f"regret@{n}"] == 0.0
        if n > 1:
            assert got[f"recovery@{n}"] == pytest.approx(1.0)


def test_n_of_one_is_the_mean_gold_and_an_even_match() -> None:
    panel = random_panel(0)
    got = values(panel)
    kept = panel.sizes >= max(int(k.partition("@")[2]) for k in got if k.startswith("gold@"))
    rows = kept[panel.item_of_row()]
    per_item = [panel.gold[a:b].mean() for a, b in zip(panel.offsets, panel.offsets[1:], strict=False)]
    assert got["gold@1"] == pytest.approx(np.array(per_item)[kept].mean())
    assert rows.any()
    assert got["win_rate@1"] == pytest.approx(0.5, abs=1e-12)
    assert got["kl_bound@1"] == 0.0


def test_kl_bound_is_the_formula() -> None:
    got = values(make_panel([[1.0, 2.0, 3.0, 4.0]] * 2, [[1.0, 2.0, 3.0, 4.0]] * 2))
    assert got["kl_bound@4"] == pytest.approx(log(4) - 3 / 4)


def test_a_constant_scorer_gains_nothing_and_has_no_best_n_above_one() -> None:
    rng = np.random.default_rng(3)
    gold = rng.random((30, 8))
    got = values(make_panel(np.zeros((30, 8)).tolist(), gold.tolist()))
    for n in (1, 2, 4, 8):
        assert got[f"gold@{n}"] == pytest.approx(gold.mean(), abs=1e-12)
        assert got[f"win_rate@{n}"] == pytest.approx(0.5, abs=1e-12)
        if n > 1:
            assert got[f"recovery@{n}"] == 0.0
    assert (got["best_n"], got["overoptimization_drop"]) == (1.0, 0.0)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), scale=st.floats(0.01, 100), shift=st.floats(-5, 5))
def test_any_increasing_map_of_rewards_changes_nothing(seed: int, scale: float, shift: float) -> None:
    panel = random_panel(seed, 12, levels=4)
    mapped = np.sinh(scale * panel.rewards / 50) + shift
    other = Panel(**{**{f: getattr(panel, f) for f in panel.__slots__}, "rewards": mapped})
    for kinds in (["best_of_n"], ["preference"]):
        before, after = (measure_suite(p, kinds, PARAMS, ["half"]) for p in (panel, other))
        assert {k: s.estimate() for k, s in before.metrics.items()} == {
            k: s.estimate() for k, s in after.metrics.items()
        }


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6))
def test_the_order_of_items_and_of_responses_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    rewards, gold = rng.integers(0, 5, (9, 6)).astype(float), rng.random((9, 6))
    shuffled = rng.permutation(9)
    within = np.array([rng.permutation(6) for _ in range(9)])
    prompts = [f"c{k}" for k in range(9)]
    a = values(make_panel(rewards.tolist(), gold.tolist(), clusters=prompts))
    b = values(
        make_panel(
            np.take_along_axis(rewards, within, 1)[shuffled].tolist(),
            np.take_along_axis(gold, within, 1)[shuffled].tolist(),
            clusters=[prompts[k] for k in shuffled],
        )
    )
    assert a == pytest.approx(b, abs=1e-12)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=12))
def test_win_over_rest_averages_to_one_half_and_is_the_share_of_others_beaten(gold: list[int]) -> None:
    row = np.array([gold], dtype=float)
    won = win_over_rest(row)[0]
    assert won.mean() == pytest.approx(0.5, abs=1e-12)
    for k, g in enumerate(gold):
        others = [h for j, h in enumerate(gold) if j != k]
        assert won[k] == pytest.approx(np.mean([(g > h) + 0.5 * (g == h) for h in others]), abs=1e-12)


@pytest.mark.parametrize(
    ("sizes", "grid"),
    [
        ([8] * 10, (1, 2, 4, 8)),
        ([5] * 10, (1, 2, 4, 5)),
        ([8] * 9 + [2], (1, 2, 4, 8)),  # 90% reach 8: the small pool is left out of the whole curve
        ([8] * 8 + [2] * 2, (1, 2)),  # only 80% do
        ([2], (1, 2)),
        ([3, 7, 9], (1, 2, 3)),
    ],
)
def test_the_curve_ends_where_nine_tenths_of_the_pools_reach(sizes: list[int], grid: tuple[int, ...]) -> None:
    assert n_grid(np.array(sizes)) == grid


def test_ragged_pools_small_ones_are_left_out_of_every_point_and_counted() -> None:
    rng = np.random.default_rng(1)
    sizes = [8] * 19 + [3]
    rewards = [rng.normal(size=k).tolist() for k in sizes]
    gold = [rng.random(k).tolist() for k in sizes]
    measured = measure_best_of_n(make_panel(rewards, gold), PARAMS)
    alone = measure_best_of_n(make_panel(rewards[:19], gold[:19]), PARAMS)
    assert measured.counts["pools_too_small"] == 1
    assert measured.counts["pools"] == 19
    for name, s in alone.metrics.items():
        assert measured.metrics[name].value == s.value
        assert measured.metrics[name].n == 19


def test_larger_pools_than_the_last_n_are_used_whole() -> None:
    rewards, gold = [[3.0, 2.0, 1.0], [5.0, 1.0, 2.0, 4.0]], [[1.0, 0.0, 0.5], [0.2, 0.9, 0.1, 0.4]]
    got = values(make_panel(rewards, gold))
    by_hand = [enumerate_best_of_n(r, g, 3)[0] for r, g in zip(rewards, gold, strict=True)]
    assert got["gold@3"] == pytest.approx(np.mean(by_hand))


def test_over_optimisation_finds_the_peak_and_the_drop_after_it() -> None:
    # Reward rises with gold up to a point; the very highest rewards are a trap.
    rng = np.random.default_rng(5)
    rows = []
    for _ in range(200):
        gold = rng.normal(size=32)
        rewards = gold.copy()
        rewards[0], gold[0] = 9.0, -3.0
        rows.append((rewards.tolist(), gold.tolist()))
    measured = measure_best_of_n(make_panel([r for r, _ in rows], [g for _, g in rows]), PARAMS)
    got = {name: s.value for name, s in measured.metrics.items()}
    curve = {n: got[f"gold@{n}"] for n in (1, 2, 4, 8, 16, 32)}
    peak = max(curve, key=lambda n: curve[n])
    assert 1 < peak < 32
    assert got["best_n"] == peak
    assert got["overoptimization_drop"] == pytest.approx(curve[peak] - curve[32])
    low, high = measured.metrics["best_n"].estimate().ci95 or (0, 0)
    assert low <= peak <= high


def test_items_without_gold_are_counted_and_left_out() -> None:
    panel = make_panel([[1.0, 2.0]] * 3, [[0.0, 1.0], [None, 1.0], [0.5, 0.25]])
    measured = measure_best_of_n(panel, PARAMS)
    assert measured.counts["items_without_gold"] == 1
    assert measured.metrics["gold@2"].value == pytest.approx((1.0 + 0.25) / 2)


def test_nothing_to_measure_says_so() -> None:
    measured = measure_best_of_n(make_panel([[1.0, 2.0]], [[None, 1.0]]), PARAMS)
    assert measured.metrics == {}
    assert measured.undefined == {"win_rate": "no pool with gold on every response"}


def test_equal_gold_everywhere_has_no_recovery() -> None:
    measured = measure_best_of_n(make_panel([[1.0, 2.0]] * 3, [[1.0, 1.0]] * 3), PARAMS)
    assert measured.undefined["recovery@2"] == "every pool has equal gold"
    assert measured.counts["pools_with_equal_gold"] == 3
    assert measured.metrics["win_rate@2"].value == 0.5


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_a_reward_that_is_not_finite_is_never_ranked(bad: float) -> None:
    panel = make_panel([[bad, 1.0, 2.0], [2.0, 1.0, 0.0]], [[0.0, 1.0, 2.0], [0.0, 1.0, 2.0]])
    with pytest.raises(ScoringError, match=r"1 of 6 rewards are not finite.*'i0'.*invalid=wrong"):
        values(panel)
    dropped = measure_best_of_n(panel, {**PARAMS, "invalid": "drop"})
    assert dropped.counts["invalid_items"] == 1
    assert dropped.metrics["gold@3"].value == 0.0
    # Counted as wrong: the item's worst response is picked.
    wrong = measure_best_of_n(
        make_panel([[bad, 1.0, 2.0], [0.0, 1.0, 2.0]], [[0.0, 1.0, 2.0]] * 2), {**PARAMS, "invalid": "wrong"}
    )
    assert wrong.metrics["gold@3"].value == pytest.approx((0.0 + 2.0) / 2)


def test_items_that_share_a_prompt_are_one_cluster() -> None:
    rng = np.random.default_rng(0)
    rewards, gold = rng.normal(size=(10, 4)).tolist(), rng.random((10, 4)).tolist()
    twice = make_panel(rewards * 2, gold * 2, clusters=[f"c{k % 10}" for k in range(20)])
    once = make_panel(rewards, gold)
    a, b = (measure_best_of_n(p, PARAMS).metrics["gold@4"].estimate() for p in (once, twice))
    assert (a.value, a.ci95, a.n_clusters) == (
        pytest.approx(b.value),
        pytest.approx(b.ci95),
        b.n_clusters,
    ), "copies of items must not make an interval narrower"
    assert (a.n, b.n) == (10, 20)


def drop_of(rewards: np.ndarray, gold: np.ndarray) -> tuple[float, tuple[float, float]]:
    found = measure_best_of_n(make_panel(rewards.tolist(), gold.tolist()), PARAMS).metrics
    estimate = found["overoptimization_drop"].estimate()
    return estimate.value, estimate.ci95 or (0.0, 0.0)


def test_the_drop_is_not_above_0_by_construction() -> None:
    """On rewards that know nothing of gold a maximum less the last point is above 0; this is not, on average."""
    rng = np.random.default_rng(0)
    drops = [drop_of(rng.normal(size=(30, 16)), rng.normal(size=(30, 16))) for _ in range(150)]
    values = np.array([value for value, _ in drops])
    assert (values < 0.0).any()
    assert abs(values.mean()) < 3 * values.std() / np.sqrt(len(values))
    shown = np.mean([low > 0.0 for _, (low, _) in drops])
    assert shown < 0.025 + 3 * np.sqrt(0.025 * 0.975 / len(drops))


def test_the_drop_is_a_test_that_over_optimisation_passes_and_rising_gold_does_not() -> None:
    rng = np.random.default_rng(1)
    gold = rng.normal(size=(100, 16))
    trapped, trap = gold.copy(), gold.copy()
    trapped[:, 0], trap[:, 0] = 9.0, -3.0
    value, (low, high) = drop_of(trapped, trap)
    assert 0.0 < low <= value <= high
    value, (low, high) = drop_of(gold, gold)
    assert low <= value <= high < 0.0, "gold still rises"
