"""One scores file of RewardBench 1 or 2: rows of subset, id, scores and the published result."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import Any

import numpy as np

from rmbench.benchmarks.rewardbench.data import KNOWN_SUBSETS
from rmbench.benchmarks.rewardbench.official import SUBSETS, TIES, best_of_k
from rmbench.errors import DataError
from rmbench.results.published import Table, read_table


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One row of a scores file."""

    subset: str
    id: str | None
    """None if the file has no ids, such as those of DPO models."""
    scores: tuple[float, ...]
    """Right answers first; NaN if no score was published."""
    lengths: tuple[int, ...]
    """Lengths of the templated texts in characters; all 0 without texts."""
    n_right: int

    @property
    def gold(self) -> tuple[float, ...]:
        """1 for the right answers, 0 for the others."""
        return (1.0,) * self.n_right + (0.0,) * (len(self.scores) - self.n_right)


@dataclass(frozen=True, slots=True)
class ScoresFile:
    """A scores file, read and checked."""

    path: Path
    version: int
    """1 or 2."""
    rows: tuple[ScoreRow, ...]
    model: str | None
    model_type: str
    verdicts: bool
    """True if rows have results and no scores (except Ties): a judge, or a model that only compares."""
    dropped: Counter[str]
    n_results_differ: int
    """Number of rows whose published result contradicts their scores (Ties excluded: no meaning there)."""

    @property
    def task(self) -> str:
        """Name of the task."""
        return "rewardbench" if self.version == 1 else "rewardbench2"


_COLUMNS = {
    "id", "num_correct", "results", "scores", "scores_chosen", "scores_rejected", "subset", "text",
    "text_chosen", "text_rejected",
}  # fmt: skip


def read_scores(path: Path) -> ScoresFile:
    """Return the rows of a scores file; other columns are ignored.

    Raises:
        DataError: With file, row and column, if something does not fit.
    """
    table = read_table(path)
    if "subset" not in table.columns:
        raise DataError(
            "no column 'subset': accuracies, not scores? expected a file of eval-set-scores/", path=path
        )
    for key in _COLUMNS & table.facts.keys():
        if table.facts[key] is not None:
            problem = f"{str(table.facts[key])[:40]!r}; expected a list, one value per row"
            raise DataError(problem, path=path, key=key)
    subsets = [_text(table, k, "subset", v) for k, v in enumerate(table.required("subset"))]
    # The two versions have no subset in common; columns vary.
    version = 2 if sum(s in SUBSETS for s in subsets) > sum(s in KNOWN_SUBSETS for s in subsets) else 1
    known = SUBSETS if version == 2 else KNOWN_SUBSETS
    keep = [k for k, s in enumerate(subsets) if s in known]
    if not keep:
        found = ", ".join(sorted(set(subsets))[:5])
        raise DataError(f"no row of a known subset; found {found}", path=path, key="subset")
    dropped = Counter({"rows of other subsets": table.n_rows - len(keep)})
    ids, results = table.column("id"), table.column("results")
    scores = table.column("scores" if version == 2 else "scores_chosen")
    if scores is None and results is None:
        raise DataError("neither scores nor results; expected one of them", path=path, key="results")
    rows: list[ScoreRow] = []
    n_scored = differ = 0
    for k in keep:
        name = _identifier(table, k, ids)
        result = None if results is None else score_of(table, k, "results", results[k])
        # A judge of version 2 rates the answers of Ties; elsewhere it only picks one.
        scored = scores is not None and (version == 1 or scores[k] is not None)
        made = (_row_v2 if version == 2 else _row_v1)(table, k, subsets[k], name, scored, result)
        if made is None:
            dropped["rows of Ties without scores"] += 1
            continue
        rows.append(made)
        n_scored += scored
        differ += scored and result is not None and subsets[k] != TIES and _result(made) != result
    return ScoresFile(
        path=path,
        version=version,
        rows=tuple(rows),
        model=table.fact("model"),
        model_type=table.fact("model_type") or "",
        verdicts=n_scored < len(rows),
        dropped=dropped,
        n_results_differ=differ,
    )


def _row_v1(
    table: Table, k: int, subset: str, name: str | None, scored: bool, result: float | None
) -> ScoreRow:
    texts = [table.columns[key][k] for key in ("text_chosen", "text_rejected") if key in table.columns]
    if scored:
        pair = [
            score_of(table, k, key, table.required(key)[k], allow_null=True)
            for key in ("scores_chosen", "scores_rejected")
        ]
    else:
        # 1 and 0 are verdicts, one half is a tie or an answer that could not be read.
        if result not in (0.0, 0.5, 1.0):
            raise table.error(k, "results", f"{result}; expected 0, 0.5 or 1 where there are no scores")
        pair = [result, 1.0 - result]
    return ScoreRow(subset, name, tuple(pair), _lengths(table, k, texts if len(texts) == 2 else None, 2), 1)


