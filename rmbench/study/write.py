"""The files of a study; the page is one HTML file with finding, differences, tables and figures."""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from rmbench import __version__
from rmbench.core.escape import one_line
from rmbench.core.files import write_atomic
from rmbench.format.pages import LONGEST_NAME, render_page
from rmbench.format.tables import Block, plain_rows
from rmbench.plot.inline import inline_svg
from rmbench.study.figures import render_figures
from rmbench.study.finding import finding, forest_files, forests_of
from rmbench.study.report import FIGURES, LEGEND, SURE, blocks_of, to_latex, to_markdown, unmarked
from rmbench.study.run import BatchRow, StudyRun
from rmbench.study.spec import StudySpec
from rmbench.study.tables import Row, Versus, rows_of_study, to_csv


def write_study(
    spec: StudySpec, done: StudyRun, batches: Sequence[BatchRow], folder: Path, command: Sequence[str]
) -> str:
    """Write page, tables and figures into `folder`, and return the page as Markdown.

    Args:
        spec: The study.
        done: Its records and trainings.
        batches: Rows of the table of batch sizes.
        folder: For study.html, study.md, study.csv, study.tex and the figures.
        command: What makes the study again, for the page.
    """
    rows, versus = rows_of_study(spec, done.outcomes)
    figures = forest_files(spec, forests_of(spec, rows)) | render_figures(spec, done, batches)
    page = to_markdown(spec, rows, versus, batches, figures)
    tables = {
        "study.csv": to_csv(rows),
        "study.tex": to_latex(spec, rows, versus, batches),
        "study.md": page,
        "study.html": study_page(spec, rows, versus, batches, figures, command),
    }
    for name, text in tables.items():
        write_atomic(folder / name, text)
    for name, image in figures.items():
        write_atomic(folder / name, image)
    return page


def study_page(
    spec: StudySpec,
    rows: Sequence[Row],
    versus: Sequence[Versus],
    batches: Sequence[BatchRow],
    figures: Mapping[str, bytes],
    command: Sequence[str],
) -> str:
    """Return the page; the same rows and figures give the same text.

    Args:
        spec: The study.
        rows: Rows of its tables.
        versus: Comparisons with a method other than the reference.
        batches: Rows of the table of batch sizes.
        figures: File name -> content; the SVGs are shown.
        command: What makes the study again.
    """
    forests = forests_of(spec, rows)
    drawn = {f"{forest.stem}.svg" for forest in forests}
    n_models = len(spec.bases) * len(spec.data) * len(spec.methods) * spec.seeds
    return render_page(
        "report",
        template="study.html",
        title=one_line(spec.name, LONGEST_NAME),
        summary=spec.summary,
        version=__version__,
        counts=f"{n_models:,} models, {len(spec.methods)} methods, {spec.seeds} seeds",
        finding=finding(spec, rows),
        sure=SURE,
        reference=spec.reference,
        forests=[
            {"name": f.stem, "title": f.title, "svg": _picture(figures[f"{f.stem}.svg"], f.stem, f.title)}
            for f in forests
        ],
        legend=unmarked(LEGEND.format(reference=spec.reference, n=spec.seeds)),
        tables=[_table(block) for block in blocks_of(spec, rows, versus, batches) if block.table],
        pictures=[
            _figure(name, image)
            for name, image in figures.items()
            if name not in drawn and name.endswith(".svg")
        ],
        facts=_facts(spec),
        command=shlex.join(command),
    )


def _picture(svg: bytes, stem: str, title: str) -> Markup:
    return inline_svg(svg, stem.replace(".", "-"), title)


def _figure(name: str, image: bytes) -> dict[str, Any]:
    stem = name.removesuffix(".svg")
    data, _, kind = stem.rpartition(".")
    words = FIGURES.get(kind or stem, stem)
    title = f"{words}: trained on {data}" if data else words
    return {"name": stem, "title": title, "svg": _picture(image, stem, title)}


def _table(block: Block) -> dict[str, Any]:
    assert block.table is not None  # noqa: S101  (the caller looked)
    title, *lines = block.lines
    heads, *rows = plain_rows(block.table)
    n_texts = next((n for n, c in enumerate(block.table.columns) if c.kind != "text"), len(heads))
    return {
        "title": title,
        "lines": [unmarked(line) for line in lines],
        "heads": heads,
        "rows": rows,
        "n_texts": n_texts,
    }


def _facts(spec: StudySpec) -> list[tuple[str, str]]:
    names = ("epochs", "batch_size", "learning_rate", "max_length")
    settings = [(name, getattr(spec.train, name)) for name in names]
    return [
        ("bases", "; ".join(f"{name}: {_last(base.path)}" for name, base in spec.bases.items())),
        ("trained on", "; ".join(f"{d.name}: {', '.join(map(_last, d.source))}" for d in spec.data)),
        ("methods", "; ".join(_method(m.name, m.loss, m.options) for m in spec.methods)),
        ("seeds", f"{spec.seeds}: each draws pairs, held-out prompts and order, alike for every method"),
        ("evaluated on", "; ".join(_task(e.task, e.limit) for e in spec.evaluate)),
        ("training", ", ".join(f"{name} {value}" for name, value in settings if value is not None)),
    ]


def _last(path: str) -> str:
    """Return the last name of an absolute path: a page is for others."""
    return Path(path).name if Path(path).is_absolute() else path


def _task(task: str, limit: int | None) -> str:
    name = _last(task)
    return f"{name}, {limit:,} items" if limit else name


def _method(name: str, loss: str, options: Mapping[str, str]) -> str:
    told = [loss] * (loss != name) + [f"{key} {value}" for key, value in options.items()]
    return f"{name} ({', '.join(told)})" if told else name
