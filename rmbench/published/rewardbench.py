"""RewardBench's published results, v1 and v2: `eval-set/`, `eval-set-scores/`, the same for prior sets."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from sys import intern
from typing import Any

from rmbench.data import ItemSet
from rmbench.data.rewardbench import item_id, tie_cluster, tie_name
from rmbench.errors import DataError
from rmbench.metrics.official import part_name
from rmbench.metrics.rewardbench import PRIOR_SETS, section_of
from rmbench.metrics.rewardbench2 import SUBSETS, TIES
from rmbench.published.rewardbench_scores import ScoreRow, ScoresFile, read_scores
from rmbench.published.run import (
    Import,
    PublishedRow,
    PublishedRun,
    check_finite,
    hash_of_ids,
    left_out,
    reward_row,
)
from rmbench.published.tables import read_objects

SCORES, ACCURACIES = "eval-set-scores", "eval-set"
PRIOR_SCORES, PRIOR_ACCURACIES = "pref-sets-scores", "pref-sets"
_OTHER = (ACCURACIES, PRIOR_SCORES, PRIOR_ACCURACIES, "best-of-n")


def read(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: one scores file, a folder of them, or a copy of the whole layout.

    A model's name is its path below `eval-set-scores/`, which tells reference-free runs and revisions apart;
    what stands inside a file may not.

    Raises:
        DataError: If there is none, or one does not fit.
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
        notes.append("verdicts without scores: margins, and with them calibration, mean nothing")
    if scores.n_results_differ:
        notes.append(
            f"{scores.n_results_differ:,} published results are not what the scores say; the scores count"
        )
    if scores.rows and scores.rows[0].id is None:
        notes.append("no ids: rows are told apart by their order within a subset")
    return notes


def _prior_rows(layout: Path, name: str) -> tuple[list[ScoreRow], list[str], Counter[str]]:
    """Return the rows of the prior sets, where the model has scores on them; remarks; what was left out."""
    path = layout / PRIOR_SCORES / f"{name}.json"
    if not path.is_file():
        known = set(_accuracies(layout, PRIOR_ACCURACIES, name)) & set(PRIOR_SETS)
        notes = ["prior sets are published as accuracies only, and left out"] if known else []
        return [], notes, Counter()
    found = read_scores(path)
    rows = [row for row in found.rows if row.subset in PRIOR_SETS]
    # Ids of these sets come from many sources: they are unique by their order only.
    without = [ScoreRow(r.subset, None, r.scores, r.lengths, r.n_right) for r in rows]
    return without, _remarks(found) if found.verdicts else [], found.dropped


def _rows_by_id(file: Path, rows: Sequence[ScoreRow]) -> list[PublishedRow]:
    """Return the rows as items of their own: each a cluster, since prompts are not known."""
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
    """Return the data's items with the scores of the rows of their subset and id, and how many rows are left.

    Never by text: published texts carry the template of each model. Without ids, by order within a subset.
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
            " (another revision of the data? without --data the file stands for itself)",
            path=file,
            key="id",
            reason="rows are missing",
        )
    return made, len(rows) - len(made)


def _accuracies(layout: Path | None, folder: str, name: str) -> dict[str, float]:
    """Return the published accuracies of a model by subset; none where the layout has no such file."""
    path = None if layout is None else layout / folder / f"{name}.json"
    if path is None or not path.is_file():
        return {}
    value: Any = read_objects(path)[0]
    if not isinstance(value, Mapping):
        raise DataError(f"{type(value).__name__}; expected an object of accuracies", path=path)
    return {k: float(v) for k, v in value.items() if isinstance(v, int | float) and not isinstance(v, bool)}


def _accuracy_remarks(rows: Sequence[ScoreRow], published: Mapping[str, float], judge: bool) -> list[str]:
    """Return what does not fit between the published accuracies and the published scores."""
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
