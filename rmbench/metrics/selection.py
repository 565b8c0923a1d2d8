"""Which of n drawn responses is selected: the best, a soft choice, one of the k best, the best by penalty.

Several reward models at once (an ensemble's minimum, or its mean minus k standard deviations) are no rule of
their own: they are one more reward for the same response, so a model that returns that number is evaluated
like any other. Source: Coste et al. 2023, "Reward Model Ensembles Help Mitigate Overoptimization", arXiv
2310.02743.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy.stats import hypergeom

from rmbench.errors import ConfigError
from rmbench.metrics.panel import Panel
from rmbench.stats.estimates import Floats

SOFT_DRAWS = 64
"""Draws of noise behind each prompt's soft choice."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How one of n drawn responses is selected."""

    select: str = "best"
    temperature: float = 0.0
    """Of `soft`, in units of reward."""
    k: int = 1
    """Of `top-k`."""
    penalty: float = 0.0
    """Of the penalties: reward per character, or per nat."""

    @property
    def takes_best(self) -> bool:
        """Whether the rule is best of n for some reward, so that what is known of best of n holds."""
        return self.select not in ("soft", "top-k")

    @property
    def needs_scale(self) -> bool:
        """Whether more than the order of rewards matters, so that no reward can stand for an invalid one."""
        return self.select == "soft"

    def __str__(self) -> str:
        """Return the rule with its parameter, such as `top-k k=4`."""
        name = {"best": None, "soft": "temperature", "top-k": "k"}.get(self.select, "penalty")
        return self.select if name is None else f"{self.select} {name}={getattr(self, name):g}"


BEST = Rule()


def rule_of(params: Mapping[str, Any]) -> Rule:
    """Return the rule that a task's parameters describe.

    Raises:
        ConfigError: If there is none of that name.
    """
    rule = Rule(
        select=str(params.get("select") or "best"),
        temperature=float(params.get("temperature") or 0.0),
        k=int(params.get("k") or 1),
        penalty=float(params.get("penalty") or 0.0),
    )
    if rule.select not in ("best", "soft", "top-k", "length-penalty", "logprob-penalty"):
        raise ConfigError(f"select={rule.select!r} is no rule of selection")
    return rule


def penalised(panel: Panel, rule: Rule) -> Panel:
    """Return the panel with what the rule takes off the rewards taken off; invalid ones stay invalid.

    `length-penalty`: penalty x characters. `logprob-penalty`: penalty x (-log P(response)), which keeps the
    choice near the policy: KL(choice || policy) of choosing y for certain is -log P(y). Where that is unknown
    the reward becomes invalid, so such items are to be left out before.

    Source: Jinnai et al. 2024, "Regularized Best-of-N Sampling", arXiv 2404.01054 (proximity to the policy).
    """
    if rule.select == "length-penalty":
        return replace(panel, rewards=panel.rewards - rule.penalty * panel.lengths)
    if rule.select == "logprob-penalty":
        return replace(panel, rewards=panel.rewards + rule.penalty * panel.logprobs)
    return panel


def pick_probabilities(pool_size: int, n_values: tuple[int, ...]) -> Floats:
    """Return P(rank r is the best of n), shape (M, G): `C(M - r, n - 1) / C(M, n)` by its recurrence."""
    table = np.zeros((pool_size, len(n_values)))
    for column, n in enumerate(n_values):
        rank = np.arange(1, pool_size - n + 1)
        steps = (pool_size - rank - n + 1) / (pool_size - rank)
        table[: pool_size - n + 1, column] = n / pool_size * np.concatenate([[1.0], np.cumprod(steps)])
    return table


def top_k_probabilities(pool_size: int, n_values: tuple[int, ...], k: int) -> Floats:
    """Return P(rank r is selected), shape (M, G), where one of the k best of n is selected at random.

    Rank r is drawn with probability n / M; it is then among the k best if fewer than k of the other n - 1
    draws are from the r - 1 better ones, which is hypergeometric. Up to n = k everything drawn is among them,
    and the choice is a random one.
    """
    rank = np.arange(1, pool_size + 1)
    columns = [
        n / (pool_size * min(k, n)) * hypergeom.cdf(k - 1, pool_size - 1, rank - 1, n - 1) for n in n_values
    ]
    return np.stack(columns, axis=1)


def expectation(
    rule: Rule, pool_size: int, n_values: tuple[int, ...], rng: np.random.Generator
) -> Callable[[Floats, list[Floats]], list[Floats]]:
    """Return a function (rewards (I, M), values each (I, M)) -> expected value of the selection, each (I, G).

    `best`, `top-k` and the penalties (on rewards already penalised) are exact expectations over all draws of
    n out of M without replacement and over how ties are broken, in O(M log M) per prompt.

    `soft` selects response i of the n with probability proportional to exp(reward / temperature). Adding
    independent Gumbel noise to reward / temperature and taking the best is the same choice, so each draw of
    noise gives an exact expectation over all draws of n, and the mean over `SOFT_DRAWS` of them is unbiased.
    The noise is independent between prompts: an error clustered by prompt holds that of drawing as well.
    Models with the same seed and items share it.

    Source: Verdun et al. 2025, "Soft Best-of-n Sampling for Model Alignment", arXiv 2505.03156; Gumbel 1954.
    """
    if rule.select == "top-k":
        weights = top_k_probabilities(pool_size, n_values, rule.k)
    else:
        weights = pick_probabilities(pool_size, n_values)

    def exact(rewards: Floats, values: list[Floats]) -> list[Floats]:
        order = np.argsort(-rewards, axis=1, kind="stable")
        ranked = np.take_along_axis(rewards, order, axis=1)
        shared = (share_blocks(ranked, np.take_along_axis(value, order, axis=1)) for value in values)
        return [np.asarray(value @ weights) for value in shared]

    def drawn(rewards: Floats, values: list[Floats]) -> list[Floats]:
        total = [np.zeros((len(rewards), len(n_values))) for _ in values]
        for _ in range(SOFT_DRAWS):
            noisy = rewards + rule.temperature * rng.gumbel(size=rewards.shape)
            for held, found in zip(total, exact(noisy, values), strict=True):
                held += found
        return [held / SOFT_DRAWS for held in total]

    return drawn if rule.select == "soft" and rule.temperature > 0.0 else exact


def share_blocks(ranked: Floats, value: Floats) -> Floats:
    """Replace `value` by its mean over each run of equal `ranked` within a row; both (I, M)."""
    starts = np.ones(ranked.shape, dtype=bool)
    starts[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    if starts.all():
        return value
    first = np.flatnonzero(starts.ravel())
    size = np.diff(np.append(first, ranked.size))
    mean = np.add.reduceat(value.ravel(), first) / size
    return np.repeat(mean, size).reshape(ranked.shape)
