"""Run records as files that RewardBench's own analysis reads: accuracies and scores of both versions.

Results go to `eval-set/<org>/<model>.json` and `eval-set-scores/<org>/<model>.json`, prior sets to
`pref-sets/` and `pref-sets-scores/`, each version in a folder named like its published results. Keys, columns
and spelling are those that `run_rm.py`, `run_v2.py` and `run_generative_v2.py` write and that
`analysis/utils.py` and `analysis/run_ensemble_offline.py` read. The former fails without `model`,
`model_type` or `chat_template`.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.benchmarks.official import part_name
from rmbench.benchmarks.rewardbench.official import PRIOR_SETS, TIES, best_of_k
from rmbench.core.files import slug, write_atomic
from rmbench.errors import DataError
from rmbench.results.read import find_records
from rmbench.results.run import Run
from rmbench.tasks import read_task_items
from rmbench.tasks.spec import load_task
from rmbench.types import Item

FOLDERS = {"rewardbench": "reward-bench-results", "rewardbench2": "reward-bench-2-results"}
"""Task -> folder, named like the published results, which are separate for the two versions too."""
_NO_ORG = "local"
_ROW = "row "


@dataclass(frozen=True, slots=True)
class _Row:
    """One stored row, in the terms of the published files."""

    subset: str
    id: str
    scores: tuple[float, ...]
    """Right answers first; NaN without one."""
    n_right: int
    texts: tuple[list[dict[str, str]], ...] | None
    """The conversation of each answer, without any template; None without data."""


def exportable(paths: Iterable[Path]) -> tuple[list[Run], Counter[str]]:
    """Return the records at `paths` that can be exported, and counts of the others by reason.

    Raises:
        DataError: If a path does not exist, or no record is left.
    """
    found: dict[Path, Run] = {}
    left = Counter[str]()
    for path in paths:
        if not path.exists():
            raise DataError("there is no such file or folder", path=path)
        for run in find_records(path):
            if run.path.resolve() in found:
                continue
            if run.record.task not in FOLDERS:
                left["records of other tasks"] += 1
            elif run.limit is not None:
                left["records of a sample (--limit)"] += 1
            else:
                found[run.path.resolve()] = run
    if not found:
        why = "".join(f"; {n:,} {reason}" for reason, n in sorted(left.items()))
        shown = ", ".join(map(str, paths))
        raise DataError(f"no whole record of {' or '.join(FOLDERS)}{why}", path=shown)
    return list(found.values()), left


def export_runs(runs: Sequence[Run], out: Path, data: Path | None) -> list[Path]:
    """Read and check all runs, then write their files; return the paths of the files.

    Args:
        runs: Records of RewardBench 1 and 2.
        out: Folder; existing files are replaced.
        data: The benchmark's own data, for the columns of texts; None leaves them out.

    Raises:
        DataError: If two records are of the same model, or one does not fit the data.
        StoreError: If stored rewards are damaged.
    """
    places: dict[tuple[str, Path], Run] = {}
    for run in runs:
        before = places.setdefault((FOLDERS[run.record.task], place_of_model(run.record.model)), run)
        if before is not run:
            raise DataError(
                f"of the same model and version as {before.path}; export one of them", path=run.path
            )
    items = {
        task: _items(task, data) for task in sorted({run.record.task for run in runs}) if data is not None
    }
    for run in runs:
        for _ in _files(run, items.get(run.record.task)):
            pass
    written = []
    for (version, place), run in places.items():
        for folder, value in _files(run, items.get(run.record.task)):
            path = out / version / folder / place
            write_atomic(path, json.dumps(value, indent=4, sort_keys=True, allow_nan=False))
            written.append(path)
    return written


def _items(task: str, data: Path | None) -> dict[str, Item]:
    return {item.id: item for item in read_task_items(load_task(task), data, offline=True).items}


def place_of_model(model: str) -> Path:
    """Return `<org>/<model>.json` for any name: the analysis looks for two levels."""
    org, _, name = model.partition("/")
    if not name:
        org, name = _NO_ORG, model
    return Path(slug(org)) / f"{slug(name)}.json"


def _files(run: Run, items: Mapping[str, Item] | None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (folder, content) of a run."""
    stored = run.rows()
    pairwise = bool(stored) and "flips" in stored[0]
    rows = sorted((_row(run, row, items) for row in stored), key=_order)
    fingerprint = run.fingerprint
    facts = {
        "model": run.record.model,
        "model_type": published_type(fingerprint),
        "chat_template": fingerprint.get("chat_template"),
    }
    ties = run.record.metrics.get(part_name(TIES))
    first = run.record.task == "rewardbench"
    for prefix, part in (("eval-set", False), ("pref-sets", True)):
        chosen = [row for row in rows if (first and row.subset in PRIOR_SETS) == part]
        if not chosen:
            continue
        columns = (_columns_v1 if first else _columns_v2)(chosen, pairwise)
        yield (
            prefix,
            {**_accuracies(chosen, columns["results"], None if ties is None else ties.value), **facts},
        )
        yield f"{prefix}-scores", {**columns, **_texts(chosen, first), **facts}


