"""RM-Bench: three styles of a right and of a wrong answer per prompt, K = 6.

Numbers are the cells of the 3 x 3 style matrix (easy, normal, hard), four domains and their mean. Published
results are rows of the data with `score_chosen` and `score_rejected`, one file per data file.

Source: Liu et al. 2024, arXiv 2410.16184; `compute_accuracy` in scripts/utils.py of the benchmark's
repository, and "Clarity on Avg Calculation" in its README.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rmbench.benchmarks.official import HEADLINE, official_kind, part_name, stop_at_invalid, stratum_of
from rmbench.core.files import prompt_cluster
from rmbench.errors import DataError
from rmbench.metrics.kinds import Measured, Params
from rmbench.metrics.panel import Panel
from rmbench.results.published import FORMATS, Import, PublishedRow, PublishedRun, check_finite, reward_row
from rmbench.stats import Statistic, combine, mean
from rmbench.stats.clusters import Floats
from rmbench.tasks import fields
from rmbench.tasks.items import hash_items
from rmbench.tasks.rows import BadRows, FoundItem, Row, items_of, register_reader, rows_of
from rmbench.types import Item, Response

DOMAINS = ("chat", "code", "math", "safety")
"""The two files of safety are one domain: its prompts are pooled, so the larger file weighs more."""

STYLES = ("concise", "detailed_plain", "detailed_markdown")
"""Order of the published lists, and of rows and columns of the matrix."""

_LEVELS: Mapping[str, NDArray[np.bool_]] = {
    "easy": np.tril(np.ones((3, 3), dtype=bool), -1),
    "normal": np.eye(3, dtype=bool),
    "hard": np.triu(np.ones((3, 3), dtype=bool), 1),
}
"""Level -> cells [chosen's style, rejected's style]; in hard cells the chosen response is plainer."""


def style_wins(rewards: Floats) -> Floats:
    """Return `[c_i > r_j]` per prompt, shape (P, 3, 3): strict, so a tie and NaN are 0.

    Args:
        rewards: Shape (P, 6): the chosen response in three styles, then the rejected one.
    """
    return (rewards[:, :3, None] > rewards[:, None, 3:]).astype(np.float64)


@official_kind("rm-bench", *_LEVELS, *DOMAINS)
def measure_rm_bench(panel: Panel, params: Params) -> Measured:
    """Measure levels and domains.

    A domain is the mean of its easy, normal and hard accuracy. A level, and the official number, is the mean
    of four domains; without all four there is no published number.

    Args:
        panel: Items of six responses, three chosen and three rejected, each in the order of `STYLES`, with
            the stratum `domain`.
        params: Parameters of every kind.

    Returns:
        `official`, `official_easy`, `_normal`, `_hard`, and one per domain; the matrix of each domain, and
        their mean as `all`, under the curve `style_matrix`.
    """
    stop_at_invalid(panel, params)
    names = measure_rm_bench.headlines
    if panel.n_items == 0 or not _fits(panel):
        return Measured({}, {}, dict.fromkeys(names, "an item has not three styles of two responses"))
    domain, wins = stratum_of(panel, "domain"), style_wins(panel.rewards.reshape(-1, 6))
    levels: dict[str, dict[str, Statistic]] = {}
    matrices: dict[str, Floats] = {}
    for name in DOMAINS:
        here = domain == name
        if here.any():
            cluster = panel.cluster[here]
            levels[name] = {
                level: mean(wins[here][:, cells].mean(axis=1), cluster, panel.n_clusters, bounded=True)
                for level, cells in _LEVELS.items()
            }
            matrices[name] = wins[here].mean(axis=0)
    undefined = {part_name(d): f"no item of the domain {d}" for d in DOMAINS if d not in levels}
    # The three levels are of the same items, which count once.
    domains = {
        part_name(d): combine(list(by_level.values()), n=by_level["normal"].n)
        for d, by_level in levels.items()
    }
    overall: dict[str, Statistic] = {}
    if undefined:
        why = f"the mean of four domains: {'; '.join(undefined.values())}"
        undefined |= dict.fromkeys(names[: 1 + len(_LEVELS)], why)
    else:
        matrices["all"] = np.mean([matrices[d] for d in DOMAINS], axis=0)
        overall = {HEADLINE: combine(list(domains.values()))} | {
            part_name(level): combine([levels[d][level] for d in DOMAINS]) for level in _LEVELS
        }
    curves = {
        "styles": list(STYLES),
        "style_matrix": {name: matrix.tolist() for name, matrix in matrices.items()},
        "levels": {d: {level: s.value for level, s in by_level.items()} for d, by_level in levels.items()},
    }
    return Measured({**overall, **domains}, {}, undefined, curves)


def _fits(panel: Panel) -> bool:
    if not (panel.sizes == 6).all():
        return False
    gold = panel.gold.reshape(-1, 6)
    return bool((gold[:, :3].min(axis=1) > gold[:, 3:].max(axis=1)).all())


@register_reader("rm-bench")
def read(files: list[Path], _: object, bad: BadRows) -> Iterator[FoundItem]:
    """Read `<domain>_filtered.json` files; the two safety files are one domain, as published."""
    return items_of(files, bad, item_of)


def item_of(row: Row) -> Item:
    """Return the item of a prompt; other keys, such as scores, are ignored."""
    text = fields.text(row, "prompt")
    prompt = fields.prompt(row, "prompt", text)
    subset = fields.label(row, "domain") or row.path.name.split("_filtered")[0].split(".")[0]
    domain = next((d for d in DOMAINS if subset.startswith(d)), subset)
    responses = []
    for key, gold in (("chosen", 1.0), ("rejected", 0.0)):
        texts = fields.required(row, key)
        if not isinstance(texts, list) or len(texts) != len(STYLES):
            raise row.error(
                f"expected {len(STYLES)} responses: {', '.join(STYLES)}", key, "styles do not fit"
            )
        for k, (style, value) in enumerate(zip(STYLES, texts, strict=True)):
            responses.append(Response(fields.reply(row, f"{key}[{k}]", value), gold, {"style": style}))
    return Item(
        id=f"{subset}:{fields.name(row, 'id')}",
        prompt=prompt,
        responses=tuple(responses),
        cluster=prompt_cluster(prompt),
        strata={"domain": domain, "subset": subset},
    )


_ROOT = "Seq_Classifier"
_NAME = re.compile(
    r"(?P<data>.+_filtered|total_dataset)_(?P<model>.+)_REWORD_MODEL_(?P<time>\d{8}_\d{6})\.json"
)


@FORMATS.register("rm-bench")
def read_published(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: a results folder, one model's folder, or one file; a run per model.

    Raises:
        DataError: If there is no file, or one does not fit.
    """
    groups: dict[str, list[Path]] = {}
    for file in _files(path):
        groups.setdefault(_model(file, path), []).append(file)
    # `each` takes one path at a time: that of a model's first file, which names the model.
    names = {files[0]: model for model, files in groups.items()}
    return list(request.each(list(names), lambda file: _run(names[file], groups[names[file]], request)))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("there is no such file or folder", path=path)
    found = sorted((p for p in path.rglob("*.json") if _NAME.fullmatch(p.name)), key=lambda p: p.as_posix())
    if not found:
        raise DataError("no results; looked for <file>_<model>_REWORD_MODEL_<time>.json", path=path)
    return found


