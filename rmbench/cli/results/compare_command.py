"""`rmbench compare`: models on the same items."""

import json
from pathlib import Path

import click

from rmbench.cli.options import FiniteRange, eval_options, output_options
from rmbench.core.escape import one_line


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
    difficulty that both models share cancels. A difference is the first model minus the second. If one of two
    models left items out (-T invalid=drop), they are compared on the items that both answered.

    \b
    rmbench compare builtin:linear length --task preference
    rmbench compare builtin:tiny builtin:linear length --task bon --metric win_rate@max
    rmbench compare A B C --task preference --latex > table.tex
    rmbench compare A B C --task judgebench --data path/to/judgebench --html abc.html

    With three models or more, every pair is compared. Many tests find something by chance: "p (Holm)" is the
    p-value after Holm's correction over all tests shown, every pair of models on every metric. If you call a
    difference real when it is below 0.05, the chance of any false finding is at most 5%. Name only the models
    and the --metric of your question: each further test costs power. In the matrix, a cell is its row minus
    its column; a star marks an adjusted p below 0.05.

    The verdict is on the first model: better, worse, equivalent (only with --margin), or undecided: neither a
    difference nor equality is shown. "shows from" is the smallest difference that these data show with 80%
    power; `rmbench power` says how many prompts a smaller one needs.

    \b
    rmbench compare A B --task judgebench --metric accuracy --margin 0.02
    """
    from rmbench.cli.options import print_tables
    from rmbench.core.files import write_atomic
    from rmbench.report.compare_page import comparison_page
    from rmbench.report.compare_tables import as_json_values, blocks_of, values_of
    from rmbench.report.worst import read_texts
    from rmbench.results.compare import compare_many, headline_metrics
    from rmbench.results.read import find_run

    if len(models) < 2:
        raise click.UsageError("expected two models or more", click.get_current_context())
    runs = [find_run(results, name, task) for name in models]
    report = compare_many(runs, metrics or headline_metrics(runs, convention), items, margin)
    wanted = {d.item for d in report.disagreements} if page or output not in ("json", "csv") else set[str]()
    texts = read_texts(runs[0], wanted, data)
    if page is not None:
        write_atomic(page, comparison_page(report, runs, texts))
        click.echo(f"page in {one_line(str(page))}", err=True)
    if output == "json":
        click.echo(json.dumps(as_json_values(report), indent=1))
        return
    prompts = {name: item.prompt[-1]["content"] if item.prompt else "" for name, item in texts.items.items()}
    print_tables(
        output,
        lambda: blocks_of(report, prompts, items, terminal=output == "text"),
        lambda: values_of(report),
    )
