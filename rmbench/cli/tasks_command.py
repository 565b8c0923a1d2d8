"""`rmbench tasks`: what there is to measure on."""

import json
from typing import Any

import click

from rmbench.cli.options import output_options
from rmbench.escape import one_line


@click.command("tasks")
@click.argument("name", required=False, metavar="[TASK]")
@click.option("--page", is_flag=True, help="All of it as a page of Markdown: docs/benchmarks.md.")
@output_options
def command(name: str | None, page: bool, output: str) -> None:
    """List the tasks, or show one with its source, licence and parameters.

    Your own task is a YAML file: `--task path/to/task.yaml`, or a folder in RMBENCH_TASKS_DIR.
    """
    from rmbench.specs import list_tasks, load_task

    if output not in ("text", "json") and (name or page):
        raise click.UsageError(f"--{output} is for the list of tasks", click.get_current_context())
    specs = [load_task(name)] if name else [load_task(task) for task in list_tasks()]
    if output == "json":
        click.echo(json.dumps([_as_json(spec) for spec in specs], indent=1))
        return
    if page:
        from rmbench.cli.benchmarks_page import benchmarks_page

        click.echo(benchmarks_page(specs), nl=False)
        return
    if name:
        _show(specs[0])
        return
    from rmbench.cli.output import print_tables
    from rmbench.tabular import Block, Column, Table

    rows = tuple((s.name, ", ".join(s.kinds), s.primary, s.data.where, s.summary) for s in specs)
    columns = [Column(head, "text") for head in ("task", "kinds", "headline", "data")]
    table = Table((*columns, Column("what", "text", 70)), rows)
    block = Block("tasks", (), table, caption=("Tasks: what each measures, and where its data comes from",))
    print_tables(output, lambda: [block], lambda: table)


def _as_json(spec: Any) -> dict[str, Any]:
    return {
        "name": spec.name,
        "version": spec.version,
        "kinds": list(spec.kinds),
        "primary": spec.primary,
        "strata": list(spec.strata),
        "summary": spec.summary,
        "source": spec.source,
        "license": spec.license,
        "sizes": dict(spec.sizes),
        "reproduced": list(spec.reproduced),
        "unchecked": list(spec.unchecked),
        "data": spec.data.where,
        "hub": list(spec.data.hub),
        "github": spec.data.github,
        "params": dict(spec.params),
    }


def _show(spec: Any) -> None:
    from rmbench.specs import parameter_help

    for key, value in _as_json(spec).items():
        if isinstance(value, list):
            value = ("; " if key in ("reproduced", "unchecked") else ", ").join(value)
        if key != "params" and value:
            click.echo(f"{key + ':':11} {one_line(spec.size if key == 'sizes' else str(value))}")
    if spec.data.github:
        click.echo(f"{'to get it:':11} {spec.data.to_get}, then --data the folder")
    click.echo("\nparameters (-T key=value):")
    for line in parameter_help(spec):
        click.echo(f"  {one_line(line)}")
