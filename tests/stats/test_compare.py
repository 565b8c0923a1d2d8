"""Comparing models: the paired test, Holm's correction, letters and rank ranges."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import ttest_rel

from rmbench.stats import Statistic, compare, groups, holm, mean, rank_ranges


def test_the_test_is_the_paired_t_test_where_clusters_are_single() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(0.1, 1, (2, 50))
    result = compare(*(mean(v, np.arange(50), 50) for v in (x, y)))
    assert result.p_value == pytest.approx(ttest_rel(x, y).pvalue, rel=1e-10)
    assert result.difference.value == pytest.approx((x - y).mean())


def test_the_test_is_the_paired_t_test_of_cluster_means_where_clusters_are_equal() -> None:
    rng = np.random.default_rng(1)
    x, y = rng.normal(0.1, 1, (2, 40, 3))
    cluster = np.repeat(np.arange(40), 3)
    result = compare(*(mean(v.ravel(), cluster, 40) for v in (x, y)))
    assert result.p_value == pytest.approx(ttest_rel(x.mean(1), y.mean(1)).pvalue, rel=1e-10)


def test_a_model_does_not_differ_from_itself() -> None:
    a = mean(np.random.default_rng(2).random(30), np.arange(30), 30)
    result = compare(a, a)
    assert (result.p_value, result.difference.value) == (1.0, 0.0)


def test_a_constant_difference_is_as_certain_as_its_signs() -> None:
    values = np.random.default_rng(2).random(30)
    a, b = (mean(v, np.arange(30), 30) for v in (values + 0.1, values))
    assert compare(a, b).p_value == pytest.approx(2.0**-29)


def test_without_influence_there_is_no_p_value() -> None:
    a = Statistic(value=2.0, influence=None, n=3, n_clusters=3)
    assert compare(a, a).p_value is None


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.6, 0.7]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_keeps_order_and_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    for raw, p in zip(p_values, adjusted, strict=True):
        assert raw - 1e-12 <= p <= min(1.0, len(p_values) * raw) + 1e-12
    ranked = [adjusted[i] for i in np.argsort(p_values, kind="stable")]
    assert ranked == sorted(ranked)


@st.composite
def verdicts(draw: st.DrawFn) -> np.ndarray:
    k = draw(st.integers(1, 8))
    different = np.zeros((k, k), dtype=bool)
    for i in range(k):
        for j in range(i + 1, k):
            different[i, j] = different[j, i] = draw(st.booleans())
    return different


@given(verdicts())
def test_two_models_share_a_letter_exactly_if_the_test_does_not_separate_them(different: np.ndarray) -> None:
    letters = groups(different)
    for i in range(len(different)):
        assert letters[i]
        for j in range(i):
            assert bool(set(letters[i]) & set(letters[j])) == (not different[i, j])


def test_letters_start_with_the_best() -> None:
    separated = ~np.eye(3, dtype=bool)
    assert groups(separated) == ["a", "b", "c"]
    assert groups(np.zeros((3, 3), dtype=bool)) == ["a", "a", "a"]
    chain = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
    assert groups(chain) == ["a", "ab", "b"]


def test_rank_ranges() -> None:
    assert rank_ranges(~np.eye(3, dtype=bool)) == [(1, 1), (2, 2), (3, 3)]
    assert rank_ranges(np.zeros((3, 3), dtype=bool)) == [(1, 3)] * 3
    chain = np.array([[0, 0, 1], [0, 0, 0], [1, 0, 0]], dtype=bool)
    assert rank_ranges(chain) == [(1, 2), (1, 3), (2, 3)]


def test_a_difference_of_scale_parameters_has_the_error_of_the_values() -> None:
    rng = np.random.default_rng(3)
    logs = [x - x.mean() for x in rng.normal(0, 0.01, (2, 40))]
    scales = [
        Statistic(value=v, influence=i, n=40, n_clusters=40, log_scale=True)
        for v, i in zip((200.0, 3.0), logs, strict=True)
    ]
    found = compare(*scales).difference
    # The delta method, by hand: d(value) = value * d(log value), paired by cluster.
    effect = 200.0 * logs[0] - 3.0 * logs[1]
    assert found.value == pytest.approx(197.0)
    assert found.stderr == pytest.approx(np.sqrt(40 / 39 * np.square(effect).sum()))
    (alone,) = {s.stderr for s in scales[:1]}
    assert found.stderr == pytest.approx(alone, rel=0.1)  # the larger one's error, not that of its logarithm
