"""`rmbench compare`: models on the same items, and a verdict."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli.options import FileToWrite, FiniteRange, options_of, output_options
from rmbench.core.escape import one_line
from rmbench.evaluation.options import EvalOptions

if TYPE_CHECKING:
    from rmbench.report.worst import Texts
    from rmbench.results.verdict import Decision, Gated


@click.command("compare")
@click.argument("models", nargs=-1, metavar="A B [C]...")
@click.option(
    "-t",
    "--task",
    "tasks",
    multiple=True,
    help="Task (repeat).  [default: with --data pairs and their calibration, and best of N for pools]",
)
@click.option(
    "--metric",
    "metrics",
    multiple=True,
    help="Metric (repeat); the verdict is on the first.  [default: the task's headlines]",
)
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
    "--gate",
    type=click.Choice(["better", "not-worse"]),
    help="Exit with 0 if the data shows that A is better than B (by more than --margin), or that it is not"
    " worse by --margin; else with 1, and say why.",
)
@click.option(
    "--html",
    "page",
    type=FileToWrite(),
    metavar="FILE",
    help="Also write a page: verdict, differences, figures, strata, items with their texts. No network.",
)
@options_of(EvalOptions, output_options)
def command(
    models: tuple[str, ...],
    tasks: tuple[str, ...],
    metrics: tuple[str, ...],
    items: int,
    margin: float | None,
    gate: str | None,
    page: Path | None,
    options: EvalOptions,
    output: str,
) -> None:
    """Compare models on the same items, and say first what that shows: the verdict.

    A and B are models, as `rmbench eval --model` takes them, names in the results folder, or paths of
    records. What has no record is evaluated; nothing is scored twice. Name the new model first: a difference
    is the first model minus the second.

    \b
    rmbench compare runs/new/final runs/old/final --data pairs.jsonl --html page.html
    rmbench compare builtin:linear length --task preference
    rmbench compare A B --data pairs.jsonl -M '[A]label=1' -M '[B]max_length=512'
    rmbench compare A B C --task judgebench --data path/to/judgebench --html abc.html
    rmbench compare new old --data pairs.jsonl --gate not-worse --margin 0.01
    rmbench compare A B C --task preference --latex > table.tex

    The verdict is one test at 5% on one metric: the first --metric, or the task's headline. "This data shows
    differences from D up": a true difference of D is found with 80% power. Not told apart is not equal;
    `rmbench power` says how many prompts a smaller difference needs.

    Each test is paired and clustered by prompt: difficulty that both models share cancels. In the tables,
    "p (Holm)" is the p-value after Holm's correction: of the verdict's metric over the pairs of models, of
    all other metrics together. If you call a difference real when it is below 0.05, the chance of any false
    finding is at most 5% in each of the two. In a matrix, a cell is its row minus its column; a star marks
    an adjusted p below 0.05. If one of two models left items out (-T invalid=drop), they are compared on the
    items that both answered.

    --gate is for CI. `better`: the verdict tells A and B apart, and A is better; with --margin, the whole
    95% interval of its gain is above D. `not-worse`: that interval is above -D.
    """
    from rmbench.cli.options import is_wide, print_tables
    from rmbench.evaluation.compared import compared_runs
    from rmbench.report.decision import decision_blocks, decision_json, decision_values
    from rmbench.results.verdict import decide

    context = click.get_current_context()
    if len(models) < 2:
        raise click.UsageError("expected two models or more", context)
    if gate is not None and len(models) != 2:
        raise click.UsageError(f"--gate is for two models; {len(models)} are given", context)
    if gate == "not-worse" and margin is None:
        raise click.UsageError("--gate not-worse needs --margin D: the loss that you would accept", context)
    options = replace(options, command=("rmbench", *sys.argv[1:]))
    compared = compared_runs(models, tasks, options)
    for remark in compared.remarks if not options.quiet else ():
        click.echo(f"note: {one_line(remark)}", err=True)
    decisions = [
        decide(runs, metrics=metrics, n_items=items, margin=margin, convention=options.convention)
        for runs in compared.by_task.values()
    ]
    gated = _gated(decisions[0], gate, margin)
    texts = _texts(decisions, options.data) if output not in ("json", "csv") else []
    if page is not None:
        _write_page(page, decisions, options.data, items, options.command)
    if output == "json":
        click.echo(json.dumps(decision_json(decisions, gated), indent=1))
    else:
        prompts = [
            {name: item.prompt[-1]["content"] if item.prompt else "" for name, item in found.items.items()}
            for found in texts
        ]
        print_tables(
            output,
            lambda: decision_blocks(
                decisions, prompts, items, terminal=output == "text", short=not (is_wide() or metrics)
            ),
            lambda: decision_values(decisions),
        )
    if gated is not None:
        click.echo(gated.sentence, err=True)
        context.exit(0 if gated.shown else 1)


def _gated(decision: "Decision", rule: str | None, margin: float | None) -> "Gated | None":
    from rmbench.results.verdict import GATES, pass_gate

    found = next((gate for gate in GATES if gate == rule), None)
    return None if found is None else pass_gate(decision.verdicts[0], found, margin)


def _texts(decisions: "Sequence[Decision]", data: Path | None) -> "list[Texts]":
    """Return the texts of the items on which models disagree, per task."""
    from rmbench.report.worst import read_texts

    return [read_texts(d.runs[0], {item.item for item in d.report.disagreements}, data) for d in decisions]


def _write_page(
    page: Path, decisions: "Sequence[Decision]", data: Path | None, items: int, again: Sequence[str]
) -> None:
    """Write the page of a comparison: that of `rmbench report`, of these runs and these metrics."""
    from rmbench.core.files import write_atomic
    from rmbench.plot import name_sources
    from rmbench.report.numbers import Section
    from rmbench.report.page import make_report

    sections = [
        Section(f"s{n}", (decision.report.task,), tuple(name_sources(decision.runs)))
        for n, decision in enumerate(decisions, 1)
    ]
    paths = {} if data is None else {section.task: data for section in sections}
    report = make_report(sections, n_items=items, data=paths, command=again, decisions=decisions)
    write_atomic(page, report.html)
    click.echo(f"page in {one_line(str(page))}", err=True)
