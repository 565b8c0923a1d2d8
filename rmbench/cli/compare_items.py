"""The items on which the models of `rmbench compare` disagree most."""

from collections.abc import Mapping
from math import isnan

from rmbench.comparison import ManyReport
from rmbench.disagreements import Disagreement
from rmbench.tabular import Block, Cell, Column, Number, Table


def item_blocks(report: ManyReport, prompts: Mapping[str, str], n_items: int) -> list[Block]:
    """Return the table of items on which models disagree most; a line where they never do."""
    name = f"compare-{report.task}-items"
    if not report.disagreements:
        two = "two models" if len(report.models) == 2 else "models"
        compared = any(pair.metrics for pair in report.pairs)
        line = f"The {two} never disagree." if compared else f"The {two} share no item on which to disagree."
        return [Block(name, (line,), None)] if n_items else []
    texts = Column("prompt" if prompts else "", "text", 80)
    columns: tuple[Column, ...]
    cells: list[tuple[Cell, ...]]
    if len(report.models) == 2:
        columns = tuple(Column(model, "number", 30) for model in report.models)
        cells = [tuple(map(Number, d.values)) for d in report.disagreements]
    else:
        ends = (Column(end, "text", 30) for end in ("lowest", "highest"))
        columns = tuple(part for end in ends for part in (end, Column("", "number")))
        cells = [_ends(report, d) for d in report.disagreements]
    rows = [
        (d.item, *found, prompts.get(d.item, ""))
        for d, found in zip(report.disagreements, cells, strict=True)
    ]
    columns = (Column("item", "text", 40), *columns, texts)
    line = f"Items where they disagree most ({report.measure}):"
    return [Block(name, (line,), Table(columns, tuple(rows)))]


def _ends(report: ManyReport, found: Disagreement) -> tuple[Cell, ...]:
    """Return the model with the lowest value, that value, and both of the highest; the first of equals."""
    known = [n for n, value in enumerate(found.values) if not isnan(value)]
    low, high = min(known, key=lambda n: found.values[n]), max(known, key=lambda n: found.values[n])
    ends = ((report.models[n], Number(found.values[n])) for n in (low, high))
    return tuple(part for end in ends for part in end)
