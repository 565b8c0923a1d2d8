"""Sets with rated pairs: HelpSteer2-Preference, HelpSteer3-Preference, UltraFeedback.

Pairs of HelpSteer2 (arXiv 2410.01257) and HelpSteer3 (arXiv 2505.11475) have a strength from -3 to 3:
negative if the first response is better, 0 if they are equal. Gold is that strength, with 0 for the worse
response, or the share of annotators for each response.

UltraFeedback (arXiv 2310.01377), in the binarized form, has two replies with GPT-4's ratings from 1 to 10.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from rmbench.core.files import prompt_cluster
from rmbench.core.options import Option
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader
from rmbench.types import GoldKind, Item, Response, Turn

MOST = 3
NEITHER = -100
"""Mark of an annotator of HelpSteer2 who finds neither response usable; it is no vote."""

SPLITS = ("train", "val")

_MARK = re.compile(r"\n<extra_id_1>([^\n]*)\n")
_ROLES = {"User": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Options:
    """Options of the reader `helpsteer3`."""

    gold: Annotated[Literal["strength", "votes"], Option("how much better, or the share of annotators")] = (
        "strength"
    )


@dataclass(frozen=True)
class SplitOptions(Options):
    """Options of the reader `helpsteer2`."""

    split: Annotated[Literal["val", "train", "all"], Option("rows to read; one file holds both splits")] = (
        "val"
    )


@register_reader("helpsteer2", options=SplitOptions)
def read_v2(files: list[Path], options: SplitOptions, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"split", "prompt", "response_1", "response_2", "preference_strength", ...}`.

    One published file holds both splits: rows of the other one are left out and counted. Votes are in
    `all_preferences_unprocessed`.
    """
    return items_of(files, bad, lambda r: _second(r, options, bad))


@register_reader("helpsteer3", options=Options)
def read_v3(files: list[Path], options: Options, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"domain", "language", "context", "response1", "response2", "overall_preference", ...}`.

    Votes are in `individual_preference`.
    """
    return items_of(files, bad, lambda r: _third(r, options, bad))


def turns_of(row: Row) -> tuple[Turn, ...]:
    """Return the turns of a prompt of HelpSteer2, separated by lines such as `<extra_id_1>Assistant`.

    Raises:
        DataError: If a line names another speaker, or the last turn is the assistant's.
    """
    text = fields.text(row, "prompt")
    marks = list(_MARK.finditer(text))
    ends = [mark.start() for mark in marks] + [len(text)]
    turns = [Turn(role="user", content=text[: ends[0]])]
    for mark, end in zip(marks, ends[1:], strict=True):
        if mark[1] not in _ROLES:
            raise row.error(
                f"a turn of {mark[1]!r}; expected one of {', '.join(_ROLES)}", "prompt", "unknown role"
            )
        turns.append(Turn(role=_ROLES[mark[1]], content=text[mark.end() : end]))
    return fields.prompt(row, "prompt", turns)


def _second(row: Row, options: SplitOptions, bad: BadRows) -> Item | None:
    split = fields.text(row, "split")
    if split not in SPLITS:
        raise row.error(f"{split!r}; expected one of {', '.join(SPLITS)}", "split", "unknown split")
    if options.split not in (split, "all"):
        bad.leave_out("rows of the other split")
        return None
    prompt = turns_of(row)
    strata = {"turns": str(min(sum(turn["role"] == "user" for turn in prompt), 4))}
    texts = [fields.reply(row, key) for key in ("response_1", "response_2")]
    strength = fields.whole(
        row, "preference_strength", fields.required(row, "preference_strength"), -MOST, MOST
    )
    votes = ("all_preferences_unprocessed", "strength") if options.gold == "votes" else None
    return _item(row, prompt, texts, strength, votes, strata, bad)


def _third(row: Row, options: Options, bad: BadRows) -> Item | None:
    prompt = fields.prompt(row, "context", fields.required(row, "context"))
    strata = {key: fields.text(row, key) for key in ("domain", "language")}
    texts = [fields.reply(row, key) for key in ("response1", "response2")]
    strength = fields.whole(
        row, "overall_preference", fields.required(row, "overall_preference"), -MOST, MOST
    )
    votes = ("individual_preference", "score") if options.gold == "votes" else None
    return _item(row, prompt, texts, strength, votes, strata, bad)


def _item(
    row: Row,
    prompt: tuple[Turn, ...],
    texts: list[str],
    strength: int,
    votes: tuple[str, str] | None,
    strata: Mapping[str, str],
    bad: BadRows,
) -> Item | None:
    kind: GoldKind = "graded"
    counts = None
    gold = (float(max(-strength, 0)), float(max(strength, 0)))
    if votes is not None:
        counts = _votes(row, *votes, bad)
        if not sum(counts):
            bad.leave_out("no annotator prefers a response or takes both for equal")
            return None
        first = (counts[0] + 0.5 * counts[2]) / sum(counts)
        kind, gold = "probability", (first, 1.0 - first)
    return Item(
        id=fields.identifier(row),
        prompt=prompt,
        responses=(Response(texts[0], gold[0]), Response(texts[1], gold[1])),
        cluster=prompt_cluster(prompt),
        strata=strata,
        gold_kind=kind,
        votes=counts,
    )


def _votes(row: Row, key: str, name: str, bad: BadRows) -> tuple[int, int, int]:
    """Return the numbers of annotators for the first response, for the second, and for both equally."""
    entries = fields.required(row, key)
    if not isinstance(entries, list):
        raise row.error(f"expected a list of objects with {name!r}", key, "votes do not fit")
    counts = [0, 0, 0]
    for k, entry in enumerate(entries):
        if not isinstance(entry, Mapping) or name not in entry:
            raise row.error(f"expected an object with {name!r}", f"{key}[{k}]", "votes do not fit")
        vote = entry[name]
        if vote == NEITHER and not isinstance(vote, bool):
            bad.leave_out("votes for neither response")
            continue
        vote = fields.whole(row, f"{key}[{k}].{name}", vote, -MOST, MOST)
        counts[2 if vote == 0 else int(vote > 0)] += 1
    return counts[0], counts[1], counts[2]


HIGHEST = 10.0


@register_reader("ultrafeedback")
def read(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"chosen": [messages], "rejected": [messages], "score_chosen", "score_rejected", ...}`.

    Gold is the rating, so its difference is the strength of the preference. Pairs with equal ratings have
    equal gold and no order, although one reply is called chosen.
    """
    return items_of(files, bad, _ultrafeedback_item)


def _ultrafeedback_item(row: Row) -> Item:
    prompt, chosen, rejected = fields.shared_prompt(row)
    return Item(
        id=fields.identifier(row),
        prompt=prompt,
        responses=(
            Response.of(chosen, _rating(row, "score_chosen")),
            Response.of(rejected, _rating(row, "score_rejected")),
        ),
        cluster=prompt_cluster(prompt),
        gold_kind="graded",
    )


def _rating(row: Row, key: str) -> float:
    value = fields.finite(row, key, fields.required(row, key))
    if not 0.0 <= value <= HIGHEST:
        raise row.error(f"{value:g}; expected a number from 0 to {HIGHEST:g}", key, "value out of range")
    return value