def _model(file: Path, start: Path) -> str:
    """Return the model's name: the folders below `Seq_Classifier`, else the name in the file's name."""
    parts = file.parts[:-1]
    if _ROOT in parts:
        below = parts[len(parts) - parts[::-1].index(_ROOT) :]
        if below:
            return "/".join(below)
    if start.is_dir() and file.parent != start:
        return file.parent.relative_to(start).as_posix()
    match = _NAME.fullmatch(file.name)
    return match["model"] if match else file.name.removesuffix(".json")


def _run(model: str, files: Sequence[Path], request: Import) -> PublishedRun:
    spec = request.spec("rm-bench")
    latest, notes = _latest(files)
    found = [row for file in latest for row in rows_of(file, BadRows(skip=False))]
    items, rows, seen = list[Item](), list[PublishedRow](), set[str]()
    for row in found:
        item = item_of(row)
        if item.id in seen:
            raise row.error(f"{item.id!r} occurs twice", "id", "duplicate id")
        seen.add(item.id)
        scores = [s for key in ("score_chosen", "score_rejected") for s in _scores(row, key)]
        items.append(item)
        rows.append(reward_row(item, tuple(scores)))
    check_finite(latest[0], spec, rows)
    return PublishedRun(
        model=model,
        spec=spec,
        rows=rows,
        data_hash=hash_items(items),
        source=", ".join(file.name for file in latest),
        format="rm-bench",
        facts={},
        notes=notes,
    )


def _latest(files: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """Return the last run of each data file, in the order of their names, and remarks on earlier runs."""
    by_data: dict[str, list[tuple[str, Path]]] = {}
    for file in files:
        match = _NAME.fullmatch(file.name)
        data, time = (match["data"], match["time"]) if match else (file.name, "")
        by_data.setdefault(data, []).append((time, file))
    chosen, notes = [], []
    for data in sorted(by_data):
        *older, (time, file) = sorted(by_data[data])
        chosen.append(file)
        if older:
            notes.append(f"{data}: the run of {time} is taken, {', '.join(t for t, _ in older)} is not")
    return chosen, notes


def _scores(row: Row, key: str) -> list[float]:
    """Return three scores, each `x` or `[x]`; NaN for null."""
    values = row.value.get(key)
    if not isinstance(values, list) or len(values) != len(STYLES):
        raise row.error(f"expected {len(STYLES)} scores: {', '.join(STYLES)}", key, "scores do not fit")
    return [_score(row, f"{key}[{k}]", value) for k, value in enumerate(values)]


def _score(row: Row, key: str, value: Any) -> float:
    number = value[0] if isinstance(value, list) and len(value) == 1 else value
    if number is None:
        return nan
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise row.error(f"{str(value)[:40]}; expected one number, x or [x]", key, "scores do not fit")
    return float(number) if isfinite(number) else nan
