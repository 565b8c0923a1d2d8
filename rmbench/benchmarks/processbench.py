"""ProcessBench: solutions with the index of the first wrong step.

A model names the first step whose reward is below 0.5, or no step. The number of a part is the harmonic mean
of two accuracies: on solutions with a wrong step, where that step must be named, and on solutions that are
all right, where none may be. The headline is the mean of the four parts.

Source: Zheng et al. 2024, arXiv 2412.06559. The threshold is that of reward models whose values are
probabilities; the paper fits one on the part gsm8k where they are not, which the kind `process` does by fold.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import nan
from pathlib import Path
from typing import Annotated

import numpy as np

from rmbench.benchmarks.first_wrong_step import solutions_of, three_numbers
from rmbench.benchmarks.official import (
    official_kind,
    part_name,
    stop_at_invalid,
    stratum_of,
    with_mean_of_parts,
)
from rmbench.core.files import prompt_cluster
from rmbench.core.options import Option
from rmbench.errors import DataError
from rmbench.metrics.kinds import Measured, Params
from rmbench.metrics.panel import Panel
from rmbench.results.published import FORMATS, Import, PublishedRun, check_finite, reward_row
from rmbench.stats import Statistic
from rmbench.tasks import fields
from rmbench.tasks.items import hash_items
from rmbench.tasks.rows import BadRows, FoundItem, Row, data_files, items_of, register_reader, rows_of
from rmbench.tasks.spec import TaskSpec
from rmbench.types import Item, Response, Turn

PARTS = ("gsm8k", "math", "olympiadbench", "omnimath")
THRESHOLD = 0.5


@dataclass(frozen=True)
class Options:
    """Options of the reader."""

    separator: Annotated[str, Option("text between two steps of a solution")] = "\n\n"


@register_reader("processbench", options=Options)
def read(files: list[Path], options: Options, bad: BadRows) -> Iterator[FoundItem]:
    """Read `{"id", "problem", "steps": [...], "label", "split"}` rows; response k ends with step k."""
    return items_of(files, bad, lambda row: item_of(row, options.separator))


def item_of(row: Row, separator: str) -> Item:
    """Return the item of a solution: its beginnings, gold as `first_wrong_step` describes it."""
    steps = fields.required(row, "steps")
    if not isinstance(steps, list) or not steps or not all(isinstance(step, str) for step in steps):
        raise row.error("expected a list of texts, at least one", "steps", "steps do not fit")
    label = fields.required(row, "label")
    if isinstance(label, bool) or not isinstance(label, int) or not -1 <= label < len(steps):
        problem = (
            f"{label!r}; expected the index of the first wrong of {len(steps)} steps, from 0, or -1 for none"
        )
        raise row.error(problem, "label", "label does not fit")
    name = fields.text(row, "id")
    prompt = (Turn(role="user", content=fields.text(row, "problem")),)
    return Item(
        id=name,
        prompt=prompt,
        responses=tuple(
            Response(
                separator.join(steps[: k + 1]),
                1.0 if label == -1 or k < label else 0.0 if k == label else None,
            )
            for k in range(len(steps))
        ),
        cluster=prompt_cluster(prompt),
        # Upstream, the part is the file's name, with which the id begins.
        strata={"split": fields.label(row, "split") or name.rpartition("-")[0]},
    )


@official_kind("processbench", *PARTS)
def measure_processbench(panel: Panel, params: Params) -> Measured:
    """Measure F1 of each part at the threshold 0.5, and their mean.

    A step without a reward is not below the threshold.

    Args:
        panel: Solutions with the stratum `split`.
        params: Parameters of every kind.

    Returns:
        `official`, the mean of `official_gsm8k`, `_math`, `_olympiadbench`, `_omnimath`.
    """
    stop_at_invalid(panel, params)
    found = solutions_of(panel) if panel.n_items else "no solution"
    if isinstance(found, str):
        return Measured({}, {}, dict.fromkeys(measure_processbench.headlines, found))
    named = found.named(np.full(panel.n_items, THRESHOLD))
    hit = (named == found.label).astype(np.float64)
    split = stratum_of(panel, "split")
    metrics, undefined = dict[str, Statistic](), dict[str, str]()
    for part in PARTS:
        here = split == part
        if (here & found.wrong).any() and (here & ~found.wrong).any():
            metrics[part_name(part)] = three_numbers(found, hit, here)[0]
        else:
            undefined[part_name(part)] = f"no wrong or no right solution of the split {part}"
    return with_mean_of_parts(metrics, undefined, "four parts")


_TEXTS = "steps"


@FORMATS.register("processbench")
def read_published(path: Path, request: Import) -> list[PublishedRun]:
    """Return the runs at `path`: a table with columns of step rewards, or a folder of tables.

    A column is a model if each of its values is a list of numbers, one per step. A file without steps is
    joined by id to the file with steps in the folder, or to `--data`; its name then follows the model's.

    Raises:
        DataError: If there is no such column, or one does not fit.
    """
    tables = {file: list(rows_of(file, BadRows(skip=False))) for file in data_files(path)}
    spec = request.spec("processbench")
    separator = str(spec.data.options.get("separator", Options.separator))
    given = request.items("processbench")
    whole = [f for f, rows in tables.items() if all(_TEXTS in r.value for r in rows)]
    if given is not None:
        items = {item.id: item for item in given.items}
    elif len(whole) == 1:
        items = {item.id: item for item in (item_of(row, separator) for row in tables[whole[0]])}
    else:
        raise DataError(
            f"{len(whole)} files with the column 'steps'; expected one, to which others are joined by id."
            " Give the file with steps, the folder that holds it, or --data",
            path=path,
            key=_TEXTS,
        )
    data_hash = hash_items(list(items.values())) if given is None else given.data_hash
    runs = []
    for found in request.each(
        list(tables), lambda f: _runs(f, tables[f], items, spec, data_hash, f in whole)
    ):
        runs += found
    return runs


def _runs(
    file: Path, rows: Sequence[Row], items: Mapping[str, Item], spec: TaskSpec, data_hash: str, is_whole: bool
) -> list[PublishedRun]:
    by_id = {fields.text(row, "id"): row for row in rows}
    if by_id.keys() != items.keys() or len(by_id) != len(rows):
        lacking = len(items.keys() - by_id.keys())
        problem = (
            f"{len(rows)} rows; expected each of the {len(items)} solutions once, {lacking} are not here"
        )
        raise DataError(problem, path=file, key="id", reason="solutions differ")
    columns = [key for key in rows[0].value if key not in ("steps", "per_step_len") and _is_model(rows, key)]
    if not columns:
        raise DataError(
            f"no column with a list of rewards per solution; columns: {', '.join(rows[0].value)}", path=file
        )
    runs = []
    for column in columns:
        found = [reward_row(items[name], _rewards(by_id[name], column, items[name])) for name in items]
        check_finite(file, spec, found)
        model = column if is_whole else f"{column.removesuffix(', perturbed')} ({file.stem})"
        runs.append(
            PublishedRun(
                model=model, spec=spec, rows=found, data_hash=data_hash, source=file.name,
                format="processbench", facts={"column": column},
            )
        )  # fmt: skip
    return runs


def _is_model(rows: Sequence[Row], key: str) -> bool:
    """Say whether a column holds lists of numbers, some of which are no whole numbers or null."""
    values = [row.value.get(key) for row in rows]
    return all(isinstance(v, list) for v in values) and all(
        isinstance(x, float | None) for v in values for x in v or ()
    )


def _rewards(row: Row, column: str, item: Item) -> tuple[float, ...]:
    values = row.value[column]
    if len(values) != len(item.responses):
        problem = f"{len(values)} rewards; expected one for each of {len(item.responses)} steps"
        raise row.error(problem, column, "rewards do not fit")
    return tuple(nan if v is None else float(v) for v in values)
