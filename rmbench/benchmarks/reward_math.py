"""RewardMATH: one right and nine wrong solutions per problem, each in a row.

The number is the share of problems whose right solution is above all nine wrong ones. A second number is the
mean reciprocal rank of the right solution.

Source: Kim et al. 2024, arXiv 2410.01729; `RewardMATHEvaluation` in src/evaluation/eval.py of the benchmark's
repository.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np

from rmbench.benchmarks.official import (
    NO_JUDGES,
    has_one_right,
    official_kind,
    stop_at_invalid,
)
from rmbench.core.files import prompt_cluster
from rmbench.errors import DataError
from rmbench.metrics.kinds import Measured, Params
from rmbench.metrics.panel import Panel
from rmbench.stats import mean
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, register_reader, rows_of
from rmbench.types import Item, Response, Turn

WRONG = 9

_GOLD = {"chosen": 1.0, "rejected": 0.0}


@register_reader("reward-math")
def read(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"problem_id", "problem", "eval_solution": [steps], "solution_type", ...}` rows.

    Rows of a problem are consecutive. If a row does not fit, its problem is left out: with fewer wrong
    solutions, the problem would be easier.
    """
    yield from _read(files, bad, WRONG)


@register_reader("rewardbench-math")
def read_pairs(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read rows as of `reward-math`, with one wrong solution per problem: RewardBench's mathematics."""
    yield from _read(files, bad, 1)


def _read(files: list[Path], bad: BadRows, n_wrong: int) -> Iterator[FoundItem]:
    for path in files:
        for _, rows in groupby(rows_of(path, bad), key=lambda r: repr(r.value.get("problem_id"))):
            of_problem = list(rows)
            try:
                found = _problem(of_problem, n_wrong)
            except DataError as error:
                bad.add(error)
                if len(of_problem) > 1:
                    bad.leave_out("other solutions of a problem that does not fit", len(of_problem) - 1)
                continue
            yield found


def _problem(rows: list[Row], n_wrong: int) -> FoundItem:
    first = rows[0]
    identifier = str(fields.whole(first, "problem_id", fields.required(first, "problem_id"), 0, 10**9))
    prompt = (Turn(role="user", content=fields.text(first, "problem")),)
    found = [_solution(row, prompt) for row in rows]
    n_right = sum(response.gold == 1.0 for response in found)
    if n_right != 1 or len(found) != 1 + n_wrong:
        raise first.error(
            f"{n_right} right and {len(found) - n_right} wrong solutions; expected 1 and {n_wrong}",
            "problem_id",
            "solutions do not fit",
        )
    item = Item(
        id=identifier,
        prompt=prompt,
        responses=tuple(found),
        cluster=prompt_cluster(prompt),
        strata={"subject": fields.label(first, "subject"), "level": fields.label(first, "level")},
    )
    return FoundItem(item, first)


def _solution(row: Row, prompt: tuple[Turn, ...]) -> Response:
    if fields.text(row, "problem") != prompt[0]["content"]:
        raise row.error(
            "differs from the problem of the row before, which has this id", "problem", "prompts differ"
        )
    kind = fields.text(row, "solution_type")
    if kind not in _GOLD:
        raise row.error(f"{kind!r}; expected chosen or rejected", "solution_type", "unknown solution_type")
    steps = fields.required(row, "eval_solution")
    if not isinstance(steps, list) or not all(isinstance(step, str) for step in steps):
        raise row.error("expected a list of steps", "eval_solution", "text is not a string")
    # As the benchmark shows them to a classifier: the steps without numbers.
    return Response("\n".join(steps), _GOLD[kind], {"generator": fields.label(row, "solution_reference")})


PARTS = ("with ties", "MRR")


def problem_scores(right: float, wrong: Sequence[float]) -> tuple[float, float, float]:
    """Return `[c > max r]`, `[c >= max r]` and 1 / rank of the right solution, ranked last among its ties.

    Python's `max` and `sorted` are used, as published: their result with a NaN depends on its place.

    Args:
        right: Reward of the right solution.
        wrong: Rewards of the wrong ones, in the order of the data.
    """
    ranked = sorted([*((reward, True) for reward in wrong), (right, False)], reverse=True)
    rank = next(k for k, (_, is_wrong) in enumerate(ranked, start=1) if not is_wrong)
    highest = max(wrong)
    return float(right > highest), float(right >= highest), 1.0 / rank


@official_kind("reward-math", *PARTS)
def measure_reward_math(panel: Panel, params: Params) -> Measured:
    """Measure the share of right solutions above every wrong one, and their mean reciprocal rank.

    Args:
        panel: Items with one response of gold 1 and others of gold 0.
        params: Parameters of every kind.

    Returns:
        `official` (strict), `official_with_ties` (a tie with the best wrong one counts), `official_mrr`.
    """
    stop_at_invalid(panel, params)
    names = measure_reward_math.headlines
    if panel.flips is not None:
        return Measured({}, {}, dict.fromkeys(names, NO_JUDGES))
    if not has_one_right(panel):
        return Measured({}, {}, dict.fromkeys(names, "an item has not one right solution and wrong ones"))
    rows = []
    for item in range(panel.n_items):
        here = slice(int(panel.offsets[item]), int(panel.offsets[item + 1]))
        right, rewards = panel.gold[here] > 0.5, panel.rewards[here]
        rows.append(problem_scores(float(rewards[right][0]), rewards[~right].tolist()))
    if not rows:
        return Measured({}, {}, dict.fromkeys(names, "no item"))
    columns = np.array(rows).T
    return Measured(
        {
            name: mean(column, panel.cluster, panel.n_clusters, bounded=True)
            for name, column in zip(names, columns, strict=True)
        }
    )
