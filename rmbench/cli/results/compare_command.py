"""`rmbench compare`: models on the same items."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli.options import FiniteRange, eval_options, output_options
from rmbench.core.escape import one_line
from rmbench.errors import RmbenchError
from rmbench.results.compare import ManyReport

if TYPE_CHECKING:
    from rmbench.results.compare import ManyReport
    from rmbench.results.run import Run
    from rmbench.types import Item


@click.command("compare")
@click.argument("models", nargs=-1, metavar="A B [C]...")
@click.option("-t", "--task", required=True, help="Task on which all were evaluated.")
@click.option("--metric", "metrics", multiple=True, help="Metric (repeat).  [default: the task's headlines]")
@click.option(
    "--items",
    type=click.IntRange(min=0),
    default=10,
    show_default=True,
    help="Number of disagreements to show.",
)
@click.option(
    "--margin",
    type=FiniteRange(min=0, min_open=True),
    metavar="D",
    help="Also test whether models are equivalent: differ by less than D, in each metric's own unit.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), help="The task's data, to show the texts of disagreements."
)
@click.option(
    "--html",
    "page",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write a page: matrices, all differences, items with their texts. It needs no network.",
)
@eval_options("convention", "results")
@output_options
def command(
    models: tuple[str, ...],
    task: str,
    metrics: tuple[str, ...],
    items: int,
    margin: float | None,
    data: Path | None,
    page: Path | None,
    convention: str,
    results: Path,
    output: str,
) -> None:
    """Compare models on the same items: paired differences, their intervals and p-values.

    Models are names in the results folder, or paths of records. Each test is paired and clustered by prompt:
    what both models find hard cancels. A difference is the first model minus the second. Two models, of which
    one left items out (-T invalid=drop), are compared on the items that both answered.

    \b
    rmbench compare builtin:linear length --task preference
    rmbench compare builtin:tiny builtin:linear length --task bon --metric win_rate@max
    rmbench compare A B C --task preference --latex > table.tex
    rmbench compare A B C --task judgebench --data path/to/judgebench --html abc.html

    Of three models or more, every two are compared. Many tests find something by chance: "p (Holm)" is the
    p-value after Holm's correction over all tests shown, every pair of the models on every metric; it keeps
    the chance of one false finding or more at 5% where you call differences below 0.05 real. Name the models
    and the --metric that your question is about, not all that there are: each costs power. In the matrix, a
    cell is its row minus its column; a star marks an adjusted p below 0.05.

    The verdict is on the first model: better, worse, equivalent (with --margin alone), or undecided: not told
    apart, and not shown to be equal. "shows from" is the smallest difference that these data show with 80%
    power; `rmbench power` says how many prompts a smaller one needs.

    \b
    rmbench compare A B --task judgebench --metric accuracy --margin 0.02
    """
    from rmbench.cli.options import print_tables
    from rmbench.core.files import write_atomic
    from rmbench.report.compare_page import comparison_page
    from rmbench.report.compare_tables import as_json_values, blocks_of, values_of
    from rmbench.results.compare import compare_many, find_run, headline_metrics

    if len(models) < 2:
        raise click.UsageError("expected two models or more", click.get_current_context())
    runs = [find_run(results, name, task) for name in models]
    report = compare_many(runs, metrics or headline_metrics(runs, convention), items, margin)
    items_at_hand, why = _items(runs, report, data) if page or output not in ("json", "csv") else ({}, "")
    if page is not None:
        write_atomic(page, comparison_page(report, runs, items_at_hand, why))
        click.echo(f"page in {one_line(str(page))}", err=True)
    if output == "json":
        click.echo(json.dumps(as_json_values(report), indent=1))
        return
    prompts = {
        name: item.prompt[-1]["content"] if item.prompt else "" for name, item in items_at_hand.items()
    }
    print_tables(
        output,
        lambda: blocks_of(report, prompts, items, terminal=output == "text"),
        lambda: values_of(report),
    )


def _items(runs: "Sequence[Run]", report: "ManyReport", data: Path | None) -> "tuple[dict[str, Item], str]":
    """Return the items on which models disagree, as far as texts are at hand, and why some are not."""
    from rmbench.tasks import read_task_items
    from rmbench.tasks.spec import load_task

    wanted = {d.item for d in report.disagreements}
    if not wanted:
        return {}, ""
    try:
        spec = load_task(report.task)
        if data is None and spec.data.path is None:
            return {}, f"the data of {report.task} is not in the package; --data PATH shows them"
        found = read_task_items(spec, data, on_bad="skip", offline=True)
    except RmbenchError as error:
        if data is not None:
            raise
        # A task of the user's own that is not at hand any more: the comparison stands without its texts.
        return {}, str(error)
    lengths = {row["id"]: row["lengths"] for row in runs[0].rows() if row["id"] in wanted}
    # Ids alone could be those of other data. Published results have no lengths: zeros.
    items = {
        item.id: item
        for item in found.items
        if item.id in wanted
        for here in [[len(r.text) for r in item.responses]]
        if here == lengths[item.id] or (not any(lengths[item.id]) and len(here) == len(lengths[item.id]))
    }
    missing = len(wanted) - len(items)
    return items, f"{missing} of these items are not in the data at hand" if missing else ""
