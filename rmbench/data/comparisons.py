"""Public sets of compared pairs without ids: WebGPT's answers, and PKU-SafeRLHF's two annotations of a pair.

A pair's id is a hash of what was compared, so it is the same in every container; a pair that was compared
again has a number after it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rmbench.canon import pair_key, prompt_cluster
from rmbench.data import fields
from rmbench.data.rows import BadRows, FoundItem, Row, items_of
from rmbench.types import GoldKind, Item, Response, Turn


def read_webgpt(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read WebGPT's comparisons (arXiv 2112.09332): gold is the sign of `score_0`, and a half for a tie.

    `{"question": {"dataset", "id", "full_text"}, "answer_0", "answer_1", "score_0", "score_1", ...}`. The
    scores lie in [-1, 1] and sum to 0. The data set's card: "we treat scores of 0 as soft 50% labels, and all
    other scores as hard labels (using only their sign)". So a tie has no order to get right (it is counted
    under `gold_ties` and left out of accuracy), and counts in calibration with the label 0.5. The quotes that
    an answer cites are not part of the question, and are not shown.
    """
    del options
    seen = Counter[str]()
    return items_of(files, bad, lambda r: _webgpt(r, bad, seen))


def read_pku(files: list[Path], options: Mapping[str, Any], bad: BadRows) -> Iterator[FoundItem]:
    """Read PKU-SafeRLHF (arXiv 2310.12773, 2406.15513): the response that is `better`, or the one `safer`.

    `{"prompt", "response_0", "response_1", "better_response_id", "safer_response_id", ...}`: two annotations
    of each pair, helpfulness and harmlessness apart; the option `preference` says which is gold.
    """
    key = f"{options.get('preference') or 'better'}_response_id"
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
    strata = {"generator": str(row.value.get("response_0_source") or "")}
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
