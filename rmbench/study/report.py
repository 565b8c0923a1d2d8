"""Markdown and LaTeX report of a study: one table per question, a row per base, data set and task."""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from rmbench.core.escape import for_markdown
from rmbench.core.files import slug
from rmbench.format.tables import Block, Cell, Column, Number, Table, as_latex, markdown_table
from rmbench.study.finding import FOUND, finding, kept, stem_of
from rmbench.study.run import BatchRow
from rmbench.study.spec import StudySpec
from rmbench.study.tables import Row, Versus

_QUESTIONS: Mapping[str, str] = {
    "accuracy": "Does it rank better? Accuracy",
    "nll": "Do margins mean what they say? NLL as trained",
    "nll_scaled": "NLL after a fitted temperature",
    "ece": "ECE as trained",
    "ece_scaled": "ECE after a fitted temperature",
    "temperature": "The best temperature",
    "margin_mean": "How wide are margins? Mean margin",
    "win_rate": "Does it pick better? Win rate at the largest N",
    "gold": "Gold at the largest N",
    "overoptimization_drop": "Over-optimisation: gold lost from the best N to the largest",
}
"""Metric (before the @) -> its table's title."""


LEGEND = (
    "`{reference}`: mean over {n} seeds ± their standard deviation. Other columns: the mean difference to "
    "`{reference}` on the same prompts and the same seeds, with a 95% interval over prompts and seeds. "
    "**Bold**: the interval excludes 0. **Bold with \\***: still so after Holm's correction over all "
    "differences of the table. A dash: no value (such as a temperature that does not exist). "
    "A seed draws pairs, held-out prompts and order, alike for every method."
)
_COUNTED = (
    "Cells (base x data x task) where a method is better / worse than the reference with an interval that "
    "excludes 0, of all cells; in brackets those left after Holm's correction. By chance alone one in forty "
    "would be better and one in forty worse."
)
_BATCHES = (
    "`confidence-margin` at other batch sizes, as many epochs each: the batch margin `mu_B` over the second "
    "half of training (mean, and standard deviation from step to step), and the held-out numbers at its end."
)


_VERSUS = (
    "Differences with 95% intervals over prompts and seeds. Bold: the interval excludes 0. Bold with *: "
    "still so after Holm's correction over the column."
)

SURE = (
    "Better and worse: told apart after Holm's correction over the cells and methods of one metric. Not told "
    "apart is not equal."
)
FIGURES: Mapping[str, str] = {
    **{
        f"difference.{slug(metric)}": f"Gain in {words} over the reference, with intervals"
        for metric, words in FOUND.items()
    },
    "margins": "Distribution of margins per method",
    "deciles": "Accuracy per tenth of margin, least sure first",
    "best-of-n": "Best-of-N win rate against N",
    "gold": "Gold against N: over-optimisation",
    "training": "NLL, margin, scale of rewards and mu_B over training",
    "batch-size": "mu_B at several batch sizes",
}
"""End of a figure's file name -> caption."""


def to_markdown(
    spec: StudySpec,
    rows: Sequence[Row],
    versus: Sequence[Versus] = (),
    batches: Sequence[BatchRow] = (),
    figures: Iterable[str] = (),
) -> str:
    """Return the page; the same rows give the same text.

    Args:
        spec: The study.
        rows: Rows of its tables.
        versus: Comparisons with a method other than the reference.
        batches: Rows of the table of batch sizes.
        figures: File names of the figures, in the page's folder.
    """
    legend = LEGEND.format(reference=for_markdown(spec.reference), n=spec.seeds)
    lines = [f"# {for_markdown(spec.name)}", "", for_markdown(spec.summary, limit=2000), ""]
    lines += [*(f"- {for_markdown(line, limit=1000)}" for line in finding(spec, rows)), "", SURE, "", legend]
    for block in blocks_of(spec, rows, versus, batches):
        title, *said = block.lines
        lines += ["", f"## {for_markdown(title)}", ""]
        for text in said:
            lines += [text, ""]
        lines += markdown_table(block.table) if block.table else []
    lines += _figure_list(spec, set(figures))
    return "\n".join(lines) + "\n"


def to_latex(
    spec: StudySpec, rows: Sequence[Row], versus: Sequence[Versus] = (), batches: Sequence[BatchRow] = ()
) -> str:
    """Return the page's tables as LaTeX, each with its caption; see `to_markdown`."""
    return as_latex(blocks_of(spec, rows, versus, batches)) + "\n"


def blocks_of(
    spec: StudySpec, rows: Sequence[Row], versus: Sequence[Versus], batches: Sequence[BatchRow]
) -> list[Block]:
    """Return the tables with title and notes; notes are Markdown, captions are plain text."""
    name = f"study-{spec.name}"
    legend = unmarked(LEGEND.format(reference=spec.reference, n=spec.seeds))
    blocks = [Block(f"{name}-short", ("In short", _COUNTED), _summary(spec, rows), caption=(_COUNTED,))]
    for metric, title in _QUESTIONS.items():
        here = [r for r in rows if stem_of(r) == metric]
        if here:
            blocks.append(Block(f"{name}-{metric}", (title,), _table(spec, here), caption=(title, legend)))
    for v in versus:
        title = f"{v.method} against {v.other}"
        caption = (f"{title} on the same prompts and the same seeds", _VERSUS)
        blocks.append(Block(f"{name}-{title}", (title,), _versus_table(v), caption=caption))
    if batches:
        lines = ("How large is the batch margin?", _BATCHES)
        blocks.append(Block(f"{name}-batches", lines, _batch_table(batches), caption=(unmarked(_BATCHES),)))
    return blocks