def published_type(fingerprint: Mapping[str, Any]) -> str:
    """Return the published type of a model: that of its published results, else by its kind here."""
    kind = fingerprint.get("kind")
    if kind == "dpo":
        return "DPO Ref. Free" if fingerprint["reference"] == "none" else "DPO"
    known = {"hf": "Seq. Classifier", "judge": "Generative RM"}
    return str(fingerprint.get("model_type") or known.get(str(kind), "Custom Classifier"))


def _row(run: Run, row: Mapping[str, Any], items: Mapping[str, Item] | None) -> _Row:
    subset = row["strata"].get("subset", "")
    identifier = row["id"].removeprefix(f"{subset}:")
    n_right = row["gold"].count(1.0)
    if not subset or row["gold"] != [1.0] * n_right + [0.0] * (len(row["gold"]) - n_right) or not n_right:
        raise DataError(f"{row['id']!r} is no item of the benchmark", path=run.rewards_path, key="gold")
    scores = tuple(nan if v is None else v for v in row["rewards"])
    if run.record.task == "rewardbench" and len(scores) != 2:
        raise DataError(f"{row['id']!r} is no pair", path=run.rewards_path, key="rewards")
    if items is None:
        return _Row(subset, identifier, scores, n_right, None)
    item = items.get(row["id"])
    if item is None or [r.gold for r in item.responses] != row["gold"]:
        raise DataError(
            f"{row['id']!r} is not in --data with as many answers", path=run.rewards_path, key="id"
        )
    texts = tuple([dict(turn) for turn in item.conversation(k)] for k in range(len(scores)))
    return _Row(subset, identifier, scores, n_right, texts)  # type: ignore[arg-type]


def _order(row: _Row) -> tuple[str, int, str]:
    """Return the sort key of a row: rows without ids have a number, their place within the subset."""
    number = row.id.removeprefix(_ROW)
    return row.subset, int(number) if number.isdecimal() else -1, row.id


def _columns_v1(rows: Sequence[_Row], pairwise: bool) -> dict[str, list[Any]]:
    results: list[float] = []
    for row in rows:
        chosen, rejected = row.scores
        undecided = pairwise and not chosen > rejected and not chosen < rejected
        results.append(0.5 if undecided else int(chosen > rejected))
    columns: dict[str, list[Any]] = {
        "subset": [row.subset for row in rows],
        "results": results,
        "scores_chosen": [None if pairwise else _json(row.scores[0]) for row in rows],
        "scores_rejected": [None if pairwise else _json(row.scores[1]) for row in rows],
    }
    if not any(row.id.startswith(_ROW) for row in rows):
        columns["id"] = [_number_or_text(row.id) for row in rows]
    return columns


def _columns_v2(rows: Sequence[_Row], pairwise: bool) -> dict[str, list[Any]]:
    """Return the columns; a model that compares has only results, and scores for Ties."""
    results: list[float] = []
    for row in rows:
        # For Ties the result has no meaning, but it is published.
        result = best_of_k(np.array(row.scores))
        unread = pairwise and any(np.isnan(row.scores))
        results.append(1.0 / len(row.scores) if unread else result)
    return {
        "id": [row.id for row in rows],
        "subset": [row.subset for row in rows],
        "results": results,
        "num_correct": [row.n_right for row in rows],
        "scores": [
            None if pairwise and row.subset != TIES else [_json(v) for v in row.scores] for row in rows
        ],
    }


def _texts(rows: Sequence[_Row], first: bool) -> dict[str, list[Any]]:
    texts = [row.texts for row in rows if row.texts is not None]
    if len(texts) < len(rows):
        return {}
    if not first:
        return {"text": [list(t) for t in texts]}
    return {"text_chosen": [t[0] for t in texts], "text_rejected": [t[1] for t in texts]}


def _accuracies(rows: Sequence[_Row], results: Sequence[float], ties: float | None) -> dict[str, float]:
    right, count = Counter[str](), Counter[str]()
    for row, result in zip(rows, results, strict=True):
        count[row.subset] += 1
        right[row.subset] += result  # type: ignore[assignment]
    found = {subset: right[subset] / n for subset, n in count.items() if subset != TIES}
    return found | ({TIES: ties} if ties is not None and TIES in count else {})


def _number_or_text(identifier: str) -> int | str:
    """Return the id as version 1 writes it: as a number if it is one."""
    return int(identifier) if identifier.isdecimal() and str(int(identifier)) == identifier else identifier


def _json(value: float) -> float | None:
    return value if np.isfinite(value) else None
