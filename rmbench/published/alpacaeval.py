"""AlpacaEval's published annotations: win rates of the generators, and judges as runs.

A generator's win rate is its own published number, from every row that it has. A judge's verdicts are rewards
on the task `alpacaeval-calibration`, where another judge's are gold.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.canon import digest, prompt_cluster
from rmbench.data import ItemSet, fields, read_task_items
from rmbench.data.alpacaeval import (
    ADVERSARIAL,
    DRAW,
    annotations,
    annotator_of,
    annotators,
    pair_id,
    preference_of,
)
from rmbench.data.items import hash_items
from rmbench.data.rows import Row
from rmbench.errors import DataError, UnknownNameError
from rmbench.models.pairwise import rewards_from_preferences
from rmbench.published.run import (
    Import,
    PublishedRow,
    PublishedRun,
    WinRate,
    check_finite,
    left_out,
    reward_row,
)
from rmbench.records import SELF_GOLD
from rmbench.specs import TaskSpec
from rmbench.stats import mean
from rmbench.stats.clusters import Floats
from rmbench.types import Turn

_TASK = "alpacaeval-calibration"
_MODELS = (
    "gpt-4o-mini", "gpt4_turbo", "gpt4.1", "gpt5_nano", "gpt4", "chatgpt", "claude_3_opus", "claude_2",
    "claude", "llama3_70b", "text_davinci_003",
)  # fmt: skip
"""Parts of annotators' names that say which model judges; the longest names first."""


@dataclass(frozen=True, slots=True)
class _Verdict:
    p: float
    """P(the model's answer is better); NaN without a verdict."""
    texts: str
    """Identity of what was compared: the model's answer and the reference's."""


def read(path: Path, request: Import) -> list[PublishedRun]:
    """Return a run for every judge below `path` but the gold; put the generators' win rates into `request`.

    Raises:
        DataError: If there is nothing, or something does not fit.
        UnknownNameError: If the gold's annotator has no verdict there.
    """
    if not path.exists():
        raise DataError("there is no such file or folder", path=path)
    spec = request.spec(_TASK)
    spec = replace(spec, data=replace(spec.data, options={**spec.data.options, "mode": "pairs"}))
    known, gold = annotators(path), annotator_of(spec.data.options)
    if gold not in known:
        raise UnknownNameError("annotator", gold, known, f"{path}, -T annotator")
    request.win_rates.extend(_win_rates(path, gold))
    others = [name for name in known if name != gold]
    if not others:
        return []
    pairs = read_task_items(spec, path, on_bad="skip" if request.skip else "fail", offline=True)
    return list(
        request.each(others, lambda name: _run(path, spec, name, pairs, same=_model(name) == _model(gold)))
    )


def _win_rates(path: Path, gold: str) -> list[WinRate]:
    """Return each generator's number: `mean(preference - 1)` of its rows with a preference.

    As published (`describe_head2head` of AlpacaEval): a row without a preference does not count. Rows of one
    instruction are one cluster; as a rule there is one.
    """
    found: list[tuple[str, Floats, list[str]]] = []
    prompts: set[str] = set()
    for model, source, values in annotations(path, gold):
        rows = [(preference_of(row), prompt_cluster(_prompt(row))) for row in _numbered(values, source)]
        prompts.update(cluster for _, cluster in rows)
        kept = [(p, cluster) for p, cluster in rows if isfinite(p)]
        if not kept:
            raise DataError("no row has a preference", path=source, key="preference")
        found.append((model, np.array([p for p, _ in kept]), [cluster for _, cluster in kept]))
    return [_win_rate(model, p, clusters, len(prompts)) for model, p, clusters in found]


def _win_rate(model: str, p: Floats, clusters: list[str], n_prompts: int) -> WinRate:
    names, codes = np.unique(np.array(clusters), return_inverse=True)
    return WinRate(
        generator=model,
        win_rate=mean(p, codes.astype(np.int64), len(names), bounded=True).estimate(),
        n_wins=int((p > DRAW).sum()),
        n_wins_base=int((p < DRAW).sum()),
        n_draws=int((p == DRAW).sum()),
        n_missing=n_prompts - len(names),
        adversarial=model in ADVERSARIAL,
    )


def _run(path: Path, spec: TaskSpec, judge: str, pairs: ItemSet, *, same: bool) -> PublishedRun:
    """Return the run of a judge on the pairs that it was asked about."""
    found: dict[str, _Verdict] = {}
    counts, kept, rows = Counter(pairs.dropped), list[int](), list[PublishedRow]()
    for name, verdict in _verdicts(path, judge):
        counts["further verdicts on the same pair"] += found.setdefault(name, verdict) is not verdict
    for place, item in enumerate(pairs.items):
        judged = found.pop(item.id, None)
        if judged is None:
            counts["pairs that this judge was not asked about"] += 1
        elif judged.texts != digest([r.text for r in item.responses], 32):
            counts["pairs of which this judge saw other texts"] += 1
        else:
            kept.append(place)
            rows.append(reward_row(item, _rewards(judged.p)))
    counts["verdicts on pairs without gold"] = len(found)
    if not rows:
        raise DataError(f"no verdict of {judge!r} on a pair that has gold", path=path)
    check_finite(path, spec, rows)
    notes = ["the gold is the verdicts of the same model: no independent measure"] if same else []
    return PublishedRun(
        model=f"{judge} ({SELF_GOLD})" if same else judge,
        spec=spec,
        rows=rows,
        data_hash=hash_items(pairs.items.take(kept)),
        source=path.name,
        format="alpacaeval",
        facts={"gold": SELF_GOLD} if same else {},
        pairwise=True,
        dropped=left_out(counts),
        notes=notes,
    )


def _verdicts(path: Path, judge: str) -> Iterator[tuple[str, _Verdict]]:
    for model, source, values in annotations(path, judge):
        for row in _numbered(values, source):
            texts = [fields.reply(row, key) for key in ("output_2", "output_1")]
            name = pair_id(model, prompt_cluster(_prompt(row)))
            yield name, _Verdict(preference_of(row), digest(texts, 32))


def _rewards(p: float) -> tuple[float, float]:
    """Return rewards whose margin is the log-odds of the verdict; only one order was shown."""
    if not isfinite(p):
        return nan, nan
    rewards, _, _ = rewards_from_preferences(np.array([[0.5, p], [1.0 - p, 0.5]]))
    return float(rewards[0]), float(rewards[1])


def _prompt(row: Row) -> tuple[Turn, ...]:
    return (Turn(role="user", content=fields.text(row, "instruction")),)


def _numbered(values: Sequence[Any], source: Path) -> Iterator[Row]:
    return (Row(value, source, number) for number, value in enumerate(values, start=1))


def _model(annotator: str) -> str:
    """Return which model judges, as far as its annotator's name says it."""
    return next((name for name in _MODELS if name in annotator), annotator)
