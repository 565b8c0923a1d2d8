"""Accuracy at equal length: closed forms, invariances, what is refused and what is told."""

import numpy as np
import pytest
from panels import make_panel, pair_panel
from sklearn.linear_model import Ridge

from rmbench.metrics import Measured, measure_suite
from rmbench.metrics.panel import Panel
from rmbench.metrics.preference import measure_preference

NAME, PURE = "accuracy_length_controlled", "longer_wins_length_controlled"


def pairs(margin: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> Panel:
    return make_panel(
        [[float(m), 0.0] for m in margin],
        [[1.0, 0.0]] * len(margin),
        lengths=[[int(c), int(r)] for c, r in zip(chosen, rejected, strict=True)],
    )


def random_pairs(seed: int, n: int, longer: float = 0.6) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    rejected = rng.integers(100, 2000, n)
    sign = np.where(rng.random(n) < longer, 1, -1)
    chosen = np.rint(rejected * np.exp(sign * rng.exponential(0.4, n))).astype(int)
    return rng.normal(0.5, 1, n), chosen, rejected


def measured(*arrays: np.ndarray) -> Measured:
    return measure_preference(pairs(*arrays), {})


def test_it_is_the_mean_of_two_intercepts_and_of_equal_pairs_by_their_size() -> None:
    margin, chosen, rejected = random_pairs(0, 400)
    chosen[:30] = rejected[:30]
    relative = (chosen - rejected) / np.maximum(chosen, rejected)
    right, sides = (margin > 0).astype(float), (relative > 0, relative < 0)
    scale = min(np.median(np.abs(relative[side])) for side in sides)
    window = 3 * scale * (25 / min(side.sum() for side in sides)) ** 0.2
    values, sizes = [], []
    for side in sides:
        x = np.abs(relative[side]) / window
        near = x < 1
        fit = Ridge(alpha=0.3).fit(x[near, None], right[side][near], sample_weight=1 - x[near])
        values.append(fit.intercept_)
        # The fit is linear in the credit: the weight of a pair is what one right answer of its own adds.
        weights = [
            Ridge(alpha=0.3).fit(x[near, None], one, sample_weight=1 - x[near]).intercept_
            for one in np.eye(near.sum())
        ]
        sizes.append(1 / np.square(weights).sum())
    both = 4 / (1 / sizes[0] + 1 / sizes[1])
    equal = relative == 0
    n_equal = equal.sum()
    expected = (both * np.mean(values) + n_equal * right[equal].mean()) / (both + n_equal)
    assert measured(margin, chosen, rejected).metrics[NAME].value == pytest.approx(expected, abs=1e-9)


def test_length_control_takes_a_length_bias_away_and_leaves_an_honest_model_alone() -> None:
    rng = np.random.default_rng(2)
    difference = rng.normal(60, 100, 3000).round()  # the chosen one is usually longer
    honest = (rng.random(3000) < 0.7).astype(float) - 0.5
    for margin, expected in ((difference, 0.5), (honest, 0.7)):
        found = measured(margin, 1000 + difference, np.full(3000, 1000)).metrics[NAME]
        assert found.value == pytest.approx(expected, abs=0.04)
        low, high = found.estimate().ci95 or (0, 0)
        assert low < expected < high


@pytest.mark.parametrize("longer", [0.1, 0.5, 0.9])
def test_pure_length_and_pure_brevity_are_at_one_half_exactly(longer: float) -> None:
    _, chosen, rejected = random_pairs(5, 200, longer)
    for margin in (chosen - rejected, rejected - chosen):
        found = measured(margin, chosen, rejected).metrics
        assert found[NAME].value == pytest.approx(0.5, abs=1e-12)
        low, high = found[NAME].estimate().ci95 or (0, 0)
        assert 0.02 < high - low < 0.5, "right on one side, wrong on the other: certain of neither"
    assert found[PURE].value == pytest.approx(0.5, abs=1e-12)
    assert found[PURE].higher_is_better is None


@pytest.mark.parametrize("scale", [3, 1000])
def test_the_unit_of_length_does_not_matter(scale: int) -> None:
    margin, chosen, rejected = random_pairs(6, 150)
    a, b = (measured(margin, k * chosen, k * rejected).metrics[NAME] for k in (1, scale))
    assert a.value == pytest.approx(b.value, abs=1e-12)
    assert a.estimate().ci95 == pytest.approx(b.estimate().ci95, abs=1e-12)


def test_the_other_answer_everywhere_gives_the_complement() -> None:
    margin, chosen, rejected = random_pairs(7, 150)
    a, b = (measured(m, chosen, rejected).metrics[NAME] for m in (margin, -margin))
    assert a.value == pytest.approx(1 - b.value, abs=1e-12)
    assert a.estimate().ci95 == pytest.approx([1 - x for x in reversed(b.estimate().ci95 or ())], abs=1e-9)


def test_pairs_that_are_all_of_equal_length_show_the_accuracy_itself() -> None:
    found = measure_preference(pair_panel(np.array([1.0, -1.0, 2.0, 1.0])), {})
    assert found.metrics[NAME].value == found.metrics["accuracy"].value == 0.75


@pytest.mark.parametrize(("sign", "word"), [(1, "longer"), (-1, "shorter")])
def test_where_every_chosen_response_is_on_one_side_it_is_refused(sign: int, word: str) -> None:
    short, long = np.arange(10, 40), np.arange(50, 80)
    found = measured(np.ones(30), *((long, short) if sign > 0 else (short, long)))
    said = f"every chosen response is {word}: nothing shows the accuracy at equal length"
    assert found.undefined == {NAME: said, PURE: said}
    assert found.metrics["longer_wins"].value == (sign + 1) / 2


@pytest.mark.parametrize("shorter", [1, 2, 3])
def test_a_side_needs_three_prompts(shorter: int) -> None:
    rejected = np.full(40, 100)
    chosen = np.where(np.arange(40) < shorter, 80, 120) + np.arange(40) % 7
    found = measured(np.ones(40), chosen, rejected)
    if shorter < 3:
        assert (
            f"longer in {40 - shorter} pairs ({40 - shorter} prompts), shorter in {shorter}"
            in (found.undefined[NAME])
        )
    else:
        low, high = found.metrics[NAME].estimate().ci95 or (0, 0)
        assert high == 1.0
        assert low < 0.8, "three pairs on one side, all right, are no proof"


def test_prompts_near_equal_length_are_counted() -> None:
    chosen = np.array([110, 111, 112, 100, 91, 90, 89, 50])
    counts = measured(np.ones(8), chosen, np.full(8, 100)).counts
    # 10 of 110 and 11 of 111 are less than a tenth of the longer one, 12 of 112 is more; 10 of 100 is a tenth.
    assert counts["prompts_near_equal_chosen_longer"] == 3
    assert counts["prompts_near_equal_chosen_shorter"] == 3


def test_small_strata_have_a_wide_number_or_none() -> None:
    rng = np.random.default_rng(8)
    sizes = [1, 2, 6, 12, 40]
    n = sum(sizes)
    panel = make_panel(
        [[m, 0.0] for m in rng.normal(0.5, 1, n)],
        [[1.0, 0.0]] * n,
        lengths=[[int(a), int(b)] for a, b in rng.integers(1, 200, (n, 2))],
        strata=[{"s": str(k)} for k, size in enumerate(sizes) for _ in range(size)],
    )
    strata = measure_suite(panel, ["preference"], {"seed": 0}, ["s"]).strata["s"]
    assert NAME not in strata["0"]
    assert NAME not in strata["1"]
    for k in ("2", "3", "4"):
        if estimate := strata[k].get(NAME):
            low, high = estimate.ci95 or (0.5, 0.5)
            assert 0.0 <= low <= estimate.value <= high <= 1.0
            assert high - low > 0.3
    assert NAME in strata["4"]
