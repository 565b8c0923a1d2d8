"""Plan-RewardBench: pairs of whole trajectories of agents that call tools.

The number is the mean of seven splits. Rewards at most 0.0001 apart tie for half.

Source: Wang et al. 2026, arXiv 2604.08178; `judge_pair` of the reward evaluators in
eval/evaluate_benchmark_final.py of the benchmark's repository, and "Main Results" in its README.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.benchmarks.official import (
    NO_JUDGES,
    official_kind,
    part_means,
    stop_at_invalid,
    stratum_of,
    with_mean_of_parts,
)
from rmbench.core.files import prompt_cluster
from rmbench.metrics.kinds import Measured, Params
from rmbench.metrics.panel import Panel, pairs_of
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader
from rmbench.types import Item, Response, Turn

SPLITS = (
    "planning_multi_easy",
    "planning_multi_hard",
    "planning_single_easy",
    "planning_single_hard",
    "robust_recovery",
    "safety_refusal",
    "tool_irrelevance",
)
TIE_WITHIN = 1e-4
"""Largest difference of a tie, in the model's own reward unit: the published default."""


@official_kind("plan-rewardbench", *SPLITS)
def measure_plan_rewardbench(panel: Panel, params: Params) -> Measured:
    """Measure the splits and their unweighted mean.

    A pair is `[c > r]`, or 0.5 if the two are at most 0.0001 apart; with a NaN it is 0.

    Args:
        panel: Pairs with the stratum `split`.
        params: Parameters of every kind.

    Returns:
        `official`, and `official_<split>`.
    """
    stop_at_invalid(panel, params)
    if panel.flips is not None:
        return Measured({}, {}, dict.fromkeys(measure_plan_rewardbench.headlines, NO_JUDGES))
    pairs = pairs_of(panel)
    credit = np.where(np.abs(pairs.margin) <= TIE_WITHIN, 0.5, pairs.margin > 0).astype(np.float64)
    split = stratum_of(panel, "split")[pairs.item]
    found = part_means(credit, pairs.cluster, panel.n_clusters, split, ("pair", "split", SPLITS))
    return with_mean_of_parts(*found, "seven splits")


_TOOL_ROLES = ("tool", "tool_call", "tool_response")


@register_reader("plan-rewardbench")
def read(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"query", "tools", "chosen": {"messages"}, "reject": {"messages"}}`; a file is a split.

    An item has one prompt turn and one reply, as the benchmark sends them to a remote reward model: the tools
    and the query, then the messages of the trajectory one after the other, each after its role.
    """
    return items_of(files, bad, _item)


def _item(row: Row) -> Item:
    split = row.path.name.split(".")[0]
    if split not in SPLITS:
        known = ", ".join(SPLITS)
        raise row.error(f"the file is not a split; expected one of {known}", reason="unknown split")
    tools = json.dumps(row.value.get("tools") or [], ensure_ascii=False, indent=2)
    query = fields.text(row, "query")
    asked = f"<tool_environment>\n{tools}\n</tool_environment>\n<user_query>\n{query}\n</user_query>"
    prompt = (Turn(role="user", content=asked),)
    return Item(
        # Two rows may share a uuid: they are pairs of one ranking.
        id=f"{split}:{row.line}",
        prompt=prompt,
        responses=(Response(_trajectory(row, "chosen"), 1.0), Response(_trajectory(row, "reject"), 0.0)),
        cluster=prompt_cluster(prompt),
        strata={"split": split},
    )


def _trajectory(row: Row, key: str) -> str:
    value = fields.required(row, key)
    messages = value.get("messages") if isinstance(value, Mapping) else None
    if not isinstance(messages, list):
        raise row.error("expected an object with a list of 'messages'", key, "responses do not fit")
    return "\n\n".join(_message(row, f"{key}.messages[{k}]", m) for k, m in enumerate(messages))


def _message(row: Row, key: str, message: Any) -> str:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise row.error("expected an object with a role", key, "message does not fit")
    content = message.get("content", "")
    if isinstance(content, dict | list):
        content = json.dumps(content, ensure_ascii=False)
    if not isinstance(content, str):
        raise row.error("expected text, an object or a list", f"{key}.content", "text is not a string")
    role, name = message["role"], message.get("name")
    named = f" name={name}" if name and role in _TOOL_ROLES else ""
    return f"[{role.upper()}{named}] {content}"
