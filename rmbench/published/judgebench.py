"""JudgeBench's published outputs: pairs with the judgements of one judge, in both orders."""

from collections import Counter
from collections.abc import Sequence
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.data.items import hash_items
from rmbench.data.judgebench import item_of
from rmbench.data.rows import BadRows, Row, data_files, rows_of
from rmbench.errors import DataError
from rmbench.models.pairwise import rewards_from_preferences
from rmbench.published.run import Import, PublishedRow, PublishedRun, check_finite, left_out, reward_row
from rmbench.types import Item

_VOTES = {"A>B": 1.0, "B>A": 0.0}
_NO_VOTE = 0.5
_SCORER = "reward_model"


def read(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: one file of outputs, or a folder of them.

    Raises:
        DataError: If there is none, or one does not fit.
    """
    return list(
        request.each(data_files(path, "*.jsonl" if path.is_dir() else None), lambda f: _run(f, request))
    )


def _run(file: Path, request: Import) -> PublishedRun:
    spec = request.spec("judgebench")
    wanted = spec.data.options.get("response_model") or ""
    found = [
        r for r in rows_of(file, BadRows(skip=False)) if not wanted or r.value.get("response_model") == wanted
    ]
    if not found:
        raise DataError(f"no pair of the response model {wanted!r}", path=file, key="response_model")
    items = [item_of(row) for row in found]
    twice = [name for name, n in Counter(item.id for item in items).items() if n > 1]
    if twice:
        raise DataError(f"{twice[0]!r} occurs twice", path=file, key="pair_id", reason="duplicate id")
    judgments = [_judgments(row) for row in found]
    made = [j["judgment"] for two in judgments for j in two if j is not None]
    scored = bool(made) and all("scores" in judgment for judgment in made)
    counts, rows = Counter[str](), []
    for item, row, two in zip(items, found, judgments, strict=True):
        rows.append(_scored(item, row, two) if scored else _judged(item, two, counts))
    check_finite(file, spec, rows)
    flipped = sum(row.flips for row in rows)
    notes = [f"{n:,} {what}" for what, n in left_out(counts).items()]
    if scored and flipped:
        notes.append(f"{flipped:,} pairs whose two orders have other winners, though a score has no order")
    return PublishedRun(
        model=_model(file, found[0], judgments),
        spec=spec,
        rows=rows,
        data_hash=hash_items(items),
        source=file.name,
        format="judgebench",
        facts={"judge_name": str(found[0].value.get("judge_name") or "")},
        pairwise=not scored or flipped > 0,
        notes=notes,
    )


def _judgments(row: Row) -> Sequence[dict[str, Any] | None]:
    """Return the one or two judgements of a row; a null one is a call that failed."""
    value = row.value.get("judgments")
    if not isinstance(value, list) or not 1 <= len(value) <= 2:
        raise row.error("expected a list of one or two judgements", "judgments", "judgments do not fit")
    found = []
    for k, judgment in enumerate(value):
        if judgment is not None and (
            not isinstance(judgment, dict) or not isinstance(judgment.get("judgment"), dict | None)
        ):
            problem = 'expected {"judgment": {...}, "decision": ...}'
            raise row.error(problem, f"judgments[{k}]", "judgments do not fit")
        found.append(None if judgment is None else {**judgment, "judgment": judgment.get("judgment") or {}})
    return found


def _scored(item: Item, row: Row, two: Sequence[dict[str, Any] | None]) -> PublishedRow:
    """Return a pair with the rewards of its responses: the mean over orders, which as a rule are the same.

    A call that failed leaves the other order to decide, as published; without either there is no reward.
    """
    # The second judgement is shown B first.
    found = [_scores(row, k, j)[:: 1 if k == 0 else -1] for k, j in enumerate(two) if j is not None]
    if not found:
        return reward_row(item, (nan, nan))
    table = np.array(found)
    margins = table[:, 0] - table[:, 1]
    flips = int(len(margins) == 2 and margins[0] * margins[1] < 0)
    rewards = (float(table[:, 0].mean()), float(table[:, 1].mean()))
    return reward_row(item, rewards, flips, len(table) - 1)


def _scores(row: Row, k: int, judgment: dict[str, Any]) -> list[float]:
    key = f"judgments[{k}].judgment.scores"
    values = judgment["judgment"]["scores"]
    if not isinstance(values, list) or len(values) != 2:
        raise row.error("expected two scores", key, "scores do not fit")
    found = []
    for value in values:
        number = value[0] if isinstance(value, list) and len(value) == 1 else value
        if isinstance(number, bool) or not isinstance(number, int | float | None):
            raise row.error(f"{number!r}; expected a number, x or [x]", key, "scores do not fit")
        found.append(nan if number is None else float(number))
    return found


def _judged(item: Item, two: Sequence[dict[str, Any] | None], counts: Counter[str]) -> PublishedRow:
    """Return a pair with the log-odds of its verdicts; what is no verdict is no vote, as published."""
    votes = [_VOTES.get(str((j or {}).get("decision")), _NO_VOTE) for j in two]
    counts["judgements without a verdict"] += sum(v == _NO_VOTE for v in votes)
    first = votes[0]
    # The second judgement is shown B first: its verdict A>B speaks of what is B in the data.
    second = votes[1] if len(votes) == 2 else 1.0 - first
    rewards, _, flips = rewards_from_preferences(np.array([[0.5, first], [second, 0.5]]))
    return reward_row(item, (float(rewards[0]), float(rewards[1])), flips, len(two) - 1)


def _model(file: Path, row: Row, judgments: Sequence[Sequence[dict[str, Any] | None]]) -> str:
    """Return the judge's name: its model, and how it was asked unless it only scores."""
    models = (j["judgment"].get("judge_model") for two in judgments for j in two if j is not None)
    model = next((m for m in models if isinstance(m, str) and m.strip()), None)
    if model is None:
        model = file.name.partition("judge_model=")[2].removesuffix(".jsonl") or file.name.removesuffix(
            ".jsonl"
        )
    asked = row.value.get("judge_name")
    return model if not isinstance(asked, str) or asked in ("", _SCORER) else f"{model} ({asked})"
