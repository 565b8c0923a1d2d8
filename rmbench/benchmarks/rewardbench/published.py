"""RewardBench's published results: both versions, prior sets, and best of n on AlpacaEval.

Versions 1 and 2 are in `eval-set/` and `eval-set-scores/`; prior sets are in `pref-sets/` and
`pref-sets-scores/`. Best of n has a reward model's score of each sample of one generator, in
`best-of-n/alpaca_eval/<generator>/<org>/<model>.json`: rows of `id` ([example, sample]), `scores` (x or [x]),
`model` (the writer of the sample) and more, as concatenated pretty-printed objects. The judge's verdicts are
published elsewhere, in AlpacaEval's layout, with each sample as a generator:
`<writer>.<sample>/<annotator>/annotations.json`. Schema and join are those of `scripts/run_bon.py` and
`bon_eval/rm_bon_eval.py` in the benchmark's repository.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from sys import intern
from typing import Any

from rmbench.benchmarks.official import part_name
from rmbench.benchmarks.rewardbench.data import item_id, tie_cluster, tie_name
from rmbench.benchmarks.rewardbench.official import PRIOR_SETS, SUBSETS, TIES, section_of
from rmbench.benchmarks.rewardbench.scores import ScoreRow, ScoresFile, read_scores, score_of
from rmbench.errors import ConfigError, DataError
from rmbench.results.published import (
    FORMATS,
    Import,
    PublishedRow,
    PublishedRun,
    Table,
    check_finite,
    hash_of_ids,
    left_out,
    read_objects,
    read_table,
    reward_row,
)
from rmbench.tasks import ItemSet
from rmbench.tasks.spec import TaskSpec, apply_params
from rmbench.types import Response

SCORES, ACCURACIES = "eval-set-scores", "eval-set"
PRIOR_SCORES, PRIOR_ACCURACIES = "pref-sets-scores", "pref-sets"
_OTHER = (ACCURACIES, PRIOR_SCORES, PRIOR_ACCURACIES, "best-of-n")


@FORMATS.register("rewardbench")
def read(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: one scores file, a folder of them, or a copy of the whole layout.

    A model's name is its path below `eval-set-scores/`. Paths distinguish reference-free runs and revisions;
    the names inside files may not.

    Raises:
        DataError: If there is no file, or one does not fit.
    """
    files = _scores_files(path)
    runs = list(request.each(files, lambda file: _run(file, path, request)))
    seen: dict[tuple[str, str], str] = {}
    for run in runs:
        before = seen.setdefault((run.model, run.spec.name), run.source)
        if before != run.source:
            raise DataError(f"the model {run.model!r} is in {before} and in {run.source}", path=path)
    return runs


def _scores_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("there is no such file or folder", path=path)
    root = path / SCORES if (path / SCORES).is_dir() else path
    below = [p for p in root.rglob("*.json") if not set(p.relative_to(root).parts[:-1]) & set(_OTHER)]
    files = sorted((p for p in below if not p.name.startswith(".")), key=lambda p: p.as_posix())
    if not files or path.name in _OTHER:
        raise DataError(f"no scores file; looked for {SCORES}/<org>/<model>.json", path=path)
    return files


def _place(file: Path, start: Path) -> tuple[Path | None, str]:
    """Return the folder of the layout, if the file is in one, and the model's name."""
    parts = file.parts
    if SCORES in parts:
        at = len(parts) - 1 - parts[::-1].index(SCORES)
        return Path(*parts[:at]), "/".join(parts[at + 1 :]).removesuffix(".json")
    below = file.relative_to(start).as_posix() if start.is_dir() else file.name
    return None, below.removesuffix(".json")


def _run(file: Path, start: Path, request: Import) -> PublishedRun:
    layout, name = _place(file, start)
    scores = read_scores(file)
    dropped, rows = Counter(scores.dropped), list(scores.rows)
    published = _accuracies(layout, ACCURACIES, name)
    checked = [s for s in SUBSETS if s in published] if scores.version == 2 else []
    notes = _remarks(scores)
    if scores.version == 1 and request.prior_sets and layout:
        prior, why, outside = _prior_rows(layout, name)
        rows += prior
        notes += why
        dropped += outside
    spec, items = request.spec(scores.task), request.items(scores.task)
    if items is None:
        notes.append("prompts are not known without --data: items that share one count as independent")
        made = sorted(_rows_by_id(file, rows), key=lambda row: row.id)
        data_hash = hash_of_ids(spec.name, made)
    else:
        made, extra = _joined(file, rows, items)
        dropped["rows that the data does not have"] = extra
        data_hash = items.data_hash
    check_finite(file, spec, made)
    if scores.version == 1:
        notes += _accuracy_remarks(scores.rows, published, scores.verdicts)
    model = name if layout or start.is_dir() else scores.model or name
    return PublishedRun(
        model=model,
        spec=spec,
        rows=made,
        data_hash=data_hash,
        source=f"{SCORES}/{name}.json" if layout else file.name,
        format="rewardbench",
        facts={"model_type": scores.model_type},
        pairwise=scores.verdicts,
        dropped=left_out(dropped),
        notes=notes,
        published={part_name(s): published[s] for s in checked},
    )


