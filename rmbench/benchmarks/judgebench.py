"""JudgeBench: pairs of one model's responses, one of them objectively right.

A pair is right if its two orders together are right. Numbers are over all pairs and by category. Published
results are one judge's judgements in both orders.

Source: Tan et al. 2024, arXiv 2410.12784; utils/metrics.py of the benchmark's repository.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from rmbench.benchmarks.official import (
    HEADLINE,
    official_kind,
    part_means,
    stop_at_invalid,
    stratum_of,
    strict_pairs,
)
from rmbench.core.files import prompt_cluster
from rmbench.core.options import Option
from rmbench.errors import DataError
from rmbench.metrics.kinds import Measured, Params
from rmbench.metrics.panel import Panel
from rmbench.models.pairwise import rewards_from_preferences
from rmbench.results.published import (
    FORMATS,
    Import,
    PublishedRow,
    PublishedRun,
    check_finite,
    left_out,
    reward_row,
)
from rmbench.stats import mean
from rmbench.tasks import fields
from rmbench.tasks.items import hash_items
from rmbench.tasks.rows import BadRows, FoundItem, Row, data_files, register_reader, rows_of
from rmbench.types import Item, Response

_CATEGORIES = {
    "mmlu-pro": "Knowledge",
    "livebench-reasoning": "Reasoning",
    "livebench-math": "Math",
    "livecodebench": "Coding",
}
_GOLD = {"A>B": (1.0, 0.0), "B>A": (0.0, 1.0)}


@dataclass(frozen=True)
class Options:
    """Options of the reader."""

    response_model: Annotated[str, Option("only pairs written by this model; empty for all")] = ""


@register_reader("judgebench", options=Options)
def read(files: list[Path], options: Options, bad: BadRows) -> Iterator[FoundItem]:
    """Read pair files; `response_model` keeps the pairs of one model only."""
    wanted = options.response_model
    for path in files:
        rows = (r for r in rows_of(path, bad) if not wanted or r.value.get("response_model") == wanted)
        yield from bad.parse(rows, lambda r: FoundItem(item_of(r), r))


def category(source: str) -> str | None:
    """Return the published category of a `source`, which the beginning of its name decides."""
    return next((name for start, name in _CATEGORIES.items() if source.startswith(start)), None)


def item_of(row: Row) -> Item:
    """Return the item of a pair; other keys, such as judgements, are ignored."""
    prompt = fields.prompt(row, "question", fields.text(row, "question"))
    source, label = fields.text(row, "source"), fields.text(row, "label")
    group = category(source)
    if group is None:
        raise row.error(
            f"{source!r}; expected it to begin with one of {', '.join(_CATEGORIES)}",
            "source",
            "unknown source",
        )
    if label not in _GOLD:
        raise row.error(f"{label!r}; expected 'A>B' or 'B>A'", "label", "unknown label")
    texts = [fields.reply(row, key) for key in ("response_A", "response_B")]
    return Item(
        id=fields.text(row, "pair_id"),
        prompt=prompt,
        responses=tuple(Response(t, g) for t, g in zip(texts, _GOLD[label], strict=True)),
        cluster=prompt_cluster(prompt),
        strata={"category": group, "source": source},
    )


CATEGORIES = ("Knowledge", "Reasoning", "Math", "Coding")


@official_kind("judgebench", *CATEGORIES)
def measure_judgebench(panel: Panel, params: Params) -> Measured:
    """Measure the share of pairs that are right, over all pairs and in each category.

    The judge sees both orders. A right verdict adds 1, a wrong one subtracts 1, and the pair is right if the
    sum is positive. Two contradicting verdicts are wrong, and so is a tie; if one order has no verdict, the
    other decides. For rewards this is `[c > r]`. For a pairwise model it is `[c > r]` without a flip: then
    the averaged preference and the sum have the same sign. There is one difference: if a pairwise model has
    no verdict in one order, the pair has no rewards, and is not right.

    Args:
        panel: Pairs with the stratum `category`.
        params: Parameters of every kind.

    Returns:
        `official`, `official_knowledge`, `_reasoning`, `_math`, `_coding`.
    """
    stop_at_invalid(panel, params)
    pairs, credit = strict_pairs(panel)
    if len(pairs) == 0:
        return Measured({}, {}, dict.fromkeys(measure_judgebench.headlines, "no pair whose gold differs"))
    if panel.flips is not None:
        credit = credit * (panel.flips[pairs.item] == 0)
    category = stratum_of(panel, "category")[pairs.item]
    parts = ("pair", "category", CATEGORIES)
    by_category, undefined = part_means(credit, pairs.cluster, panel.n_clusters, category, parts)
    metrics = {HEADLINE: mean(credit, pairs.cluster, panel.n_clusters, bounded=True), **by_category}
    return Measured(metrics, {"split_verdicts": _split(panel)}, undefined)


def _split(panel: Panel) -> int:
    return 0 if panel.flips is None else int(np.count_nonzero(panel.flips))


_VOTES = {"A>B": 1.0, "B>A": 0.0}
_NO_VOTE = 0.5
_SCORER = "reward_model"


@FORMATS.register("judgebench")
def read_published(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: one file of outputs, or a folder of them.

    Raises:
        DataError: If there is no file, or one does not fit.
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
        facts={"judge_name": _asked(file, found)},
        pairwise=not scored or flipped > 0,
        notes=notes,
    )


def _asked(file: Path, rows: Sequence[Row]) -> str:
    """Return the `judge_name` that all rows share; empty without one."""
    asked = sorted({fields.label(row, "judge_name") for row in rows})
    if len(asked) > 1:
        problem = f"two kinds of judge in one file: {', '.join(asked[:3])}"
        raise DataError(problem, path=file, key="judge_name")
    return asked[0]


def _judgments(row: Row) -> Sequence[dict[str, Any] | None]:
    """Return the one or two judgements of a row; null is a failed call."""
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
        if judgment is not None and not isinstance(judgment.get("decision"), str | None):
            problem = f"{str(judgment['decision'])[:40]!r}; expected text or null"
            raise row.error(problem, f"judgments[{k}].decision", "judgments do not fit")
        found.append(None if judgment is None else {**judgment, "judgment": judgment.get("judgment") or {}})
    return found


def _scored(item: Item, row: Row, two: Sequence[dict[str, Any] | None]) -> PublishedRow:
    """Return a pair with the rewards of its responses: the mean over orders, which usually agree.

    If one call failed, the other order decides, as published; if both failed, there is no reward.
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
    """Return a pair with the log-odds of its verdicts; other judgements are no votes, as published."""
    votes = [_VOTES.get(str((j or {}).get("decision")), _NO_VOTE) for j in two]
    counts["judgements without a verdict"] += sum(v == _NO_VOTE for v in votes)
    first = votes[0]
    # The second judgement is shown B first: its verdict A>B means that B of the data is better.
    second = votes[1] if len(votes) == 2 else 1.0 - first
    rewards, _, flips = rewards_from_preferences(np.array([[0.5, first], [second, 0.5]]))
    return reward_row(item, (float(rewards[0]), float(rewards[1])), flips, len(two) - 1)


def _model(file: Path, row: Row, judgments: Sequence[Sequence[dict[str, Any] | None]]) -> str:
    """Return the judge's name: its model, and its kind of judge unless it only scores."""
    models = [j["judgment"].get("judge_model") for two in judgments for j in two if j is not None]
    if wrong := [m for m in models if not isinstance(m, str | None)]:
        raise DataError(f"{str(wrong[0])[:40]}; expected text", path=file, key="judge_model")
    named = sorted({m for m in models if m and m.strip()})
    if len(named) > 1:
        raise DataError(f"two judges in one file: {', '.join(named[:3])}", path=file, key="judge_model")
    model = named[0] if named else None
    if model is None:
        model = file.name.partition("judge_model=")[2].removesuffix(".jsonl") or file.name.removesuffix(
            ".jsonl"
        )
    asked = row.value.get("judge_name")
    return model if not isinstance(asked, str) or asked in ("", _SCORER) else f"{model} ({asked})"
