"""Published results of RewardMATH, and of the same models on RewardBench's mathematics, as records.

A file of results is a JSON list. Its rows have one of three forms:

ten solutions   `score` holds a number per solution of `solution_reference` (a rating of a judge is one too),
                or a list per solution: the values of its steps. RewardBench's pairs have two solutions.
verdicts        `score` holds a letter per wrong solution, and `chosen_position` the letter of the right one.
                Each pair was asked in one order. The right solution gets reward 0. A wrong one that lost gets
                `-LOG_ODDS`, one that won `LOG_ODDS`, and one without a verdict 0: a tie.
steps           One row per solution: `eval_solution` (texts of the steps) and `output.step_scores`.

Values of steps become one number: `reduce`. `prod`, as published, is the logarithm of the product, in nats.

Source: Kim et al. 2024, arXiv 2410.01729; results/ and src/evaluation/eval.py of its repository.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from math import fsum, isfinite, log, nan
from pathlib import Path
from typing import Any

from rmbench.benchmarks.reward_math import WRONG
from rmbench.core.files import prompt_cluster
from rmbench.errors import DataError, UnknownNameError
from rmbench.models.pairwise import P_MIN
from rmbench.results.published import (
    FORMATS,
    Import,
    PublishedRow,
    PublishedRun,
    check_finite,
    hash_of_ids,
    left_out,
    reward_row,
)
from rmbench.tasks import ItemSet, fields
from rmbench.tasks.rows import BadRows, Row, data_files, rows_of
from rmbench.types import Turn

LOG_ODDS = log(1 - P_MIN) - log(P_MIN)
"""Margin of a verdict, nats, as of every judge that says 0 or 1."""

_RIGHT = ("human_to_GPT-4", "chosen")
"""Names of the right solution: it is the first of a row."""

REDUCTIONS: Mapping[str, Callable[[Sequence[float]], float]] = {
    "prod": lambda values: fsum(map(log, values)),
    "mean": lambda values: fsum(values) / len(values),
    "min": min,
    "last": lambda values: values[-1],
}
"""Name -> one number for the values of a solution's steps."""

_NAMES = {
    "armorm": "RLHFlow/ArmoRM-Llama3-8B-v0.1",
    "beaver": "PKU-Alignment/beaver-7b-v2.0-reward",
    "chatgpt": "gpt-3.5-turbo-0125",
    "easy_to_hard": "ScalableMath/llemma-7b-prm-prm800k-level-1to3-hf",
    "gpt4": "gpt-4-0125-preview",
    "gpt4o": "gpt-4o-2024-05-13",
    "grm_gemma": "Ray2333/GRM-Gemma-2B-sftreg",
    "grm_gemma_2b": "Ray2333/GRM-Gemma-2B-sftreg",
    "internlm2-20b": "internlm/internlm2-20b-reward",
    "internlm2_20b": "internlm/internlm2-20b-reward",
    "llama3_70b": "meta-llama/Meta-Llama-3-70B-Instruct",
    "math_shepherd": "peiyi9979/math-shepherd-mistral-7b-prm",
    "oasst-rm": "OpenAssistant/oasst-rm-2.1-pythia-1.4b-epoch-2.5",
    "opus": "claude-3-opus-20240229",
    "prometheus_7b": "prometheus-eval/prometheus-7b-v2.0",
    "reasoneval_7b": "GAIR/ReasonEval-7B",
    "skywork-llama-3.1-8b": "Skywork/Skywork-Reward-Llama-3.1-8B",
    "skywork_llama3": "Skywork/Skywork-Reward-Llama-3.1-8B",
}
"""File's name in lower case -> model, as the repository's scripts and `src/models` name them: the two folders
spell the same models in two ways. Other files keep their names."""

_PAIR, _SUFFIX = "rewardbench_", "_reward"
_VERDICTS = {"A", "B"}