def _remarks(scores: ScoresFile) -> list[str]:
    notes = []
    if scores.verdicts:
        notes.append("verdicts without scores: margins and calibration have no meaning")
    if scores.n_results_differ:
        notes.append(
            f"{scores.n_results_differ:,} published results are not what the scores say; the scores count"
        )
    if scores.rows and scores.rows[0].id is None:
        notes.append("no ids: rows are identified by their order within a subset")
    return notes


def _prior_rows(layout: Path, name: str) -> tuple[list[ScoreRow], list[str], Counter[str]]:
    """Return rows of the prior sets, if the model has scores on them; remarks; counts of left-out rows."""
    path = layout / PRIOR_SCORES / f"{name}.json"
    if not path.is_file():
        known = set(_accuracies(layout, PRIOR_ACCURACIES, name)) & set(PRIOR_SETS)
        notes = ["prior sets are published as accuracies only, and left out"] if known else []
        return [], notes, Counter()
    found = read_scores(path)
    rows = [row for row in found.rows if row.subset in PRIOR_SETS]
    # Ids of these sets come from many sources and are not unique: the order identifies rows.
    without = [ScoreRow(r.subset, None, r.scores, r.lengths, r.n_right) for r in rows]
    return without, _remarks(found) if found.verdicts else [], found.dropped


def _rows_by_id(file: Path, rows: Sequence[ScoreRow]) -> list[PublishedRow]:
    """Return the rows as items, each its own cluster, since prompts are not known."""
    made, seen, count = [], set[str](), Counter[str]()
    for number, row in enumerate(rows, 1):
        count[row.subset] += 1
        name = intern(item_id(row.subset, row.id if row.id is not None else f"row {count[row.subset]}"))
        if name in seen:
            raise DataError(f"{name!r} occurs twice", path=file, line=number, key="id", reason="duplicate id")
        seen.add(name)
        made.append(PublishedRow(name, row.scores, row.gold, row.lengths, *_cluster(file, number, name, row)))
    return made


def _cluster(file: Path, number: int, name: str, row: ScoreRow) -> tuple[str, dict[str, str]]:
    if row.subset != TIES:
        section = section_of(row.subset)
        return name, {**({"section": section} if section else {}), "subset": row.subset}
    try:
        ties = tie_name(row.id or "")
    except ValueError as error:
        raise DataError(str(error), path=file, line=number, key="id", reason="id does not fit") from None
    return intern(tie_cluster(ties)), {"subset": TIES, "ties": ties}


def _joined(file: Path, rows: Sequence[ScoreRow], items: ItemSet) -> tuple[list[PublishedRow], int]:
    """Return the data's items with the scores of their rows, and the number of rows without an item.

    Subset and id join them, never texts: published texts contain each model's template. Without ids, the
    order within a subset joins them.
    """
    by_name: dict[str, ScoreRow] = {}
    order: dict[str, list[ScoreRow]] = {}
    for number, row in enumerate(rows, 1):
        order.setdefault(row.subset, []).append(row)
        name = None if row.id is None else item_id(row.subset, row.id)
        if name is not None and by_name.setdefault(name, row) is not row:
            raise DataError(f"{name!r} occurs twice", path=file, line=number, key="id", reason="duplicate id")
    sizes = Counter(item.strata["subset"] for item in items.items)
    by_order = {
        s: iter(found) for s, found in order.items() if found[0].id is None and len(found) == sizes[s]
    }
    made, missing = list[PublishedRow](), list[str]()
    for item in items.items:
        ordered = by_order.get(item.strata["subset"])
        found = by_name.get(item.id) if ordered is None else next(ordered)
        if found is None:
            missing.append(item.id)
            continue
        gold = tuple(r.gold for r in item.responses)
        if found.gold != gold:
            problem = f"{item.id}: {found.n_right} right of {len(found.scores)} scores; the data has others"
            raise DataError(problem, path=file, key="scores")
        made.append(reward_row(item, found.scores))
    if missing:
        few = ", ".join(map(repr, missing[:3]))
        raise DataError(
            f"no row for {len(missing):,} of {len(items.items):,} items of {items.source}: {few}"
            " (another revision of the data? without --data the file is imported alone)",
            path=file,
            key="id",
            reason="rows are missing",
        )
    return made, len(rows) - len(made)


