"""Public sets with several responses or judgements per prompt.

PandaLM, SummEval, pools of solutions to GSM8K, and scored samples. The last are those of the Constitutional
AI paper, one file per policy and prompt set, each with the score of a large preference model: `{"rl_prompt":
"\\n\\nHuman: ...\\n\\nAssistant:", "comparison_dataset": ..., "sampled_answers": [{"sampled_string": ...,
"pm_scores": [{"pm_score": 1.5}]}]}`.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from rmbench.core.files import prompt_cluster
from rmbench.core.options import Option
from rmbench.tasks import fields
from rmbench.tasks.hh_rlhf import split_transcript
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader
from rmbench.types import Item, Response, Turn

ASPECTS = ("coherence", "consistency", "fluency", "relevance")
_VOTES = (1, 2, 0)
"""For the first response, for the second, and a tie."""


@register_reader("pandalm")
def read_pandalm(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read PandaLM's test set: gold is the share of three human votes for each response, a tie half.

    The items hold the votes, which the noise ceiling needs.
    """
    return items_of(files, bad, lambda r: _pandalm(r, bad))


def _pandalm(row: Row, bad: BadRows) -> Item | None:
    texts = [fields.required(row, key) for key in ("response1", "response2")]
    if any(not isinstance(text, str) for text in texts):
        # In the published file a few replies were parsed as something other than text.
        bad.leave_out("a response is no text")
        return None
    instruction = fields.text(row, "instruction")
    given = fields.text(row, "input", row.value.get("input") or "", allow_empty=True)
    prompt = (Turn(role="user", content=f"{instruction}\n\n{given}" if given.strip() else instruction),)
    votes = [0, 0, 0]
    for key in ("annotator1", "annotator2", "annotator3"):
        vote = fields.required(row, key)
        if isinstance(vote, bool) or vote not in _VOTES:
            raise row.error(f"{vote!r}; expected 1, 2 or 0 (tie)", key, "unknown vote")
        votes[_VOTES.index(vote)] += 1
    p = (votes[0] + 0.5 * votes[2]) / sum(votes)
    return Item(
        id=fields.name(row, "idx"),
        prompt=prompt,
        responses=(Response(texts[0], p), Response(texts[1], 1.0 - p)),
        cluster=prompt_cluster(prompt),
        strata={"application": fields.label(row, "motivation_app")},
        gold_kind="probability",
        votes=(votes[0], votes[1], votes[2]),
    )


@dataclass(frozen=True)
class Rating:
    """Options of the reader `summeval`."""

    aspect: Annotated[
        Literal["mean", "coherence", "consistency", "fluency", "relevance"],
        Option("human rating that is gold"),
    ] = "mean"


@register_reader("summeval", options=Rating)
def read_summeval(files: list[Path], options: Rating, bad: BadRows) -> Iterator[FoundItem]:
    """Read SummEval: 16 summaries per article; gold is the mean human rating, 1 to 5, or one aspect of it."""
    return items_of(files, bad, lambda r: _summeval(r, options.aspect))


def _summeval(row: Row, aspect: str) -> Item:
    article = fields.text(row, "article")
    prompt = (Turn(role="user", content=f"Summarize the following article.\n\n{article}"),)
    summaries = fields.required(row, "summaries")
    if not isinstance(summaries, list) or len(summaries) < 2:
        raise row.error("expected a list of at least two summaries", "summaries", "fewer than two responses")
    responses = []
    for k, entry in enumerate(summaries):
        key = f"summaries[{k}]"
        if not isinstance(entry, Mapping) or not {"text", *ASPECTS} <= set(entry):
            raise row.error(
                f"expected an object with text, {', '.join(ASPECTS)}", key, "summary does not fit"
            )
        ratings = [fields.finite(row, f"{key}.{a}", entry[a]) for a in ASPECTS]
        gold = sum(ratings) / len(ratings) if aspect == "mean" else ratings[ASPECTS.index(aspect)]
        text = fields.reply(row, f"{key}.text", entry["text"])
        responses.append(Response(text, gold, {"system": str(entry.get("system", k))}))
    return Item(
        id=fields.identifier(row),
        prompt=prompt,
        responses=tuple(responses),
        cluster=prompt_cluster(prompt),
        gold_kind="graded",
    )


@register_reader("gsm8k-pools")
def read_gsm8k(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read pools of solutions to GSM8K questions; gold is 1 where the final number is right, else 0."""
    return items_of(files, bad, lambda r: _gsm8k(r, bad))


def _gsm8k(row: Row, bad: BadRows) -> Item:
    prompt = (Turn(role="user", content=fields.text(row, "prompt")),)
    columns = {key: fields.required(row, key) for key in ("responses", "gold", "models")}
    for key, value in columns.items():
        if not isinstance(value, list) or len(value) != len(columns["responses"]):
            raise row.error("expected lists of one length", key, "gold and responses differ in length")
    responses = []
    for k, (text, gold, model) in enumerate(zip(*columns.values(), strict=True)):
        if not isinstance(text, str):
            bad.leave_out("responses that are no text")
            continue
        # Published as true and false; only here is a truth value a number.
        value = float(gold) if isinstance(gold, bool) else fields.finite(row, f"gold[{k}]", gold)
        responses.append(Response(text, value, {"model": str(model)}))
    if len(responses) < 2:
        raise row.error("expected at least two solutions", "responses", "fewer than two responses")
    return Item(
        id=fields.identifier(row),
        prompt=prompt,
        responses=tuple(responses),
        cluster=prompt_cluster(prompt),
        expected={} if row.value.get("answer") is None else {"answer": fields.answer(row)},
    )


_STOP = re.compile(r"\n\s*Human:\s*$")  # with one line break or two


@register_reader("pm-scored")
def read_pm_scored(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read pools of one policy's samples; gold is the preference model's score."""
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
    """Return one sample as a response, without the stop sequence at its end."""
    key = f"sampled_answers[{k}]"
    if not isinstance(sample, Mapping) or not {"sampled_string", "pm_scores"} <= set(sample):
        raise row.error("expected an object with sampled_string, pm_scores", key, "sample does not fit")
    scores = sample["pm_scores"]
    if not isinstance(scores, list) or len(scores) != 1 or not isinstance(scores[0], Mapping):
        raise row.error("expected a list of one object", f"{key}.pm_scores", "sample does not fit")
    gold = fields.finite(row, f"{key}.pm_scores[0].pm_score", scores[0].get("pm_score"))
    text = fields.reply(row, f"{key}.sampled_string", sample["sampled_string"])
    return Response(_STOP.sub("", text).strip(), gold, {"policy": policy})
