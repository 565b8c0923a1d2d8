"""The noise ceiling: against enumeration, linear programmes over every distribution of opinions, and simulation."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from math import comb

import numpy as np
import pytest
from panels import make_panel
from scipy.integrate import quad
from scipy.optimize import linprog
from scipy.stats import beta

from rmbench.metrics import Panel
from rmbench.metrics.ceiling import (
    Ceiling,
    Votes,
    beta_majority_excess,
    ceiling_of,
    halves_alike,
    majority_excess,
    most_excess,
    two_alike,
)
from rmbench.metrics.preference import measure_preference
from rmbench.metrics.votes import krippendorff_alpha, pairwise_agreement
from rmbench.stats import compare

NAMES = {
    "annotator_agreement", "annotator_alpha", "ceiling", "ceiling_low", "ceiling_high", "accuracy_of_ceiling",
}  # fmt: skip


def counts_of(answers: Sequence[str]) -> np.ndarray:
    """Return annotators per unit and answer, from one text per annotator; a dot is no answer."""
    rows = [line.split() for line in answers]
    names = sorted({a for row in rows for a in row} - {"."})
    return np.array([[sum(row[u] == n for row in rows) for n in names] for u in range(len(rows[0]))])


@pytest.mark.parametrize(
    ("answers", "published"),
    [
        (["0 1 0 0 0 0 0 0 1 0", "1 1 1 0 0 1 0 0 0 0"], 0.095),
        (["a a b b d c c c e d d a", "b a b b b c c c e d d d"], 0.692),
        (
            ["1 2 3 3 2 1 4 1 2 . . .", "1 2 3 3 2 2 4 1 2 5 . 3", ". 3 3 3 2 3 4 2 2 5 1 .",
             "1 2 3 3 2 4 4 1 2 5 1 ."],
            0.743,
        ),
    ],
    ids=["two annotators, two answers", "two annotators", "answers missing"],
)  # fmt: skip
def test_alpha_of_the_published_examples(answers: list[str], published: float) -> None:
    """Krippendorff 2011, "Computing Krippendorff's alpha-reliability", sections A, B and C."""
    counts = counts_of(answers)
    counts = counts[counts.sum(axis=1) >= 2]
    alpha = krippendorff_alpha(counts, np.arange(len(counts)), len(counts))
    assert not isinstance(alpha, str)
    assert alpha.value == pytest.approx(published, abs=5e-4)


def test_the_influence_of_alpha_is_that_of_leaving_a_pair_out() -> None:
    rng = np.random.default_rng(0)
    counts = rng.multinomial(3, [0.5, 0.3, 0.2], 400)
    index = np.arange(400)
    for either in (False, True):
        alpha = krippendorff_alpha(counts, index, 400, either_order=either)
        assert not isinstance(alpha, str)
        assert alpha.influence is not None
        for k in range(5):
            without = krippendorff_alpha(np.delete(counts, k, 0), index[:399], 399, either_order=either)
            assert not isinstance(without, str)
            assert (alpha.value - without.value) * 399 / 400 == pytest.approx(alpha.influence[k], abs=1e-5)


def test_alpha_does_not_depend_on_which_response_stands_first() -> None:
    rng = np.random.default_rng(1)
    counts = rng.multinomial(3, [0.7, 0.2, 0.1], 50)
    swap = rng.random(50) < 0.5
    turned = np.where(swap[:, None], counts[:, [1, 0, 2]], counts)
    index = np.arange(50)
    one, other = (krippendorff_alpha(c, index, 50, either_order=True) for c in (counts, turned))
    assert not isinstance(one, str)
    assert not isinstance(other, str)
    assert one.value == pytest.approx(other.value, abs=1e-12)
    ties = np.tile([0, 0, 3], (4, 1))
    assert (
        krippendorff_alpha(ties, index[:4], 4) == "all annotators gave one and the same answer to every pair"
    )


@pytest.mark.parametrize("k", [1, 3, 5, 9])
def test_the_majority_of_votes_by_enumeration(k: int) -> None:
    for d in (0.0, 0.3, 0.8, 1.0):
        q = (1 + d) / 2
        right = sum(comb(k, x) * q**x * (1 - q) ** (k - x) for x in range((k + 1) // 2, k + 1))
        assert majority_excess(d, k) == pytest.approx(right - 0.5, abs=1e-12)
    for a in (0.2, 1.0, 4.0):
        above, _ = quad(lambda q, a=a: float(majority_excess(2 * q - 1, k)) * beta.pdf(q, a, a), 0.5, 1.0)
        assert beta_majority_excess(1 / (2 * a + 1), k) == pytest.approx(2 * above, abs=1e-6)
    assert (beta_majority_excess(0.0, k), beta_majority_excess(1.0, k)) == (0.0, 0.5)


@pytest.mark.parametrize("k", range(2, 8))
def test_agreement_within_a_pair_by_enumeration(k: int) -> None:
    for n in range(k + 1):
        votes = [1] * n + [-1] * (k - n)
        two = np.mean([votes[i] * votes[j] for i, j in combinations(range(k), 2)])
        half = np.mean([
            np.sign(sum(votes[i] for i in part)) * np.sign(sum(votes) - sum(votes[i] for i in part))
            for part in combinations(range(k), k // 2)
        ])  # fmt: skip
        first, total = np.array([n]), np.array([k])
        assert two_alike(first, total) == pytest.approx(two, abs=1e-12)
        assert halves_alike(first, total) == pytest.approx(half, abs=1e-12)
        if k <= 3:
            assert half == pytest.approx(two, abs=1e-12)


def test_votes_give_the_square_of_d_without_bias_and_halves_no_more_than_the_majority() -> None:
    for k, q in product(range(2, 9), (0.5, 0.6, 0.9, 1.0)):
        n = np.arange(k + 1)
        p = np.array([comb(k, int(x)) * q**x * (1 - q) ** (k - x) for x in n])
        total = np.full(k + 1, k)
        assert two_alike(n, total) @ p == pytest.approx((2 * q - 1) ** 2, abs=1e-12)
        better = float(majority_excess(2 * q - 1, k - (k + 1) % 2))
        assert halves_alike(n, total) @ p <= 2 * better + 1e-12
        if k % 2 == 0:
            counted = 1 - p[k // 2]
            assert p[k // 2 + 1 :].sum() == pytest.approx(counted / 2 + better, abs=1e-12)


def exact(unanimous: int, divided: int) -> Ceiling:
    """Return the ceiling of pairs with three votes, so many of 3 : 0 and of 2 : 1, a cluster each."""
    first = np.array([3] * unanimous + [1] * divided)
    found = ceiling_of(Votes(first, 3 - first, np.arange(len(first)), len(first)))
    assert not isinstance(found, str)
    return found


def test_each_bound_is_the_truth_of_some_opinions() -> None:
    # All pairs q = 3/4: 3 : 0 with 28/64, and the majority takes the better side with 27/32.
    assert exact(28, 36).high.value == pytest.approx(27 / 32, abs=1e-9)
    # Half of the pairs q = 1, the others 1/2: 3 : 0 with 5/8; right in 3/4.
    assert exact(5, 3).low.value == pytest.approx(3 / 4, abs=1e-12)
    # q uniform: 3 : 0 in half; P(majority of three | q) = q^2 (3 - 2 q), its mean above 1/2 is 13/16.
    assert exact(1, 1).value.value == pytest.approx(13 / 16, abs=1e-9)


@pytest.mark.parametrize("sizes", [[3], [1, 3], [1, 3, 5]], ids=str)
def test_no_distribution_of_opinions_lies_outside_the_bounds(sizes: list[int]) -> None:
    """A linear programme over all distributions of d, another for each number of votes."""
    grid = np.linspace(0.0, 1.0, 401)
    weights = np.array([0.2, 0.5, 0.3][: len(sizes)]) / sum([0.2, 0.5, 0.3][: len(sizes)])
    for s in (0.05, 0.4, 0.8):
        aim = np.concatenate([w * majority_excess(grid, k) for w, k in zip(weights, sizes, strict=True)])
        moments = np.concatenate([w * grid**2 for w in weights])
        each = np.kron(np.eye(len(sizes)), np.ones(len(grid)))
        equal, to = np.vstack([each, moments]), np.append(np.ones(len(sizes)), s)
        low, high = (sign * linprog(sign * aim, A_eq=equal, b_eq=to).fun for sign in (1, -1))
        assert most_excess(s, np.array(sizes), weights) @ weights == pytest.approx(high, abs=2e-4)
        assert s / 2 == pytest.approx(low, abs=2e-4)


def opinions(kind: str, rng: np.random.Generator, n: int) -> np.ndarray:
    """Return the share of all annotators who prefer the first response, of n pairs."""
    if kind == "beta":
        return rng.beta(0.4, 0.4, n)
    if kind == "uniform":
        return rng.random(n)
    if kind == "two-point":
        return np.where(rng.random(n) < 0.5, 0.85, 0.15)
    clear = rng.random(n) < 0.5
    return np.where(clear, np.where(rng.random(n) < 0.5, 1.0, 0.0), 0.5)  # "clear or open"


def drawn(
    kind: str, rng: np.random.Generator, n_clusters: int, *, ties: float, m: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return votes (2 C, 3) and the side (2 C,) of a model that is right about what most prefer in 80%.

    Two pairs per prompt, alike in half of the prompts.
    """
    n = 2 * n_clusters
    q = opinions(kind, rng, n)
    q[1::2] = np.where(rng.random(n_clusters) < 0.5, q[::2], q[1::2])
    equal = rng.binomial(m, ties, n)
    first = rng.binomial(m - equal, q)
    side = np.where(q >= 0.5, 1.0, -1.0) * np.where(rng.random(n) < 0.8, 1.0, -1.0)
    return np.stack([first, m - equal - first, equal], axis=1), side


