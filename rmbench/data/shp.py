"""Stanford Human Preferences (arXiv 2110.08420): two comments on a Reddit post, and which has more votes.

`{"post_id", "domain", "history", "c_root_id_A", "c_root_id_B", "score_A", "score_B", "human_ref_A",
"human_ref_B", "labels", "score_ratio", ...}`; `labels` is 1 where A is preferred. A pair is in the data only
where the preferred comment was written no earlier than the other and has more votes all the same.
"""

from collections.abc import Iterator, Mapping
from math import log
from pathlib import Path
from typing import Any

from rmbench.canon import prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, items_of
from rmbench.types import Item, Response, Turn

_SPLITS = ("_train", "_validation", "_test")


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read pairs of comments; gold is graded, the logarithm of a comment's score.

    The label says which comment is preferred, and the published measure of how strongly is `score_ratio`, the
    preferred comment's score over the other's. The difference of logarithms is its logarithm: it has the
    label's sign and the ratio's order, and does not grow with how many people a post was read by, as the
    difference of scores would. Pairs of one post share its prompt, and so their cluster.
    """
    del options
    return items_of(files, bad, lambda r: _pair(r, bad))


def _pair(row: Row, bad: BadRows) -> Item | None:
    prompt = (Turn(role="user", content=fields.text(row, "history")),)
    texts = [fields.reply(row, f"human_ref_{side}") for side in "AB"]
    label = fields.choice(row, "labels")
    scores = [_score(row, f"score_{side}") for side in "AB"]
    if scores[0] == scores[1] or (scores[0] > scores[1]) != (label == 1):
        raise row.error(
            f"{label}, but the scores of A and B are {scores[0]:g} and {scores[1]:g}",
            "labels",
            "label contradicts the scores",
        )
    problem = fields.no_comparison(*texts)
    if problem is not None:
        bad.leave_out(problem)
        return None
    domain = fields.text(row, "domain")
    return Item(
        id=":".join(fields.text(row, key) for key in ("post_id", "c_root_id_A", "c_root_id_B")),
        prompt=prompt,
        responses=tuple(Response(text, log(score)) for text, score in zip(texts, scores, strict=True)),
        cluster=prompt_cluster(prompt),
        strata={"domain": _without_split(domain)},
        gold_kind="graded",
    )


def _score(row: Row, key: str) -> float:
    score = fields.finite(row, key, fields.required(row, key))
    if score <= 0:
        raise row.error(f"{score:g}; expected a score above 0", key, "score is not positive")
    return score


def _without_split(domain: str) -> str:
    """Return `askbaking` of `askbaking_test`: published as subreddit and split in one."""
    return next((domain.removesuffix(split) for split in _SPLITS if domain.endswith(split)), domain)