def _row_v2(
    table: Table, k: int, subset: str, name: str | None, scored: bool, result: float | None
) -> ScoreRow | None:
    texts = table.columns["text"][k] if "text" in table.columns else None
    right = table.column("num_correct")
    if right is not None:
        n_right = _whole(table, k, "num_correct", right[k])
    elif subset == TIES:
        raise table.error(k, "num_correct", "missing; expected how many answers are right in Ties")
    else:
        n_right = 1
    if scored:
        values = table.required("scores")[k]
        if not isinstance(values, list) or len(values) <= n_right:
            raise table.error(k, "scores", f"expected a list of more than {n_right} scores")
        scores = tuple(score_of(table, k, "scores", v, allow_null=True) for v in values)
    elif subset == TIES:
        return None
    else:
        size = len(texts) if isinstance(texts, list) and texts else 4
        scores = _verdict(table, k, result, size)
    return ScoreRow(subset, name, scores, _lengths(table, k, texts, len(scores)), n_right)


def _verdict(table: Table, k: int, result: float | None, size: int) -> tuple[float, ...]:
    """Return scores that give a published result: 1/k is a tie of k answers at the top, one of them right.

    With 0, a wrong answer was picked. The file does not say which: all of them are put above the right one.
    """
    if result is None or not 0.0 <= result <= 1.0:
        raise table.error(k, "results", f"{result}; expected 0 or 1/k where there are no scores")
    if result == 0.0:
        return (0.0,) + (1.0,) * (size - 1)
    top = round(1.0 / result)
    if top > size or abs(1.0 / top - result) > 1e-6:
        raise table.error(k, "results", f"{result}; expected 0 or 1/k for {size} answers")
    return (1.0,) * top + (0.0,) * (size - top)


def _result(row: ScoreRow) -> float:
    """Return the result that follows from the scores: `[c > r]`, or shared credit for the top."""
    if len(row.scores) == 2:
        return float(row.scores[0] > row.scores[1])
    return best_of_k(np.array(row.scores))


def _identifier(table: Table, k: int, ids: Sequence[Any] | None) -> str | None:
    if ids is None or ids[k] is None:
        return None
    if isinstance(ids[k], bool) or not isinstance(ids[k], int | str) or ids[k] == "":
        raise table.error(k, "id", f"{ids[k]!r}; expected text or a whole number")
    return str(ids[k])


def score_of(table: Table, k: int, key: str, value: Any, *, allow_null: bool = False) -> float:
    """Return a score that is written as `x` or, like logits of shape (B, 1), as `[x]`; NaN for null."""
    shown = value
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    if value is None and (allow_null or key == "results"):
        return nan
    if isinstance(value, bool) and key == "results":
        return float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        what = f"a list of {len(value)}" if isinstance(value, list) else repr(shown)[:40]
        raise table.error(k, key, f"{what}; expected one number, x or [x]")
    number = float(value)
    return number if isfinite(number) else nan


def _whole(table: Table, k: int, key: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise table.error(k, key, f"{value!r}; expected a whole number from 1")
    return value


def _text(table: Table, k: int, key: str, value: Any) -> str:
    if not isinstance(value, str):
        raise table.error(k, key, f"{value!r}; expected text")
    return value


def _lengths(table: Table, k: int, texts: Any, n: int) -> tuple[int, ...]:
    """Return the lengths of templated texts: all include prompt and template, so differences are right.

    All are 0 where the file has no texts.

    Raises:
        DataError: If there is not one text per score, or one is neither text nor messages.
    """
    if texts is None or (isinstance(texts, list) and all(text is None for text in texts)):
        return (0,) * n
    if not isinstance(texts, list) or len(texts) != n:
        found = f"{len(texts)} texts" if isinstance(texts, list) else repr(texts)[:40]
        raise table.error(k, "text", f"{found}; expected one per score, {n}")
    return tuple(_length(table, k, text) for text in texts)


def _length(table: Table, k: int, text: Any) -> int:
    if isinstance(text, str):
        return len(text)
    if isinstance(text, list) and all(
        isinstance(t, dict) and isinstance(t.get("content"), str) for t in text
    ):
        return sum(len(t["content"]) for t in text)
    raise table.error(k, "text", f"{repr(text)[:40]}; expected text or a list of messages")