@FORMATS.register("reward-math")
def read_published(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: one file of results, or a folder of them.

    Raises:
        DataError: If there is no file, or one does not fit.
        UnknownNameError: If there is no such reduction.
    """
    if request.reduce not in REDUCTIONS:
        raise UnknownNameError("reduction", request.reduce, REDUCTIONS)
    return list(request.each(_files(path), lambda file: _run(file, request)))


def _files(path: Path) -> list[Path]:
    """Return the files of results; the benchmark itself, which may lie beside them, is none."""
    found = data_files(path, "**/*.json" if path.is_dir() else None)
    return [f for f in found if not f.name.startswith("RewardMATH_")] if path.is_dir() else found


def _run(file: Path, request: Import) -> PublishedRun:
    rows, counts, facts = list(rows_of(file, BadRows(skip=False))), Counter[str](), dict[str, str]()
    if all("eval_solution" in row.value for row in rows):
        found = _of_steps(rows, request.reduce, counts, facts)
    else:
        found = [_of_solutions(row, request.reduce, counts, facts) for row in rows]
    sizes = {len(row.rewards) for row in found}
    if sizes not in ({2}, {1 + WRONG}):
        raise DataError(
            f"solutions per problem: {', '.join(map(str, sorted(sizes)))}; expected {1 + WRONG} of each"
            " (RewardMATH), or 2 (RewardBench's pairs)",
            path=file,
            key="score",
            reason="solutions do not fit",
        )
    task = "rewardbench-math" if sizes == {2} else "reward-math"
    spec, kept = request.spec(task), _once(file, found, counts)
    kept, data_hash = _joined(file, kept, request.items(task))
    check_finite(file, spec, kept)
    return PublishedRun(
        model=_model(file, facts),
        spec=spec,
        rows=kept,
        data_hash=data_hash or hash_of_ids(task, kept),
        source=file.name,
        format="reward-math",
        facts=facts,
        dropped=left_out(Counter({_REPEATED: counts[_REPEATED]})),
        notes=[f"{n:,} {what}" for what, n in left_out(counts).items()],
    )


def _model(file: Path, facts: Mapping[str, str]) -> str:
    """Return the name of the file without its kind; a reduction stands in brackets."""
    name = file.name.removesuffix(".json").removeprefix(_PAIR).removesuffix(_SUFFIX)
    name = name.removesuffix("_pairwise") if "judge_name" in facts else name
    name = _NAMES.get(name.lower(), name)
    if "judge_name" in facts:
        return f"{name} (pairwise)"
    return f"{name} ({facts['reduce']})" if "reduce" in facts else name


def _of_solutions(row: Row, reduce: str, counts: Counter[str], facts: dict[str, str]) -> PublishedRow:
    names, values = fields.required(row, "solution_reference"), fields.required(row, "score")
    if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
        raise row.error(
            "expected as many values as `solution_reference` has names", "score", "scores do not fit"
        )
    if "chosen_position" in row.value:
        facts["judge_name"] = "pairwise"
        rewards = [0.0, *_verdicts(row, values, counts)]
    elif not names or names[0] not in _RIGHT:
        shown = str(names[0])[:40] if names else "nothing"
        problem = f"begins with {shown!r}; expected the right solution, {' or '.join(map(repr, _RIGHT))}"
        raise row.error(problem, "solution_reference", "right solution is not first")
    else:
        rewards = [_value(row, f"score[{k}]", value, reduce, facts) for k, value in enumerate(values)]
    return _row(fields.text(row, "problem"), rewards)


def _row(problem: str, rewards: Sequence[float]) -> PublishedRow:
    cluster = prompt_cluster((Turn(role="user", content=problem),))
    gold = (1.0, *[0.0] * (len(rewards) - 1))
    return PublishedRow(cluster, tuple(rewards), gold, (0,) * len(rewards), cluster, {})


def _verdicts(row: Row, values: list[Any], counts: Counter[str]) -> list[float]:
    places = row.value["chosen_position"]
    if not isinstance(places, list) or len(places) != len(values) or not _VERDICTS.issuperset(places):
        raise row.error("expected 'A' or 'B' for each verdict", "chosen_position", "positions do not fit")
    found = []
    for k, (said, right) in enumerate(zip(values, places, strict=True)):
        if said is not None and said not in _VERDICTS:
            raise row.error(
                f"{str(said)[:40]!r}; expected 'A', 'B' or null", f"score[{k}]", "scores do not fit"
            )
        found.append(0.0 if said is None else -LOG_ODDS if said == right else LOG_ODDS)
    counts["verdicts that are missing: ties, and wrong in `official`"] += sum(v is None for v in values)
    return found


def _value(row: Row, key: str, value: Any, reduce: str, facts: dict[str, str]) -> float:
    """Return the reward of one solution: a number, or what its steps are reduced to."""
    if not isinstance(value, list):
        return _number(row, key, value)
    facts["reduce"] = reduce
    values = [_number(row, key, v) for v in value]
    if not values:
        raise row.error("no step; expected at least one value", key, "scores do not fit")
    if not all(map(isfinite, values)):
        return nan
    if reduce == "prod" and min(values) <= 0.0:
        raise row.error(
            f"the step value {min(values):g} has no logarithm; give --reduce min, mean or last",
            key,
            "scores do not fit",
        )
    return REDUCTIONS[reduce](values)


def _number(row: Row, key: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | None):
        raise row.error(f"{str(value)[:40]!r}; expected a number", key, "scores do not fit")
    return nan if value is None else float(value)


def _of_steps(
    rows: list[Row], reduce: str, counts: Counter[str], facts: dict[str, str]
) -> list[PublishedRow]:
    """Return a row per problem of rows per solution; `chosen` is the right one."""
    pairs: dict[str, dict[str, float]] = {}
    for row in rows:
        kind, output = fields.text(row, "solution_type"), fields.required(row, "output")
        steps = output.get("step_scores") if isinstance(output, dict) else None
        if not isinstance(steps, list):
            raise row.error("expected {'step_scores': [...]}", "output", "scores do not fit")
        pair = pairs.setdefault(fields.text(row, "problem"), {})
        if kind not in ("chosen", "rejected") or kind in pair:
            found = f"{kind!r}, a second time" if kind in pair else repr(kind)
            raise row.error(
                f"{found}; expected one chosen and one rejected", "solution_type", "solutions do not fit"
            )
        pair[kind] = _value(row, "output.step_scores", steps, reduce, facts)
        texts = row.value["eval_solution"]
        counts["solutions with another number of values than of steps"] += len(texts) != len(steps)
    alone = [problem for problem, pair in pairs.items() if len(pair) != 2]
    if alone:
        problem = f"{len(alone)} problems have one solution (first: {alone[0][:60]!r}); expected two"
        raise DataError(problem, path=rows[0].path, key="solution_type", reason="solutions do not fit")
    return [_row(problem, (pair["chosen"], pair["rejected"])) for problem, pair in pairs.items()]


_REPEATED = "rows that repeat a problem with the same scores; the published number counts them twice"


def _once(file: Path, rows: Sequence[PublishedRow], counts: Counter[str]) -> list[PublishedRow]:
    """Return each problem once, sorted by id: files have other orders, and some repeat rows."""
    kept: dict[str, PublishedRow] = {}
    for row in rows:
        first = kept.setdefault(row.id, row)
        if first is row:
            continue
        if first != row:
            problem = f"the problem {row.id} occurs twice with different scores; expected one row"
            raise DataError(problem, path=file, key="problem", reason="duplicate problem")
        counts[_REPEATED] += 1
    return [kept[name] for name in sorted(kept)]


def _joined(
    file: Path, rows: list[PublishedRow], items: ItemSet | None
) -> tuple[list[PublishedRow], str | None]:
    """Return the rows with ids, lengths and strata of the items with these problems, and the items' hash."""
    if items is None:
        return rows, None
    found = {row.cluster: row for row in rows}
    missing = [item for item in items.items if item.cluster not in found]
    if missing or len(found) != len(items.items):
        raise DataError(
            f"{len(found)} problems; the data has {len(items.items)}, {len(missing)} of them not here."
            " Leave --data out, or give the whole data",
            path=file,
            reason="problems of the data differ",
        )
    joined = []
    for item in items.items:
        row = found[item.cluster]
        if [r.gold for r in item.responses] != list(row.gold):
            problem = f"solutions of the item {item.id!r} are in another order: expected the right one first"
            raise DataError(problem, path=file, reason="problems of the data differ")
        joined.append(replace(reward_row(item, row.rewards), id=item.id))
    return joined, items.data_hash
