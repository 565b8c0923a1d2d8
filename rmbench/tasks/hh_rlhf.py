"""Anthropic's HH-RLHF: two transcripts that part ways at the last assistant turn.

`{"chosen": "\\n\\nHuman: ...\\n\\nAssistant: ...", "rejected": "..."}`. The files hold pairs that are no fair
comparison: identical transcripts, and conversations that differ before the reply. Each is left out and
counted under its reason; the published accuracies keep some of them, and say nothing. An empty reply was
compared like any other, and stays.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from rmbench.core.files import prompt_cluster
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of
from rmbench.types import Item, Response, Turn

_SPEAKER = re.compile(r"\n\n(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}


def read(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read transcripts as pairs; the conversation before the last assistant turn is the prompt."""
    return items_of(files, bad, lambda r: _item(r, bad))


def parse_transcript(row: Row, key: str) -> tuple[Turn, ...]:
    """Return the turns of `row[key]`; roles are what the transcript says, in its order.

    Raises:
        DataError: If it does not begin with a speaker, or does not end with the assistant.
    """
    turns = split_transcript(row, key)
    if turns[-1]["role"] != "assistant":
        raise row.error("does not end with an assistant turn", key, "not a transcript")
    return turns


def split_transcript(row: Row, key: str) -> tuple[Turn, ...]:
    """Return the turns of `row[key]`, whoever speaks last.

    Raises:
        DataError: If it does not begin with a speaker.
    """
    transcript = fields.text(row, key)
    marks = list(_SPEAKER.finditer(transcript))
    if not marks or transcript[: marks[0].start()].strip():
        raise row.error("does not begin with '\\n\\nHuman:' or '\\n\\nAssistant:'", key, "not a transcript")
    ends = [m.start() for m in marks[1:]] + [len(transcript)]
    return tuple(
        Turn(role=_ROLES[mark[1]], content=transcript[mark.end() : end].strip())
        for mark, end in zip(marks, ends, strict=True)
    )


def _item(row: Row, bad: BadRows) -> Item | None:
    fields.known_keys(row, ("chosen", "rejected"))
    chosen, rejected = parse_transcript(row, "chosen"), parse_transcript(row, "rejected")
    problem = _no_comparison(chosen, rejected)
    if problem is not None:
        bad.leave_out(problem)
        return None
    prompt = chosen[:-1]
    return Item(
        id=f"{row.path.name.split('.')[0]}:{row.line}",
        prompt=prompt,
        responses=(Response(chosen[-1]["content"], 1.0), Response(rejected[-1]["content"], 0.0)),
        cluster=prompt_cluster(prompt),
        strata={"turns": str(min(sum(t["role"] == "user" for t in prompt), 4))},
    )


def _no_comparison(chosen: tuple[Turn, ...], rejected: tuple[Turn, ...]) -> str | None:
    """Return why the pair compares nothing, or None."""
    if chosen[:-1] != rejected[:-1]:
        return "prompts differ between chosen and rejected"
    return fields.no_comparison(chosen[-1]["content"], rejected[-1]["content"])