def voted(kind: str, rng: np.random.Generator, n_clusters: int, *, ties: float, m: int) -> Panel:
    """Return the same as a panel."""
    votes, side = drawn(kind, rng, n_clusters, ties=ties, m=m)
    share = (votes[:, 0] + votes[:, 2] / 2) / m
    panel = make_panel(
        [[s, 0.0] for s in side.tolist()],
        [[p, 1.0 - p] for p in share.tolist()],
        clusters=[f"c{k // 2:06d}" for k in range(2 * n_clusters)],
        kind="probability",
    )
    return replace(panel, votes=votes)


def ceiling_by_pair(votes: np.ndarray) -> Ceiling:
    """Return the ceiling of votes (2 C, 3), two pairs per prompt."""
    some = votes[:, :2].any(axis=1)
    cluster = np.arange(len(votes)) // 2
    found = ceiling_of(Votes(votes[some, 0], votes[some, 1], cluster[some], len(votes) // 2))
    assert not isinstance(found, str)
    return found


def best(kind: str, n: int, *, ties: float, m: int) -> float:
    """Return how often the side that most prefer has more votes, of the pairs that are no ties, on many."""
    rng = np.random.default_rng(99)
    q = opinions(kind, rng, n)
    k = m - rng.binomial(m, ties, n)
    first = rng.binomial(k, q)
    counted = 2 * first != k
    return float(((2 * first > k) == (q >= 0.5))[counted].mean())


def held(kind: str, repeats: int, n_clusters: int, *, ties: float, m: int) -> dict[str, float]:
    """Return metric -> how often its interval holds the truth."""
    votes, side = drawn(kind, np.random.default_rng(5), 200_000, ties=ties, m=m)
    order = np.sign(votes[:, 0] - votes[:, 1])
    bounds, index = ceiling_by_pair(votes), np.arange(len(votes))
    several = votes[votes.sum(axis=1) >= 2]
    alpha = krippendorff_alpha(several, index[: len(several)], len(several), either_order=True)
    assert not isinstance(alpha, str)
    truth = {
        "ceiling": (top := best(kind, 500_000, ties=ties, m=m)),
        "ceiling_low": bounds.low.value,
        "ceiling_high": bounds.high.value,
        "accuracy_of_ceiling": float((side == order)[order != 0].mean()) / top,
        "annotator_alpha": alpha.value,
        "annotator_agreement": pairwise_agreement(several, index[: len(several)], len(several)).value,
    }
    hits = dict.fromkeys(sorted(NAMES), 0)
    for seed in range(repeats):
        found = measure_preference(voted(kind, np.random.default_rng(seed), n_clusters, ties=ties, m=m), {})
        for name in hits:
            low, high = found.metrics[name].interval() or (np.nan, np.nan)
            hits[name] += bool(low <= truth[name] <= high)
    return {name: n / repeats for name, n in hits.items()}


KINDS = ("beta", "uniform", "two-point", "clear or open")


def check(shares: dict[str, float], repeats: int) -> None:
    """What is identified is held in 93% or more; the ceiling and its share, known up to bounds, more often."""
    slack = 2 * np.sqrt(0.05 * 0.95 / repeats)
    assert all(s >= 0.93 - slack for s in shares.values()), shares
    assert all(shares[n] <= 0.97 + slack for n in ("annotator_agreement", "annotator_alpha")), shares
    assert min(shares["ceiling"], shares["accuracy_of_ceiling"]) >= 0.95 - slack, shares


@pytest.mark.parametrize("kind", ["two-point", "clear or open"])
def test_intervals_hold_the_ceiling_at_either_bound(kind: str) -> None:
    check(held(kind, 60, 40, ties=0.0, m=3), 60)


@pytest.mark.slow
@pytest.mark.parametrize(("m", "ties"), [(3, 0.0), (3, 0.2), (2, 0.0), (4, 0.1)])
@pytest.mark.parametrize("kind", KINDS)
def test_intervals_hold_the_ceiling_whatever_the_opinions(kind: str, m: int, ties: float) -> None:
    check(held(kind, 300, 40, ties=ties, m=m), 300)


def test_the_model_of_the_value_is_right_where_opinions_are_beta() -> None:
    for kind, m, ties in (("beta", 3, 0.0), ("uniform", 3, 0.2), ("beta", 4, 0.1), ("uniform", 2, 0.0)):
        found = ceiling_by_pair(drawn(kind, np.random.default_rng(3), 50_000, ties=ties, m=m)[0]).value
        assert found.stderr is not None
        assert found.value == pytest.approx(best(kind, 400_000, ties=ties, m=m), abs=4 * found.stderr + 2e-3)


def test_the_standard_error_is_that_of_sampling() -> None:
    values, errors = [], []
    for seed in range(150):
        found = ceiling_by_pair(drawn("beta", np.random.default_rng(seed), 100, ties=0.2, m=3)[0]).value
        assert found.stderr is not None
        values.append(found.value)
        errors.append(found.stderr)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.2)


def test_annotators_of_one_mind_are_no_certainty() -> None:
    n = 30
    panel = make_panel([[1.0, 0.0]] * n, [[1.0, 0.0]] * n, kind="probability")
    panel = replace(panel, votes=np.tile([3, 0, 0], (n, 1)))
    found = measure_preference(panel, {})
    assert not NAMES & set(found.undefined)
    for name in NAMES:
        estimate = found.metrics[name].estimate()
        assert estimate.value == pytest.approx(1.0)
        assert estimate.ci95 is not None
        if name != "ceiling_high":
            assert estimate.ci95[0] < 0.97, name


def test_annotators_who_agree_no_more_than_chance_have_a_ceiling_of_chance() -> None:
    found = exact(4, 16)  # s = -1/15
    assert found.value.value == found.low.value == 0.5
    low, high = found.value.interval() or (np.nan, np.nan)
    assert low == 0.5
    assert 0.55 < high < 1.0


def test_what_has_no_ceiling_says_why() -> None:
    rewards, gold = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [1.0, 0.0]]
    panel = make_panel(rewards, gold)
    assert not NAMES & {*measure_preference(panel, {}).metrics, *measure_preference(panel, {}).undefined}
    cases = {
        "gold is not the majority of the votes in 1 of 2 pairs": ([[2, 1, 0], [1, 2, 0]], 2),
        "no pair has two votes that are no ties": ([[1, 0, 1], [1, 0, 0]], 2),
        "no pair has two votes": ([[1, 0, 0], [1, 0, 0]], 0),
    }
    for why, (votes, n_told) in cases.items():
        found = measure_preference(replace(panel, votes=np.array(votes)), {})
        assert why in found.undefined.values()
        assert len(NAMES & set(found.metrics)) == n_told
        assert NAMES <= {*found.metrics, *found.undefined}
    tied = replace(make_panel(rewards, [[0.5, 0.5]] * 2), votes=np.array([[1, 1, 0], [0, 0, 2]]))
    found = measure_preference(tied, {})
    assert found.undefined["ceiling"] == "no pair has more votes for one response than for the other"
    assert found.metrics["annotator_agreement"].value == 0.5


