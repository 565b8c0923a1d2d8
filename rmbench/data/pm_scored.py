"""Samples of several policies, each with the published score of a large preference model.

The files of the Constitutional AI paper's samples, one per policy and prompt set:
`{"rl_prompt": "\\n\\nHuman: ...\\n\\nAssistant:", "comparison_dataset": ..., "sampled_answers":
[{"sampled_string": ..., "pm_scores": [{"pm_score": 1.5}]}]}`.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.hh_rlhf import split_transcript
from rmbench.data.rows import BadRows, FoundItem, Row, items_of
from rmbench.types import Item, Response

_STOP = re.compile(r"\n\s*Human:\s*$")  # with one line break or two


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read pools of one policy's samples; gold is the preference model's score."""
    del options
    return items_of(files, bad, _item)


def _item(row: Row) -> Item:
    turns = split_transcript(row, "rl_prompt")
    if turns[-1]["role"] != "assistant" or turns[-1]["content"] or len(turns) < 2:
        raise row.error("does not end with '\\n\\nAssistant:'", "rl_prompt", "not a transcript")
    prompt = turns[:-1]
    samples = fields.required(row, "sampled_answers")
    if not isinstance(samples, list) or len(samples) < 2:
        raise row.error(
            "expected a list of at least two samples", "sampled_answers", "fewer than two responses"
        )
    policy = row.path.name.split(".")[0]
    return Item(
        id=f"{policy}:{row.line}",
        prompt=prompt,
        responses=tuple(_response(row, k, sample, policy) for k, sample in enumerate(samples)),
        cluster=prompt_cluster(prompt),
        strata={
            "policy": policy.partition("_")[2] or policy,
            "prompts": fields.text(row, "comparison_dataset"),
        },
        gold_kind="graded",
    )


def _response(row: Row, k: int, sample: Any, policy: str) -> Response:
    """Return one sample without the stop sequence at its end; nothing else may be in it."""
    key = f"sampled_answers[{k}]"
    if not isinstance(sample, Mapping) or not {"sampled_string", "pm_scores"} <= set(sample):
        raise row.error("expected an object with sampled_string, pm_scores", key, "sample does not fit")
    scores = sample["pm_scores"]
    if not isinstance(scores, list) or len(scores) != 1 or not isinstance(scores[0], Mapping):
        raise row.error("expected a list of one object", f"{key}.pm_scores", "sample does not fit")
    gold = fields.finite(row, f"{key}.pm_scores[0].pm_score", scores[0].get("pm_score"))
    text = fields.reply(row, f"{key}.sampled_string", sample["sampled_string"])
    return Response(_STOP.sub("", text).strip(), gold, {"policy": policy})
