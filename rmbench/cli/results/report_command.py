"""`rmbench report`: one page on one model or several."""

import json
from pathlib import Path

import click

from rmbench.cli.options import FileToWrite, eval_options, json_option
from rmbench.core.escape import one_line
from rmbench.errors import ConfigError

ITEMS = 20
"""Default number of worst items."""


@click.command("report")
@click.argument("records", metavar="RECORDS...", nargs=-1, required=True)
@click.option("-t", "--task", "tasks", multiple=True, help="Only records of this task (repeat).")
@eval_options("results")
@click.option("-o", "--out", type=FileToWrite(), metavar="FILE", help="The page, an .html file.")
@click.option(
    "--items",
    type=click.IntRange(min=0),
    default=ITEMS,
    show_default=True,
    help="Number of items to show that a model gets most wrong.",
)
@click.option(
    "--data",
    multiple=True,
    metavar="[TASK=]PATH",
    help="The task's data, to show the texts of these items (repeat, with TASK= where the page has several).",
)
@click.option(
    "--figures",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="FOLDER",
    help="Also write each figure as .svg and .png.",
)
@json_option
def command(
    records: tuple[str, ...],
    tasks: tuple[str, ...],
    results: Path,
    out: Path | None,
    items: int,
    data: tuple[str, ...],
    figures: Path | None,
    as_json: bool,
) -> None:
    """Write a page on one model or several: verdict, numbers, figures, worst items, what was left out.

    RECORDS are records, folders of them, or names of models in the results folder. Models on the same items
    are side by side, and the first is compared with the others; each task is a section. The page is one file
    that opens from disk and needs no network. No model and no data set is needed. If a task's data is not in
    the package, give --data to show the texts of its items.

    \b
    rmbench report builtin:linear --out linear.html
    rmbench report builtin:linear length --task preference --task bon --out two.html --figures figures
    rmbench report results/my-rm --task judgebench --data path/to/judgebench --out my-rm.html

    The figures from Python: rmbench.plot.reliability("results/.../run.json"), and so on.
    """
    from rmbench.core.files import write_atomic
    from rmbench.report.compare_page import comparison_files
    from rmbench.report.numbers import runs_of, sections_of
    from rmbench.report.page import decision_of, make_report
    from rmbench.report.pictures import figure_files
    from rmbench.report.worst import data_by_task
    from rmbench.results.run import shown_name

    if out is None and figures is None:
        raise ConfigError("nothing to write: give --out FILE for the page, --figures FOLDER, or both")
    if out is not None and out.is_dir():
        raise ConfigError(f"--out {out} is a folder; expected the name of an .html file")
    runs = runs_of(records, results, tasks)
    sections = sections_of(runs)
    found = data_by_task(data, {task for section in sections for task in section.tasks})
    decisions = [decision_of(section, items) for section in sections]
    files: dict[Path, str | bytes] = {}
    summaries = []
    if out is not None:
        again = ["rmbench", "report", *records, *(word for task in tasks for word in ("--task", task))]
        again += ["--results", str(results)] if str(results) != "results" else []
        again += ["--out", "FILE.html", *(word for text in data for word in ("--data", text))]
        again += ["--items", str(items)]
        report = make_report(sections, n_items=items, data=found, command=again, decisions=decisions)
        summaries = list(report.sections)
        files[out] = report.html
    if figures is not None:
        drawn = {**figure_files(sections), **comparison_files(sections, decisions)}
        files |= {figures / name: content for name, content in drawn.items()}
    for path, content in files.items():
        write_atomic(path, content)
    if as_json:
        click.echo(json.dumps({"files": [str(path) for path in files], "sections": summaries}, indent=1))
        return
    for summary in summaries:
        lead = f"{one_line(summary['tasks'][0])}: " if len(summaries) > 1 else ""
        for sentence in summary["verdicts"]:
            click.echo(f"{lead}{sentence}.")
        if summary["texts"]:
            click.echo(
                f"note: {one_line(', '.join(summary['tasks']))}: {one_line(summary['texts'])}", err=True
            )
    n_models = len({shown_name(run, runs) for run in runs})
    what = f"{n_models} model{'s' * (n_models != 1)} on {len(sections)} task{'s' * (len(sections) != 1)}"
    if out is not None:
        click.echo(f"{one_line(str(out))}: {what}")
    if figures is not None:
        click.echo(f"{one_line(str(figures))}: {len(files) - (out is not None)} files of figures, {what}")