def test_the_share_is_accuracy_over_the_ceiling_on_the_pairs_that_have_votes() -> None:
    panel = voted("beta", np.random.default_rng(8), 60, ties=0.1, m=3)
    assert panel.votes is not None
    known = np.arange(panel.n_items) % 3 > 0
    some = replace(panel, votes=np.where(known[:, None], panel.votes, 0))
    found = measure_preference(some, {}).metrics
    alone = measure_preference(panel.take(known), {}).metrics
    assert found["accuracy"].value != pytest.approx(alone["accuracy"].value)
    share = alone["accuracy"].value / alone["ceiling"].value
    assert found["accuracy_of_ceiling"].value == pytest.approx(share, abs=1e-12)
    assert found["accuracy_of_ceiling"].interval() == pytest.approx(alone["accuracy_of_ceiling"].interval())


def test_two_models_differ_in_the_share_as_they_do_in_accuracy() -> None:
    panel = voted("beta", np.random.default_rng(4), 80, ties=0.0, m=3)
    rng = np.random.default_rng(0)
    other = replace(panel, rewards=np.where(rng.random(len(panel.rewards)) < 0.2, 0.5, panel.rewards))
    a, b = (measure_preference(p, {}).metrics for p in (panel, other))
    share = compare(a["accuracy_of_ceiling"], b["accuracy_of_ceiling"])
    plain = compare(a["accuracy"], b["accuracy"])
    assert share.difference.value == pytest.approx(plain.difference.value / a["ceiling"].value)
    assert share.p_value is not None
    assert plain.p_value is not None
    assert share.p_value == pytest.approx(plain.p_value, rel=0.5)
