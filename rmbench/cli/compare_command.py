"""`rmbench compare`: two models, the same items."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli.options import convention_option, json_option, results_option
from rmbench.errors import RmbenchError
from rmbench.escape import one_line

if TYPE_CHECKING:
    from rmbench.comparison import PairedReport


@click.command("compare")
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("-t", "--task", required=True, help="The task both were evaluated on.")
@click.option("--metric", "metrics", multiple=True, help="Metric (repeat).  [default: the task's headlines]")
@click.option("--items", default=10, show_default=True, help="How many disagreements to show.")
@click.option(
    "--data", type=click.Path(path_type=Path), help="The task's data, to show the prompts of disagreements."
)
@convention_option
@results_option
@json_option
def command(
    first: str,
    second: str,
    task: str,
    metrics: tuple[str, ...],
    items: int,
    data: Path | None,
    convention: str,
    results: Path,
    as_json: bool,
) -> None:
    """Compare models A and B on the same items: paired difference, interval, p-value.

    A and B are names of models in the results folder, or paths of records. The test is paired and clustered
    by prompt: what both find hard cancels.

    \b
    rmbench compare builtin:linear length --task preference
    """
    from rmbench.comparison import compare_runs, find_run, headline_metrics

    a, b = find_run(results, first, task), find_run(results, second, task)
    report = compare_runs(a, b, metrics or headline_metrics(a, b, convention), items)
    if as_json:
        click.echo(json.dumps(_as_json(report), indent=1))
        return
    _show(report, _prompts(a.record.task, data), items)


def _show(report: "PairedReport", prompts: dict[str, str], wanted_items: int) -> None:
    from tabulate import tabulate

    from rmbench.comparison import p_text
    from rmbench.tables import number, show_estimate

    rows = [
        [
            m.metric,
            show_estimate(m.first),
            show_estimate(m.second),
            show_estimate(m.paired.difference),
            p_text(m.paired.p_value),
        ]
        for m in report.metrics
    ]
    first, second = report.first, report.second
    heads = [one_line(report.task), one_line(first, 30), one_line(second, 30), "difference (paired)", "p"]
    click.echo(tabulate(rows, headers=heads, tablefmt="simple", disable_numparse=True))
    if not report.disagreements:
        if wanted_items:
            click.echo("\nThe two models never disagree.")
        return
    click.echo(f"\nItems where they disagree most ({report.measure}):")
    lines = [
        [one_line(d.item, 40), number(d.first), number(d.second), one_line(prompts.get(d.item, ""), 80)]
        for d in report.disagreements
    ]
    heads = ["item", one_line(first, 30), one_line(second, 30), "prompt" if prompts else ""]
    click.echo(tabulate(lines, headers=heads, tablefmt="simple", disable_numparse=True))


def _prompts(task: str, data: Path | None) -> dict[str, str]:
    """Return item id -> last prompt turn, where the task's data is at hand; else nothing."""
    from rmbench.data import read_task_items
    from rmbench.specs import load_task

    try:
        spec = load_task(task)
        if data is None and spec.data.path is None:
            return {}
        found = read_task_items(spec, data, on_bad="skip", offline=True)
    except RmbenchError:
        if data is not None:
            raise
        # A task of the user's own that is not at hand any more: the comparison stands without its texts.
        return {}
    return {item.id: item.prompt[-1]["content"] if item.prompt else "" for item in found.items}


def _as_json(report: "PairedReport") -> dict[str, Any]:
    from rmbench.records import estimate_to_json

    return {
        "task": report.task,
        "first": report.first,
        "second": report.second,
        "metrics": {
            m.metric: {
                "first": estimate_to_json(m.first),
                "second": estimate_to_json(m.second),
                "difference": estimate_to_json(m.paired.difference),
                "p_value": m.paired.p_value,
            }
            for m in report.metrics
        },
        "disagreements": [
            {"item": d.item, "first": d.first, "second": d.second} for d in report.disagreements
        ],
    }