def _accuracies(layout: Path | None, folder: str, name: str) -> dict[str, float]:
    """Return the published accuracies of a model by subset; empty if the layout has no such file."""
    path = None if layout is None else layout / folder / f"{name}.json"
    if path is None or not path.is_file():
        return {}
    value: Any = read_objects(path)[0]
    if not isinstance(value, Mapping):
        raise DataError(f"{type(value).__name__}; expected an object of accuracies", path=path)
    return {k: float(v) for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _accuracy_remarks(rows: Sequence[ScoreRow], published: Mapping[str, float], judge: bool) -> list[str]:
    """Return the differences between published accuracies and published scores, as remarks."""
    right, count = Counter[str](), Counter[str]()
    for row in rows:
        chosen, rejected = row.scores
        count[row.subset] += 1
        right[row.subset] += 0.5 if judge and chosen == rejected else float(chosen > rejected)  # type: ignore[assignment]
    return [
        f"{subset}: published accuracy {published[subset]:.4f}, its scores give {right[subset] / n:.4f}"
        for subset, n in sorted(count.items())
        if subset in published and abs(published[subset] - right[subset] / n) > 5e-5
    ]


_TASK = "alpacaeval-bon"
_SUMMARIES = ("bon_eval_results.json", "eval_results")
"""Files beside the scores: win rates without rows."""


@FORMATS.register("rewardbench-bon")
def read_bon(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: one scores file, or a generator's folder of them.

    Raises:
        ConfigError: If `--data` with the candidates' gold is missing.
        DataError: If there is no scores file, or one does not fit.
    """
    files = _files(path)
    items = request.items(_TASK)
    if items is None:
        layout = "<writer>.<sample>/<annotator>/annotations.json"
        raise ConfigError(f"{path}: scores without gold; give --data FOLDER with {layout}")
    if not items.items:
        raise ConfigError(f"{items.source}: no candidate is left, only {dict(items.dropped)}")
    spec = request.spec(_TASK)
    if "gold_meaning" not in request.task_options:
        reference = items.items[0].responses[0].tags["reference"]
        spec = apply_params(spec, {"gold_meaning": f"P(beats {reference})"})
    return list(request.each(files, lambda file: _bon_run(file, path, spec, items)))


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DataError("there is no such file or folder", path=path)
    below = [p for p in path.rglob("*.json") if not set(p.relative_to(path).parts) & set(_SUMMARIES)]
    files = sorted((p for p in below if not p.name.startswith(".")), key=lambda p: p.as_posix())
    if not files:
        raise DataError("no scores file; looked for <org>/<model>.json", path=path)
    return files


def _bon_run(file: Path, start: Path, spec: TaskSpec, items: ItemSet) -> PublishedRun:
    table = read_table(file)
    scores = _scores(table)
    rows, wanted = list[PublishedRow](), list[tuple[int, int]]()
    for item in items.items:
        places = [_bon_place(table, response) for response in item.responses]
        wanted += places
        rows.append(reward_row(item, tuple(scores[place] for place in places if place in scores)))
    if missing := [place for place in wanted if place not in scores]:
        problem = f"no score for {len(missing):,} of {len(wanted):,} responses of {items.source}"
        raise DataError(
            f"{problem}, first {list(missing[0])}", path=file, key="id", reason="rows are missing"
        )
    check_finite(file, spec, rows)
    extra = Counter({"scores of responses that the data does not have": len(scores.keys() - set(wanted))})
    return PublishedRun(
        model=_name(file, start),
        spec=spec,
        rows=rows,
        data_hash=items.data_hash,
        source=file.name,
        format="rewardbench-bon",
        facts={},
        dropped={**items.dropped, **left_out(extra)},
    )


def _name(file: Path, start: Path) -> str:
    """Return the model's name: its path below the generator's folder."""
    parts = file.parts
    if "alpaca_eval" in parts[:-2]:
        below = parts[len(parts) - parts[::-1].index("alpaca_eval") + 1 :]
        if below:
            return "/".join(below).removesuffix(".json")
    below = file.relative_to(start).parts if start.is_dir() else (file.name,)
    return "/".join(below).removesuffix(".json")


def _scores(table: Table) -> dict[tuple[int, int], float]:
    """Return (example, sample) -> score; NaN for null."""
    found: dict[tuple[int, int], float] = {}
    values = table.required("scores")
    for k, place in enumerate(table.required("id")):
        if (
            not isinstance(place, list)
            or len(place) != 2
            or not all(isinstance(n, int) and not isinstance(n, bool) for n in place)
        ):
            raise table.error(k, "id", f"{place!r}; expected [example, sample], two whole numbers")
        key = (place[0], place[1])
        if key in found:
            raise table.error(k, "id", f"{place!r} occurs twice")
        found[key] = score_of(table, k, "scores", values[k], allow_null=True)
    return found


def _bon_place(table: Table, response: Response) -> tuple[int, int]:
    """Return (example, sample) of a candidate; its writer must be the writer of the scored samples.

    Numbers of examples and samples are the same for all writers, so they would fit another writer's too.
    """
    writer, _, sample = response.tags["generator"].rpartition(".")
    if not sample.isdecimal():
        problem = f"--data has the generator {response.tags['generator']!r}; expected <writer>.<sample>"
        raise DataError(problem, path=table.path, key="id")
    scored = table.fact("model") or ""
    if scored.rpartition("/")[2] != writer:
        problem = f"{scored!r}, but --data has samples of {writer!r}"
        raise DataError(problem, path=table.path, key="model", reason="another generator")
    return int(response.tags["example"]), int(sample)
