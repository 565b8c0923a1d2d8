"""What a study found: the differences to the reference, in sentences and as a figure per metric."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rmbench.core.digits import digits_of_estimates
from rmbench.core.escape import one_line
from rmbench.core.files import slug
from rmbench.plot.forest import MOST, ForestRow, draw_forest, turned
from rmbench.stats.compare import holm
from rmbench.study.spec import StudySpec
from rmbench.study.tables import Row

_FEW = 3
"""Cells up to which each has a sentence of its own."""
FOUND: Mapping[str, str] = {
    "accuracy": "accuracy",
    "win_rate": "best-of-N win rate",
    "gold": "gold of the pick",
    "nll": "NLL as trained",
    "nll_scaled": "NLL after a fitted temperature",
    "ece_scaled": "ECE after a fitted temperature",
}
"""Metric (before the @) -> what it is called: those that are told in words and drawn."""
_TOLD = ("accuracy", "win_rate", "nll")


def stem_of(row: Row) -> str:
    """Return the metric of a row without its n."""
    return row.metric.partition("@")[0]


def kept(rows: Sequence[Row]) -> dict[int, bool]:
    """Return id of row -> whether its difference survives Holm's correction over all of `rows`."""
    tested = [r for r in rows if r.difference and r.difference.p_value is not None]
    adjusted = holm([float(r.difference.p_value or 0.0) for r in tested if r.difference])
    survived = {id(r): p < 0.05 for r, p in zip(tested, adjusted, strict=True)}
    return {id(r): survived.get(id(r), False) for r in rows}


def finding(spec: StudySpec, rows: Sequence[Row]) -> list[str]:
    """Return what the study found: of each method, by accuracy, win rate and NLL, against the reference."""
    lines = []
    for metric in _TOLD:
        here = [r for r in rows if stem_of(r) == metric and r.difference]
        sure = kept(here)
        for method in spec.methods:
            found = [r for r in here if r.method == method.name]
            if found and len(found) <= _FEW:
                lines += [_sentence(r, spec, apart=sure[id(r)]) for r in found]
            elif found:
                lines.append(_counted(found, spec, sure))
    return lines


def _gain(row: Row) -> float:
    assert row.difference is not None  # noqa: S101  (callers look first)
    return float(turned(row.difference.difference).value)


def _sentence(row: Row, spec: StudySpec, *, apart: bool) -> str:
    assert row.difference is not None  # noqa: S101
    gain = turned(row.difference.difference)
    digits = digits_of_estimates([gain])
    size = digits.estimate(gain.value, gain.ci95, plus=True)
    word = ("better" if gain.value > 0.0 else "worse") if apart else "not told apart"
    if gain.ci95 is None:
        word = "no interval is known, so nothing is shown"
    where = ", ".join(one_line(part, 40) for part in (row.base, row.data, row.task))
    both = f"{one_line(row.method, 40)} against {one_line(spec.reference, 40)}"
    return f"{both}, {FOUND[stem_of(row)]} ({where}): a gain of {size}: {word}."


def _counted(rows: Sequence[Row], spec: StudySpec, sure: Mapping[int, bool]) -> str:
    better = sum(sure[id(r)] and _gain(r) > 0.0 for r in rows)
    worse = sum(sure[id(r)] and _gain(r) < 0.0 for r in rows)
    first = rows[0]
    return (
        f"{one_line(first.method, 40)} against {one_line(spec.reference, 40)}, {FOUND[stem_of(first)]}: of"
        f" {len(rows)} cells (base x data x task) better in {better}, worse in {worse}, not told apart in"
        f" {len(rows) - better - worse}."
    )


@dataclass(frozen=True, slots=True)
class Forest:
    """Differences of one metric."""

    stem: str
    """Of its file names."""
    title: str
    rows: tuple[ForestRow, ...]


def forests_of(spec: StudySpec, rows: Sequence[Row]) -> list[Forest]:
    """Return the figures of differences: one per metric, or several of at most `forest.MOST` rows each."""
    found = []
    for metric, words in FOUND.items():
        here = [r for r in rows if stem_of(r) == metric and r.difference]
        sure = kept(here)
        several = {
            key: len({getattr(r, key) for r in here}) > 1 for key in ("method", "base", "data", "task")
        }
        shown = [
            ForestRow(
                ", ".join(getattr(r, key) for key, many in several.items() if many) or r.method,
                turned(r.difference.difference),
                sure[id(r)],
                points=tuple(-d if r.difference.difference.higher_is_better is False else d for d in r.seeds),
            )
            for r in here
            if r.difference
        ]
        parts = [tuple(shown[start : start + MOST]) for start in range(0, len(shown), MOST)]
        for n, part in enumerate(parts, 1):
            end, of = (f".{n}", f", part {n} of {len(parts)}") if len(parts) > 1 else ("", "")
            title = f"Gain in {words} over {spec.reference}{of}"
            found.append(Forest(f"difference.{slug(metric)}{end}", title, part))
    return found


def forest_files(spec: StudySpec, forests: Sequence[Forest]) -> dict[str, bytes]:
    """Return file name -> content of the figures of differences, as SVG and PNG."""
    return {
        f"{forest.stem}.{kind}": draw_forest(forest.rows, "the method", spec.reference, forest.stem, kind)
        for forest in forests
        for kind in ("svg", "png")
    }
