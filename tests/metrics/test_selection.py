"""Rules of selection against enumeration of every draw, their limits, and how they enter a task's identity."""

from collections.abc import Callable, Sequence
from itertools import combinations, permutations
from math import exp

import numpy as np
import pytest
from panels import make_panel

from rmbench.errors import ConfigError, ScoringError
from rmbench.metrics import Panel, PanelRow, build_panel
from rmbench.metrics.best_of_n import measure_best_of_n, n_grid
from rmbench.metrics.selection import (
    Rule,
    expectation,
    pessimistic_probabilities,
    rule_of,
    top_k_probabilities,
)
from rmbench.tasks.spec import apply_params, load_task

Choice = Callable[[Sequence[float]], list[float]]
"""Rewards of the drawn -> probability of each."""


def values(panel: Panel, **params: object) -> dict[str, float]:
    return {name: s.value for name, s in measure_best_of_n(panel, {"seed": 0, **params}).metrics.items()}


def best(rewards: Sequence[float]) -> list[float]:
    top = [float(r == max(rewards)) for r in rewards]
    return [t / sum(top) for t in top]


def soft(temperature: float) -> Choice:
    def choose(rewards: Sequence[float]) -> list[float]:
        weights = [exp((r - max(rewards)) / temperature) for r in rewards]
        return [w / sum(weights) for w in weights]

    return choose


def pessimistic(beta: float) -> Choice:
    def choose(rewards: Sequence[float]) -> list[float]:
        """Find by halving where the mean of max(0, (reward - cut) / beta) is 1."""
        low, high = min(rewards) - 2 * beta, max(rewards)
        for _ in range(200):
            cut = (low + high) / 2
            mean = sum(max(0.0, (r - cut) / beta) for r in rewards) / len(rewards)
            low, high = (cut, high) if mean > 1 else (low, cut)
        return [max(0.0, (r - low) / beta) / len(rewards) for r in rewards]

    return choose


def top_k(k: int) -> Choice:
    def choose(rewards: Sequence[float]) -> list[float]:
        """Go through every way in which ties can be broken."""
        found = np.zeros(len(rewards))
        orders = list(permutations(range(len(rewards))))
        for order in orders:
            first = sorted(order, key=lambda i: -rewards[i])[:k]  # stable: among equals, as in `order`
            found[first] += 1.0 / len(first)
        return list(found / len(orders))

    return choose


def enumerate_rule(choose: Choice, rewards: Sequence[float], gold: Sequence[float], n: int) -> float:
    found = []
    for drawn in combinations(range(len(rewards)), n):
        chances = choose([rewards[i] for i in drawn])
        found.append(sum(p * gold[i] for p, i in zip(chances, drawn, strict=True)))
    return float(np.mean(found))


def pools(m: int, levels: int | None, items: int = 4) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(m)
    rewards = rng.integers(0, levels, (items, m)).astype(float) if levels else rng.normal(size=(items, m))
    return rewards, rng.integers(0, 4, (items, m)).astype(float)


TIES = pytest.mark.parametrize("levels", [1, 3, None], ids=["all tied", "some tied", "no ties"])


@TIES
@pytest.mark.parametrize("k", [1, 2, 3, 9])
@pytest.mark.parametrize("m", [2, 3, 5, 6])
def test_top_k_equals_enumeration_of_every_draw_and_every_order_of_ties(
    m: int, k: int, levels: int | None
) -> None:
    rewards, gold = pools(m, levels)
    got = values(make_panel(rewards.tolist(), gold.tolist()), select="top-k", k=k)
    for n in n_grid(np.full(len(rewards), m)):
        expected = [enumerate_rule(top_k(k), r, g, n) for r, g in zip(rewards, gold, strict=True)]
        assert got[f"gold@{n}"] == pytest.approx(np.mean(expected), abs=1e-12)
        if n <= k:
            assert got[f"gold@{n}"] == pytest.approx(gold.mean(), abs=1e-12)


@pytest.mark.parametrize("k", [1, 2, 7, 64])
def test_probabilities_of_top_k_sum_to_one_and_fall_with_rank(k: int) -> None:
    table = top_k_probabilities(200, (1, 2, 8, 64, 200), k)
    assert table.sum(axis=0) == pytest.approx(np.ones(5), abs=1e-12)
    assert (np.diff(table, axis=0) <= 1e-15).all()
    assert table[:, -1] == pytest.approx(np.where(np.arange(200) < k, 1 / k, 0.0), abs=1e-12)


