"""Comparisons of summaries from human feedback (arXiv 2009.01325): several workers may judge one pair.

`{"info": {"id", "post", "title", "subreddit", "article", ...}, "summaries": [{"text", ...}, {"text", ...}],
"choice", "worker", "batch", "split", "extra": {"confidence"}}`, one row per judgement.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rmbench.canon import digest, prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, rows_of
from rmbench.types import Item, Response, Turn


@dataclass(slots=True)
class _Pair:
    """Two summaries of one post, in the order of the first judgement, and who preferred which."""

    row: Row
    prompt: tuple[Turn, ...]
    texts: tuple[str, str]
    strata: Mapping[str, str]
    votes: list[int] = field(default_factory=lambda: [0, 0])
    workers: set[str] = field(default_factory=set)


def read(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read one item per compared pair; gold is the share of workers who chose each summary.

    A pair is two texts of one post, whichever stood first; one worker has one vote on it, the first. Pairs of
    one post share its prompt, and so their cluster. `extra.confidence` is no part of gold: what its 1 to 9
    stand for is not said where the data is published, and it is missing in some batches.
    """
    del options
    pairs: dict[str, _Pair] = {}
    for path in files:
        for key, judged, chosen in bad.parse(rows_of(path, bad), lambda r: _judgement(r, bad)):
            _add_vote(pairs.setdefault(key, judged), judged, chosen, bad)
    for key, pair in pairs.items():
        yield FoundItem(_item(key, pair), pair.row)


def _judgement(row: Row, bad: BadRows) -> tuple[str, _Pair, int] | None:
    info = fields.mapping(row, "info")
    prompt, source = _prompt(row, info)
    entries = fields.required(row, "summaries")
    if not isinstance(entries, list) or len(entries) != 2 or not all(isinstance(e, Mapping) for e in entries):
        raise row.error("expected a list of two objects with text", "summaries", "row does not fit")
    # Published as they were sampled, behind the prompt: with a space in front.
    first, second = (
        fields.reply(row, f"summaries[{k}].text", entry.get("text", fields.MISSING)).strip()
        for k, entry in enumerate(entries)
    )
    chosen = fields.choice(row, "choice")
    problem = fields.no_comparison(first, second)
    if problem is not None:
        bad.leave_out(problem)
        return None
    strata = {"source": source, "split": str(row.value.get("split") or "")}
    post = fields.text(row, "info.id", info.get("id", fields.MISSING))
    key = f"{post}:{digest(sorted((first, second)), 12)}"
    return key, _Pair(row, prompt, (first, second), strata), int(chosen)


def _prompt(row: Row, info: Mapping[str, Any]) -> tuple[tuple[Turn, ...], str]:
    """Return the prompt and its source: a Reddit post as in the paper, or an article of CNN/DM."""
    if info.get("article"):
        article = fields.text(row, "info.article", info["article"])
        return (Turn(role="user", content=f"Article:\n{article}\n\nTL;DR:"),), "cnndm"
    post = fields.text(row, "info.post", info.get("post", fields.MISSING))
    # A post may lack a title or a forum; the text is what cannot be missing.
    title, forum = (str(info.get(key) or "") for key in ("title", "subreddit"))
    text = f"SUBREDDIT: r/{forum}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
    return (Turn(role="user", content=text),), "tldr"


def _add_vote(pair: _Pair, judged: _Pair, chosen: int, bad: BadRows) -> None:
    worker = str(judged.row.value.get("worker") or "")
    if worker and worker in pair.workers:
        bad.leave_out("further votes of a worker on the same pair")
        return
    pair.workers.add(worker)
    pair.votes[pair.texts.index(judged.texts[chosen])] += 1


def _item(key: str, pair: _Pair) -> Item:
    return Item(
        id=key,
        prompt=pair.prompt,
        responses=tuple(
            Response(t, n / sum(pair.votes)) for t, n in zip(pair.texts, pair.votes, strict=True)
        ),
        cluster=prompt_cluster(pair.prompt),
        strata=pair.strata,
        gold_kind="probability",
        votes=(pair.votes[0], pair.votes[1], 0),
    )
