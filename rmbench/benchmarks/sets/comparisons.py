"""Public sets of compared pairs.

WebGPT and PKU-SafeRLHF have no ids. A pair's id is a hash of the compared texts, so it is the same in every
file format; a repeated pair gets a number after the hash.

Stanford Human Preferences (arXiv 2110.08420) has two comments on a Reddit post: `{"post_id", "domain",
"history", "c_root_id_A", "c_root_id_B", "score_A", "score_B", "human_ref_A", "human_ref_B", "labels",
"score_ratio", ...}`. `labels` is 1 where A has more votes. A pair is in the data only if the preferred
comment was written no earlier than the other.

Summaries (arXiv 2009.01325): `{"info": {"id", "post", "title", "subreddit", "article", ...}, "summaries":
[{"text", ...}, {"text", ...}], "choice", "worker", "batch", "split", "extra": {"confidence"}}`, one row per
judgement; several workers may judge one pair.

RAG-RewardBench (arXiv 2412.13746) and MemoryRewardBench (arXiv 2601.11969) are pairs about a long context.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import log
from pathlib import Path
from typing import Annotated, Any, Literal

from rmbench.core.files import digest, pair_key, prompt_cluster
from rmbench.core.options import Option
from rmbench.tasks import fields
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader, rows_of
from rmbench.types import GoldKind, Item, Response, Turn


@register_reader("webgpt")
def read_webgpt(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read WebGPT's comparisons (arXiv 2112.09332): gold is the sign of `score_0`, and a half for a tie.

    `{"question": {"dataset", "id", "full_text"}, "answer_0", "answer_1", "score_0", "score_1", ...}`. The
    scores lie in [-1, 1] and sum to 0. The data set's card: "we treat scores of 0 as soft 50% labels, and all
    other scores as hard labels (using only their sign)". So a tie has no order (it is counted under
    `gold_ties` and left out of accuracy), and counts in calibration with the label 0.5. The quotes that an
    answer cites are not part of the question, and are not shown.
    """
    seen = Counter[str]()
    return items_of(files, bad, lambda r: _webgpt(r, bad, seen))


@dataclass(frozen=True)
class Annotation:
    """Options of the reader `pku-safe-rlhf`."""

    preference: Annotated[
        Literal["better", "safer"], Option("which of the two annotations is gold: more helpful, or safer")
    ] = "better"


@register_reader("pku-safe-rlhf", options=Annotation)
def read_pku(files: list[Path], options: Annotation, bad: BadRows) -> Iterator[FoundItem]:
    """Read PKU-SafeRLHF (arXiv 2310.12773, 2406.15513): the response that is `better`, or the one `safer`.

    `{"prompt", "response_0", "response_1", "better_response_id", "safer_response_id", ...}`: two annotations
    of each pair, for helpfulness and for harmlessness; the option `preference` chooses the gold.
    """
    key = f"{options.preference}_response_id"
    seen = Counter[str]()
    return items_of(files, bad, lambda r: _pku(r, key, bad, seen))


def _webgpt(row: Row, bad: BadRows, seen: Counter[str]) -> Item | None:
    question = fields.mapping(row, "question")
    text = fields.text(row, "question.full_text", question.get("full_text", fields.MISSING))
    scores = [fields.finite(row, key, fields.required(row, key)) for key in ("score_0", "score_1")]
    if abs(scores[0]) > 1.0 or abs(sum(scores)) > 1e-6:
        raise row.error(
            f"{scores[0]:g} and {scores[1]:g}; expected two numbers in [-1, 1] that sum to 0",
            "score_0",
            "scores do not fit",
        )
    gold = 0.5 if scores[0] == 0 else float(scores[0] > 0)
    strata = {"dataset": str(question.get("dataset") or "")}
    return _item(row, text, "answer", (gold, 1.0 - gold), "probability", strata, bad, seen)


def _pku(row: Row, key: str, bad: BadRows, seen: Counter[str]) -> Item | None:
    gold = float(fields.choice(row, key) == 0)
    safe = [row.value.get(f"is_response_{k}_safe") for k in (0, 1)]
    strata = {"generator": fields.label(row, "response_0_source")}
    if all(isinstance(s, bool) for s in safe):
        strata["safety"] = ("neither is safe", "one is safe", "both are safe")[sum(map(bool, safe))]
    text = fields.text(row, "prompt")
    return _item(row, text, "response", (gold, 1.0 - gold), "label", strata, bad, seen)


def _item(
    row: Row,
    text: str,
    name: str,
    gold: tuple[float, float],
    kind: GoldKind,
    strata: Mapping[str, str],
    bad: BadRows,
    seen: Counter[str],
) -> Item | None:
    prompt = (Turn(role="user", content=text),)
    replies = [fields.reply(row, f"{name}_{k}") for k in (0, 1)]
    problem = fields.no_comparison(*replies)
    if problem is not None:
        bad.leave_out(problem)
        return None
    identity = pair_key(prompt, *replies)[:16]
    seen[identity] += 1
    return Item(
        id=identity if seen[identity] == 1 else f"{identity}:{seen[identity]}",
        prompt=prompt,
        responses=tuple(Response(reply, value) for reply, value in zip(replies, gold, strict=True)),
        cluster=prompt_cluster(prompt),
        strata=strata,
        gold_kind=kind,
    )


_SPLITS = ("_train", "_validation", "_test")