@pytest.mark.parametrize("beta", [0.01, 0.3, 2.0, 50.0])
def test_a_pessimistic_choice_is_the_one_that_its_definition_gives(beta: float) -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 5):
        rewards = rng.normal(size=(20, n)).round(1)
        found = pessimistic_probabilities(rewards, beta)
        assert found.sum(axis=1) == pytest.approx(np.ones(20), abs=1e-12)
        for row, p in zip(rewards, found, strict=True):
            assert list(p) == pytest.approx(pessimistic(beta)(list(row)), abs=1e-9)
            # No other distribution has more reward less the divergence.
            for other in rng.dirichlet(np.ones(n), 50):
                worth = [q @ row - beta / 2 * (n * (q**2).sum() - 1) for q in (p, other)]
                assert worth[0] >= worth[1] - 1e-9


@TIES
@pytest.mark.parametrize("m", [3, 6])
@pytest.mark.parametrize(("select", "choice"), [("soft", soft(0.7)), ("pessimistic", pessimistic(0.7))])
def test_a_drawn_choice_agrees_with_enumeration_within_the_error_of_its_draws(
    select: str, choice: Choice, m: int, levels: int | None
) -> None:
    rewards, gold = pools(m, levels, items=3)
    grid = n_grid(np.full(3, m))
    truth = [[enumerate_rule(choice, r, g, n) for n in grid] for r, g in zip(rewards, gold, strict=True)]
    rng = np.random.default_rng(1)
    rule = Rule(select, temperature=0.7)
    runs = np.array([expectation(rule, m, grid, rng)(rewards, [gold])[0] for _ in range(80)])
    error = runs.std(axis=0, ddof=1) / np.sqrt(len(runs))
    assert (np.abs(runs.mean(axis=0) - truth) <= 4.5 * error + 1e-9).all()
    # An estimator that ignored the temperature would be outside of that.
    hard = [[enumerate_rule(best, r, g, n) for n in grid] for r, g in zip(rewards, gold, strict=True)]
    if levels != 1:
        assert not (np.abs(runs.mean(axis=0) - hard) <= 4.5 * error + 1e-9).all()


@pytest.mark.parametrize("select", ["soft", "pessimistic"])
def test_without_temperature_it_is_the_best_and_with_a_high_one_the_mean(select: str) -> None:
    rewards, gold = pools(8, 5, items=400)
    panel = make_panel(rewards.tolist(), gold.tolist())
    hard, cold, nearly = values(panel), *(values(panel, select=select, temperature=t) for t in (0, 1e-9))
    hot = values(panel, select=select, temperature=1e9)
    assert cold == hard
    for n in (1, 2, 4, 8):
        # Ties are broken by noise: the same in expectation.
        assert nearly[f"gold@{n}"] == pytest.approx(hard[f"gold@{n}"], abs=0.01)
        assert hot[f"gold@{n}"] == pytest.approx(gold.mean(), abs=0.03)
        assert hot[f"win_rate@{n}"] == pytest.approx(0.5, abs=0.01)
    assert nearly["gold@1"] == pytest.approx(gold.mean(), abs=1e-12)


@pytest.mark.parametrize("select", ["soft", "pessimistic"])
def test_two_models_share_the_noise_and_a_seed_gives_the_same_numbers(select: str) -> None:
    rewards, gold = pools(8, None, items=30)
    panel, shifted = (make_panel((rewards + c).tolist(), gold.tolist()) for c in (0.0, 3.0))
    params: dict[str, object] = {"select": select, "temperature": 0.5}
    assert values(panel, **params) == pytest.approx(values(shifted, **params), abs=1e-12)
    assert values(panel, **params) == values(panel, **params)
    assert values(panel, **params) != values(panel, **params, seed=1)


@TIES
def test_penalties_are_best_of_n_on_other_rewards(levels: int | None) -> None:
    rewards, gold = pools(6, levels)
    rng = np.random.default_rng(0)
    lengths, logprobs = rng.integers(1, 50, rewards.shape), -rng.integers(1, 50, rewards.shape).astype(float)
    panel = with_logprobs(rewards, gold, logprobs, lengths)
    for select, taken in (("length-penalty", 0.125 * lengths), ("logprob-penalty", -0.125 * logprobs)):
        got = values(panel, select=select, penalty=0.125)
        for n in n_grid(np.full(4, 6)):
            pairs = zip(rewards - taken, gold, strict=True)
            expected = [enumerate_rule(best, r, g, n) for r, g in pairs]
            assert got[f"gold@{n}"] == pytest.approx(np.mean(expected), abs=1e-12)
        assert values(panel, select=select, penalty=0.0)["gold@6"] == values(panel)["gold@6"]


