"""Selection among n drawn responses: rules, pools, and the distance from the policy.

A rule picks the best, one of the k best, a soft choice, or the best after a penalty. An ensemble (the
minimum, or the mean minus k standard deviations) is not a rule: it is another reward of the same response,
evaluated like any other model. Source: Coste et al. 2023, "Reward Model Ensembles Help Mitigate
Overoptimization", arXiv 2310.02743.

Pools are processed in rectangles with a bounded number of values. The KL between best of n and its policy has
a bound, and an estimate from log-probabilities.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from math import log
from typing import Annotated, Any, Literal, TypeAlias, get_args

import numpy as np

from rmbench.core.options import Option, made_of
from rmbench.errors import ConfigError
from rmbench.metrics.kinds import Params
from rmbench.metrics.panel import Panel
from rmbench.stats.clusters import Floats, Ints
from rmbench.stats.distributions import rank_at_place

SOFT_DRAWS = 64
"""Number of noise draws for each prompt's soft choice."""
PERMUTATIONS = 64
"""Number of random orders of each prompt's responses for the pessimistic choice."""

Selection: TypeAlias = Literal["best", "soft", "top-k", "pessimistic", "length-penalty", "logprob-penalty"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Rule that selects one of n drawn responses."""

    select: str = "best"
    temperature: float = 0.0
    """Parameter of `soft` and `pessimistic`, in units of reward."""
    k: int = 1
    """Parameter of `top-k`."""
    penalty: float = 0.0
    """Parameter of the penalties: reward per character, or per nat."""

    @property
    def takes_best(self) -> bool:
        """True if the rule is best of n for some reward, so that results about best of n hold."""
        return self.select not in ("soft", "top-k", "pessimistic")

    @property
    def needs_scale(self) -> bool:
        """True if more than the order of rewards matters, so that no reward can replace an invalid one."""
        return self.select in ("soft", "pessimistic")

    def __str__(self) -> str:
        """Return the rule with its parameter, such as `top-k k=4`."""
        names = {"best": None, "soft": "temperature", "pessimistic": "temperature", "top-k": "k"}
        name = names.get(self.select, "penalty")
        return self.select if name is None else f"{self.select} {name}={getattr(self, name):g}"


BEST = Rule()


@dataclass(frozen=True, kw_only=True)
class BestOfN(Params):
    """Parameters of the kind `best_of_n`."""

    gold_meaning: Annotated[str, Option("meaning of gold, for display only")] = ""
    select: Annotated[
        Selection,
        Option(
            "which of n responses is selected: the best; one by softmax of reward / temperature; one of the k"
            " best; one at random, likelier with reward, none far below the best (pessimistic); the best of"
            " reward - penalty x characters, or of reward - penalty x (-log P(response))",
            later=True,
        ),
    ] = "best"
    temperature: Annotated[
        float | None,
        Option(
            "of select=soft or pessimistic, in units of reward; 0 is the best",
            low=0,
            later=True,
            only_with=("select", ("soft", "pessimistic")),
        ),
    ] = None
    k: Annotated[
        int | None,
        Option(
            "of select=top-k: how many of the best to choose from",
            low=1,
            later=True,
            only_with=("select", ("top-k",)),
        ),
    ] = None
    penalty: Annotated[
        float | None,
        Option(
            "of the penalties: reward per character, or per nat",
            later=True,
            only_with=("select", ("length-penalty", "logprob-penalty")),
        ),
    ] = None


def rule_of(params: Any) -> Rule:
    """Return the rule that parameters describe: `BestOfN`, or a task's mapping.

    Raises:
        ConfigError: If no rule has that name.
    """
    p = made_of(BestOfN, params)
    if p.select not in get_args(Selection):
        raise ConfigError(f"select={p.select!r} is no rule of selection")
    return Rule(p.select, float(p.temperature or 0.0), int(p.k or 1), float(p.penalty or 0.0))


def penalised(panel: Panel, rule: Rule) -> Panel:
    """Return the panel with the rule's penalty subtracted from the rewards; invalid ones stay invalid.

    `length-penalty`: penalty x characters. `logprob-penalty`: penalty x (-log P(response)), which keeps the
    choice near the policy: KL(choice || policy) of choosing y with certainty is -log P(y). If P(response) is
    unknown the reward becomes invalid, so the caller leaves such items out before.

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
    """Return P(rank r is selected), shape (M, G), if one of the k best of n is selected at random.

    Each of the first k places of the n drawn is selected with probability 1 / k. Up to n = k all drawn
    responses are among them, and the choice is random.
    """
    table = np.zeros((pool_size, len(n_values)))
    for column, n in enumerate(n_values):
        for place in range(1, min(k, n) + 1):
            table[:, column] += rank_at_place(pool_size, n, place) / min(k, n)
    return table


def pessimistic_probabilities(rewards: Floats, beta: float) -> Floats:
    """Return P(each of n drawn responses is selected), both (R, n): `max(0, (reward - cut) / (n beta))`.

    `cut` makes them sum to 1. Among all distributions over the n, this one maximises the expected reward
    minus beta / 2 times the chi-squared divergence from an even choice. A reward far above the others counts
    less than with `best`, and a response far below is never selected. With a small beta it is `best`.

    Source: Huang et al. 2025, "Is Best-of-N the Best of Them?", arXiv 2503.21878 (inference-time pessimism:
    policy x max(0, (reward - cut) / beta); the paper samples it by rejection among n responses, here it is
    computed exactly).

    Args:
        rewards: Finite, (R, n).
        beta: Above 0, in units of reward.
    """
    n = rewards.shape[1]
    scaled = (rewards - rewards.max(axis=1, keepdims=True)) / (n * beta)
    ordered = -np.sort(-scaled, axis=1)
    # Projection on the simplex: the k largest are above the cut where the k-th still is.
    cuts = (np.cumsum(ordered, axis=1) - 1.0) / np.arange(1, n + 1)
    last = (ordered > cuts).sum(axis=1, keepdims=True) - 1
    return np.asarray(np.maximum(0.0, scaled - np.take_along_axis(cuts, last, axis=1)))


def expectation(
    rule: Rule, pool_size: int, n_values: tuple[int, ...], rng: np.random.Generator
) -> Callable[[Floats, list[Floats]], list[Floats]]:
    """Return a function (rewards (I, M), values each (I, M)) -> expected value of the selection, each (I, G).

    `best`, `top-k` and the penalties (on rewards already penalised) are exact expectations over all draws of
    n out of M without replacement and over how ties are broken, in O(M log M) per prompt.

    `soft` selects response i of the n with probability proportional to exp(reward / temperature). Adding
    independent Gumbel noise to reward / temperature and taking the best is the same choice, so each draw of
    noise gives an exact expectation over all draws of n, and the mean over `SOFT_DRAWS` of them is unbiased.
    The noise is independent between prompts: an error clustered by prompt includes it. Models with the same
    seed and items share it.

    `pessimistic` (see `pessimistic_probabilities`) is an exact expectation over the choice, and a mean over
    draws: each of `PERMUTATIONS` orders of the pool is cut into M // n draws of n. So it is unbiased, exact
    at n = 1 and n = M, and its noise is independent between prompts as well.

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

    def shuffled(rewards: Floats, values: list[Floats]) -> list[Floats]:
        total = np.zeros((len(values), len(rewards), len(n_values)))
        for _ in range(PERMUTATIONS):
            order = np.argsort(rng.random(rewards.shape), axis=1)
            placed = [np.take_along_axis(x, order, axis=1) for x in (rewards, *values)]
            for g, n in enumerate(n_values):
                used = pool_size // n * n
                drawn_rewards, *drawn_values = (x[:, :used].reshape(-1, n) for x in placed)
                p = pessimistic_probabilities(drawn_rewards, rule.temperature)
                for v, value in enumerate(drawn_values):
                    per_draw = (p * value).sum(axis=1).reshape(len(rewards), -1)
                    total[v, :, g] += per_draw.mean(axis=1)
        return list(total / PERMUTATIONS)

    if rule.temperature > 0.0 and rule.needs_scale:
        return drawn if rule.select == "soft" else shuffled
    return exact


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


_VALUES_AT_A_TIME = 1 << 20


@dataclass(frozen=True, slots=True)
class Pools:
    """Prompts with their candidates; pools may differ in size."""

    rewards: Floats
    """Shape (R,)."""
    gold: Floats
    """Shape (R,)."""
    offsets: Ints
    """Shape (I + 1,)."""

    @property
    def n_prompts(self) -> int:
        """Number of pools."""
        return len(self.offsets) - 1

    def chunks(self) -> Iterator[tuple[Ints, Floats, Floats]]:
        """Yield (prompt indices (i,), rewards (i, M), gold (i, M)), pools of one size M at a time."""
        sizes = np.diff(self.offsets)
        for size in np.unique(sizes):
            of_size = np.flatnonzero(sizes == size)
            step = max(1, _VALUES_AT_A_TIME // int(size))
            for start in range(0, len(of_size), step):
                prompts = of_size[start : start + step]
                rows = self.offsets[prompts][:, None] + np.arange(size)
                yield prompts, self.rewards[rows], self.gold[rows]

    def n_with_equal_gold(self) -> int:
        """Return the number of pools in which all gold is equal: no selection can help there."""
        return sum(int((np.ptp(gold, axis=1) == 0.0).sum()) for _, _, gold in self.chunks())


def pools_of(panel: Panel) -> Pools:
    """Return the pools of a panel in which all gold is known."""
    return Pools(panel.rewards, panel.gold, panel.offsets)


def kl_bound(n: int) -> float:
    """Return log n - (n - 1) / n, nats: an upper bound on KL(selection || policy) for any choice of one of n.

    No choice out of n gives more than probability 1 - (1 - p)^n to a set of responses with probability p
    under the policy. Best of n by a reward without atoms attains this, so it has the largest divergence, and
    exactly this one.

    Source: Beirami et al. 2024, arXiv 2401.01879, theorem 3.1 (for best of n).
    """
    return log(n) - (n - 1) / n


def kl_of_pick(logprobs: Floats, n: int) -> Floats:
    """Return the estimate of KL(best of n || policy) from the log-probability of a pick, in nats.

    With e = P(pick): (1-e)^n (log n + (n-1) log(1-e) - (n-1)/n) + (1 - (1-e)^n) log((1 - (1-e)^n) / e).
    This is exact if the pick is the policy's best response and no other one has a noticeable probability; the
    estimate is its mean over picks. As e goes to 0 it becomes `kl_bound`; at e = 1 it is 0.

    Source: Beirami et al. 2024, arXiv 2401.01879, section 4, equation 25 of the third version.

    Args:
        logprobs: Any shape; nats, at most 0.
        n: Responses drawn.
    """
    if n == 1:
        return np.zeros_like(logprobs)
    p = np.exp(logprobs)
    certain = p >= 1.0
    # A pick with probability 1 has a KL of 0; the formula is undefined there.
    p = np.where(certain, 0.5, p)
    none = n * np.log1p(-p)
    some = -np.expm1(none)
    # Below the precision of a double, 1 - (1-p)^n is n p.
    lift = np.where(p > 1e-300, np.log(np.maximum(some, 1e-320)) - np.log(np.maximum(p, 1e-320)), log(n))
    found = np.exp(none) * (kl_bound(n) + (n - 1) * np.log1p(-p)) + some * lift
    return np.where(certain, 0.0, found)
