"""A researcher has a metric of her own, and wants models on a board by it."""

import json
from pathlib import Path

from walk import Walk

METRIC = '''\
import numpy as np
from rmbench.metrics.panel import left_out_items, settle_invalid
from rmbench.stats import mean

from rmbench import Measured, Metric, Params, register_kind


@register_kind(
    "worst-avoided",
    title="Worst avoided",
    params=Params,
    metrics=[Metric("worst_avoided", "share of prompts whose pick is not the worst response", in_strata=True)],
)
def measure(panel, params):
    """Measure how often the response with the highest reward is not the one with the lowest gold."""
    left_out = left_out_items(panel, params.invalid, ranking=True)
    panel, n_invalid = settle_invalid(panel, params.invalid, ranking=True)
    avoided = []
    for start, end in zip(panel.offsets[:-1], panel.offsets[1:], strict=True):
        rewards, gold = panel.rewards[start:end], panel.gold[start:end]
        avoided.append(float(gold[rewards.argmax()] > gold.min()))
    value = mean(np.array(avoided), panel.cluster, panel.n_clusters, bounded=True)
    return Measured({"worst_avoided": value}, counts={"invalid_items": n_invalid}, left_out=left_out)
'''
TASK = """\
name: mine
version: 1
kinds: ["my_metric.py:worst-avoided"]
summary: How often the pick is not the worst response.
source: written for this walk
license: CC0-1.0
data: {reader: jsonl, path: embedded/test.jsonl.xz}
primary: worst_avoided
"""
BOARD = """\
name: mine
title: Who avoids the worst
summary: A metric of one's own on a board.
columns:
  - {id: avoided, task: mine, metric: worst_avoided, label: worst avoided}
rank_by: [avoided]
"""


def prepare(folder: Path) -> None:
    """Her metric, her task and the definition of her board."""
    (folder / "my_metric.py").write_text(METRIC, encoding="utf-8")
    (folder / "mine.yaml").write_text(TASK, encoding="utf-8")
    (folder / "leaderboards").mkdir()
    (folder / "leaderboards" / "mine.yaml").write_text(BOARD, encoding="utf-8")


def answer(folder: Path, printed: str) -> str:
    """Return the first row of the board."""
    assert (folder / "leaderboards" / "mine.html").is_file()
    rows = json.loads((folder / "leaderboards" / "mine.json").read_text(encoding="utf-8"))["rows"]
    ranked = [row["model"] for row in rows if row["rank"] is not None]
    assert sorted(ranked) == ["builtin:linear", "length", "shortest"]
    return f"first of {len(ranked)} on her board: {ranked[0]}"


WALK = Walk(
    who="the researcher",
    wants="models on a board by a metric of her own",
    prepare=prepare,
    commands=(
        "rmbench tasks mine.yaml",
        "rmbench eval --model builtin:linear --model length --model shortest --task mine.yaml",
        "export RMBENCH_TASKS_DIR=.",
        "rmbench leaderboard mine",
    ),
    answer=answer,
    most_commands=4,
)