def with_logprobs(
    rewards: np.ndarray, gold: np.ndarray, logprobs: np.ndarray, lengths: np.ndarray | None = None
) -> Panel:
    lengths = np.ones_like(rewards) if lengths is None else lengths
    return build_panel(
        PanelRow(
            id=f"i{k}", rewards=list(rewards[k]), gold=list(gold[k]), lengths=[int(v) for v in lengths[k]],
            cluster=f"c{k:03d}", strata={}, gold_kind="graded",
            logprobs=[None if np.isnan(v) else float(v) for v in logprobs[k]],
        )
        for k in range(len(rewards))
    )  # fmt: skip


def test_items_without_the_log_probabilities_that_a_rule_needs_are_left_out_and_counted() -> None:
    rewards, gold = pools(4, None)
    logprobs = np.full(rewards.shape, -2.0)
    logprobs[1, 2] = np.nan
    measured = measure_best_of_n(
        with_logprobs(rewards, gold, logprobs), {"select": "logprob-penalty", "penalty": 1.0}
    )
    assert (measured.counts["items_without_logprobs"], measured.counts["pools"]) == (1, 3)
    none = measure_best_of_n(
        make_panel(rewards.tolist(), gold.tolist()), {"select": "logprob-penalty", "penalty": 1.0}
    )
    assert none.metrics == {}
    assert "log-probabilities" in none.undefined["win_rate"]


def test_an_invalid_reward_under_each_rule() -> None:
    rewards, gold = pools(4, None)
    rewards[0, 0] = np.nan
    panel = make_panel(rewards.tolist(), gold.tolist(), lengths=[[9] * 4] * 4)
    for params in ({"select": "soft", "temperature": 1.0}, {"select": "length-penalty", "penalty": 1.0}):
        with pytest.raises(ScoringError, match="1 of 16 rewards are not finite"):
            values(panel, **params)
        measured = measure_best_of_n(panel, {**params, "invalid": "wrong"})
        assert measured.counts["invalid_items"] == 1
        # No temperature makes a made-up order a choice: the item is left out.
        assert measured.counts["pools"] == (3 if params["select"] == "soft" else 4)


def test_the_default_rule_is_no_part_of_a_tasks_identity() -> None:
    task = load_task("bon")
    assert task.digest() == "e7399a03ba4227d2"  # of the records published before there were rules
    assert apply_params(task, {"select": "best"}) == task
    assert str(rule_of(task.params)) == "best"
    changed = apply_params(task, {"select": "top-k", "k": "4"})
    assert (changed.params["select"], changed.params["k"]) == ("top-k", 4)
    assert str(rule_of(changed.params)) == "top-k k=4"
    assert changed.digest() != task.digest()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": "1"}, "'temperature' means something only with select=soft"),
        ({"select": "soft", "temperature": "1", "k": "2"}, "'k' means something only with select=top-k"),
        ({"select": "top-k"}, "select=top-k needs 'k'"),
        ({"select": "logprob-penalty"}, "select=logprob-penalty needs 'penalty'"),
        ({"select": "soft", "temperature": "-1"}, "expected a number from 0 or none"),
        ({"select": "soft", "temperature": "nan"}, "expected a finite number"),
        ({"select": "top-k", "k": "0"}, "expected a whole number from 1 or none"),
        ({"select": "sofd"}, "Did you mean 'soft'"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(options: dict[str, str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        apply_params(load_task("bon"), options)


def test_disagreements_of_two_records_follow_the_rule() -> None:
    from rmbench.results.disagree import gold_of_pick

    panel = make_panel([[3.0, 2.0, 1.0], [1.0, 1.0, 0.0]], [[0.0, 1.0, 5.0], [2.0, 4.0, 9.0]])
    assert gold_of_pick(panel, Rule()).tolist() == [0.0, 3.0]
    assert gold_of_pick(panel, Rule("top-k", k=3)).tolist() == pytest.approx([2.0, 5.0])