def unmarked(text: str) -> str:
    """Return our own Markdown as plain text."""
    return text.replace("**", "").replace("`", "").replace("\\*", "*")


def _figure_list(spec: StudySpec, files: AbstractSet[str]) -> list[str]:
    """Return a line per kind of figure, with a link per data set."""
    lines = []
    for kind, shown in FIGURES.items():
        parts = {f"part {n}": f"{kind}.{n}" for n in range(1, len(files) + 1)}
        stems = {d.name: f"{slug(d.name)}.{kind}" for d in spec.data} | {"all": kind} | parts
        links = [
            f"{for_markdown(name)} ([SVG]({stem}.svg), [PNG]({stem}.png))"
            for name, stem in stems.items()
            if f"{stem}.svg" in files
        ]
        if links:
            lines.append(f"- {shown}: {', '.join(links)}")
    return ["", "## Figures", "", *lines] if lines else []


def _summary(spec: StudySpec, rows: Sequence[Row]) -> Table:
    """Return, for each metric and method, the number of cells better and worse than the reference."""
    others = [m.name for m in spec.methods if m.name != spec.reference]
    lines: list[tuple[Cell, ...]] = []
    for metric in _QUESTIONS:
        good = _direction(metric)
        here = [r for r in rows if stem_of(r) == metric and r.difference]
        if good is None or not here:
            continue
        sure = kept(here)
        cells = []
        for method in others:
            found = [r for r in here if r.method == method]
            signs = [(_sign(r) * good, sure[id(r)]) for r in found]
            better, worse = (sum(s == side for s, _ in signs) for side in (1, -1))
            left = [sum(s == side and k for s, k in signs) for side in (1, -1)]
            cells.append(f"{better} / {worse} of {len(found)} ({left[0]} / {left[1]})")
        lines.append((metric, *cells))
    return Table((Column("", "text"), *(Column(m, "count") for m in others)), tuple(lines))


def _direction(metric: str) -> int | None:
    if metric in ("accuracy", "win_rate", "gold"):
        return 1
    return -1 if metric in ("nll", "nll_scaled", "ece", "ece_scaled") else None


def _sign(row: Row) -> int:
    interval = row.difference.difference.ci95 if row.difference else None
    if interval is None:
        return 0
    return 1 if interval[0] > 0 else -1 if interval[1] < 0 else 0


_PLACE = tuple(Column(head, "text") for head in ("base", "trained on", "task"))


def _table(spec: StudySpec, rows: Sequence[Row]) -> Table:
    methods = [m.name for m in spec.methods if any(r.method == m.name for r in rows)]
    sure = kept(rows)
    lines: list[tuple[Cell, ...]] = []
    for where in dict.fromkeys((r.base, r.data, r.task) for r in rows):
        found = {r.method: r for r in rows if (r.base, r.data, r.task) == where}
        lines.append((*where, *(_cell(found.get(m), sure) for m in methods)))
    return Table((*_PLACE, *map(Column, methods)), tuple(lines))


def _cell(row: Row | None, sure: Mapping[int, bool]) -> Cell:
    if row is None:
        return None
    missing = f"{row.n_undefined} without" if row.n_undefined else ""
    if row.items:
        missing = ", ".join(filter(None, (missing, f"on {row.items[0]:,} of {row.items[1]:,} items")))
    if row.difference is None:
        return Number(row.mean, spread=row.deviation, remark=missing)
    told, clear = row.difference.difference, bool(_sign(row))
    return Number(
        told.value,
        told.ci95,
        form="signed",
        strong=clear,
        mark="*" if clear and sure[id(row)] else "",
        remark=missing,
    )


def _versus_table(versus: Versus) -> Table:
    """Return the method's differences to the other, a column per metric."""
    sure: dict[int, bool] = {}
    for metric in _QUESTIONS:  # Holm's correction is over a column here, as it is over a table above
        sure |= kept([row for row in versus.rows if stem_of(row) == metric])
    metrics = [m for m in _QUESTIONS if _direction(m) and any(stem_of(r) == m for r in versus.rows)]
    lines: list[tuple[Cell, ...]] = []
    for where in dict.fromkeys((r.base, r.data, r.task) for r in versus.rows):
        found = {stem_of(r): r for r in versus.rows if (r.base, r.data, r.task) == where}
        lines.append((*where, *(_cell(found.get(m), sure) for m in metrics)))
    return Table((*_PLACE, *map(Column, metrics)), tuple(lines))


def _batch_table(batches: Sequence[BatchRow]) -> Table:
    counts = (Column("pairs per step", "count"), Column("steps", "count"))
    heads = ("mu_B", "from step to step", "NLL", "accuracy", "margin")
    lines: list[tuple[Cell, ...]] = []
    for b in batches:
        numbers = (b.mu, b.mu_deviation, b.nll, b.accuracy, b.margin)
        lines.append((b.base, b.data, b.batch_size, b.steps, *map(Number, numbers)))
    return Table((*_PLACE[:2], *counts, *(Column(h, "number") for h in heads)), tuple(lines))