@register_reader("shp")
def read_shp(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read pairs of comments; gold is graded, the logarithm of a comment's score.

    The label names the preferred comment. The published strength of the preference is `score_ratio`, the
    preferred comment's score over the other's. The difference of gold is its logarithm: it has the label's
    sign and the ratio's order, and does not grow with a post's number of readers, as the difference of scores
    would. Pairs of one post share its prompt, and so their cluster.
    """
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
    """Return `askbaking` for `askbaking_test`: the published name joins subreddit and split."""
    return next((domain.removesuffix(split) for split in _SPLITS if domain.endswith(split)), domain)


@dataclass(slots=True)
class _Pair:
    """Two summaries of one post, in the order of the first judgement, with the workers' preferences."""

    row: Row
    prompt: tuple[Turn, ...]
    texts: tuple[str, str]
    strata: Mapping[str, str]
    votes: list[int] = field(default_factory=lambda: [0, 0])
    workers: set[str] = field(default_factory=set)


@register_reader("summarize")
def read_summarize(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read one item per compared pair; gold is the share of workers who chose each summary.

    A pair is two texts of one post, in either order; each worker has one vote on it, the first. Pairs of one
    post share its prompt, and so their cluster. `extra.confidence` is not part of gold: the publication does
    not explain its values from 1 to 9, and some batches lack it.
    """
    pairs: dict[str, _Pair] = {}
    for path in files:
        for key, judged, chosen in bad.parse(rows_of(path, bad), lambda r: _judgement(r, bad)):
            _add_vote(pairs.setdefault(key, judged), judged, chosen, bad)
    for key, pair in pairs.items():
        yield FoundItem(_summary_item(key, pair), pair.row)


def _judgement(row: Row, bad: BadRows) -> tuple[str, _Pair, int] | None:
    info = fields.mapping(row, "info")
    prompt, source = _prompt(row, info)
    entries = fields.required(row, "summaries")
    if not isinstance(entries, list) or len(entries) != 2 or not all(isinstance(e, Mapping) for e in entries):
        raise row.error("expected a list of two objects with text", "summaries", "row does not fit")
    # Published as sampled after the prompt: with a leading space.
    first, second = (
        fields.reply(row, f"summaries[{k}].text", entry.get("text", fields.MISSING)).strip()
        for k, entry in enumerate(entries)
    )
    chosen = fields.choice(row, "choice")
    problem = fields.no_comparison(first, second)
    if problem is not None:
        bad.leave_out(problem)
        return None
    strata = {"source": source, "split": fields.label(row, "split")}
    post = fields.text(row, "info.id", info.get("id", fields.MISSING))
    key = f"{post}:{digest(sorted((first, second)), 12)}"
    return key, _Pair(row, prompt, (first, second), strata), int(chosen)


def _prompt(row: Row, info: Mapping[str, Any]) -> tuple[tuple[Turn, ...], str]:
    """Return the prompt and its source: a Reddit post as in the paper, or an article of CNN/DM."""
    if info.get("article"):
        article = fields.text(row, "info.article", info["article"])
        return (Turn(role="user", content=f"Article:\n{article}\n\nTL;DR:"),), "cnndm"
    post = fields.text(row, "info.post", info.get("post", fields.MISSING))
    # A post may lack a title or a forum, but not its text.
    title, forum = (str(info.get(key) or "") for key in ("title", "subreddit"))
    text = f"SUBREDDIT: r/{forum}\n\nTITLE: {title}\n\nPOST: {post}\n\nTL;DR:"
    return (Turn(role="user", content=text),), "tldr"


def _add_vote(pair: _Pair, judged: _Pair, chosen: int, bad: BadRows) -> None:
    worker = fields.label(judged.row, "worker")
    if worker and worker in pair.workers:
        bad.leave_out("further votes of a worker on the same pair")
        return
    pair.workers.add(worker)
    pair.votes[pair.texts.index(judged.texts[chosen])] += 1


def _summary_item(key: str, pair: _Pair) -> Item:
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


@register_reader("rag-rewardbench")
def read_rag(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"prompt", "question", "chosen", "reject", "subset", "chosen_model", "reject_model"}`.

    The references are in `prompt`; the question follows them, unless they hold it already.
    """
    return items_of(files, bad, _rag)


@register_reader("memory-rewardbench")
def read_memory(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"task", "subtask", "ctx_length", "question", "chosen", "rejected"}`."""
    return items_of(files, bad, _memory)


def _rag(row: Row) -> Item:
    references, question = fields.text(row, "prompt"), fields.text(row, "question")
    asked = references if question.strip() in references else f"{references}\n\n{question}"
    models = [fields.label(row, key) for key in ("chosen_model", "reject_model")]
    strata = {"subset": fields.text(row, "subset")}
    return _context_pair(row, fields.identifier(row), asked, ("chosen", "reject"), strata, models)


def _memory(row: Row) -> Item:
    strata = {key: fields.text(row, key) for key in ("task", "subtask", "ctx_length")}
    # A file per task, or, after the hub's conversion, a folder per task with files of one name.
    name = f"{strata['task']}:{fields.identifier(row)}"
    return _context_pair(row, name, fields.text(row, "question"), ("chosen", "rejected"), strata, ["", ""])


def _context_pair(
    row: Row, name: str, asked: str, keys: tuple[str, str], strata: Mapping[str, str], models: list[str]
) -> Item:
    prompt = (Turn(role="user", content=asked),)
    return Item(
        id=name,
        prompt=prompt,
        responses=tuple(
            Response(fields.reply(row, key), gold, {"generator": model} if model else {})
            for key, gold, model in zip(keys, (1.0, 0.0), models, strict=True)
        ),
        cluster=prompt_cluster(prompt),
        strata=strata,
    )
