"""`rmbench tasks`: list the tasks, show one, or write docs/benchmarks.md from task files and kinds.

`rmbench schema`: JSON Schemas of the files that rmbench reads, for editors and other programs.
"""

import inspect
import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from rmbench.cli.options import output_options
from rmbench.core.escape import for_markdown, one_line
from rmbench.core.schema import json_schema
from rmbench.metrics import KINDS
from rmbench.tasks.spec import TaskSpec

_HEADS = ("task", "licence", "data", "published size", "what", "official number", "clean numbers")
_NOTHING = "nothing yet"
_INTRODUCTION = """\
# Benchmarks

Made by `rmbench tasks --page` from the task files in `tasks/`; do not edit. *Official* numbers follow a
benchmark's own published definition, quirks included; *clean* ones are the same for every benchmark and have
95% intervals clustered by prompt. Of each task it says what was compared with which publication, and what was
not. Data is read from `--data PATH`, or from a pinned revision on the hub where one is named; a repository is
for you to clone.

"""


def benchmarks_page(specs: Sequence[TaskSpec]) -> str:
    """Return the page as Markdown. The same task files give the same bytes."""
    lines = [
        *_INTRODUCTION.splitlines(),
        _row(_HEADS),
        _row(["---"] * len(_HEADS)),
        *[_row(_summary(spec)) for spec in specs],
    ]
    for spec in specs:
        lines += ["", *_section(spec)]
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def _summary(spec: TaskSpec) -> list[str]:
    return [
        f"[`{spec.name}`](#{spec.name})",
        for_markdown(spec.license),
        spec.data.where,
        for_markdown(spec.size),
        for_markdown(spec.summary),
        ", ".join(f"`{kind}`" for kind in spec.kinds_of("official")) or "–",
        ", ".join(spec.kinds_of("clean")) or "–",
    ]


def _section(spec: TaskSpec) -> list[str]:
    lines = [
        f"## {spec.name}",
        "",
        f"{one_line(spec.summary)} Version {spec.version}; source: <{spec.source}>.",
        "",
        f"- licence: {one_line(spec.license)}",
        f"- where the data is: {spec.data.where}; size: {one_line(spec.size)}",
    ]
    fetched = spec.data.hub_files or spec.data.files or "*"
    lines += [f"- data: `{name}`, files `{fetched}`" for name in spec.data.hub]
    if spec.data.github:
        lines.append(f"- repository: `{spec.data.github}` (`{spec.data.to_get}`, then `--data` the folder)")
    lines.append(f"- headline: `{spec.primary}`" + (f"; by {', '.join(spec.strata)}" if spec.strata else ""))
    lines += [f"- official, `{kind}`: {_definition(kind)}" for kind in spec.kinds_of("official")]
    for head, said in (("reproduced", spec.reproduced), ("not checked", spec.unchecked)):
        lines += [
            f"- {head}: {one_line(text)}" for text in said or (_NOTHING,) if said or head == "reproduced"
        ]
    return lines


def _definition(kind: str) -> str:
    """Return the docstring of the kind's module: the number it computes, and its source."""
    told = inspect.getdoc(sys.modules[KINDS.get(kind).__module__]) or ""
    return " ".join(told.split())


@click.command("tasks")
@click.argument("name", required=False, metavar="[TASK]")
@click.option("--page", is_flag=True, help="All tasks as a page of Markdown: docs/benchmarks.md.")
@output_options
def command(name: str | None, page: bool, output: str) -> None:
    """List the tasks, or show one with its source, licence and parameters.

    Your own task is a YAML file: `--task path/to/task.yaml`, or a folder in RMBENCH_TASKS_DIR.
    """
    from rmbench.tasks.spec import list_tasks, load_task

    if output not in ("text", "json") and (name or page):
        raise click.UsageError(f"--{output} is for the list of tasks", click.get_current_context())
    specs = [load_task(name)] if name else [load_task(task) for task in list_tasks()]
    if output == "json":
        click.echo(json.dumps([_as_json(spec) for spec in specs], indent=1))
        return
    if page:
        click.echo(benchmarks_page(specs), nl=False)
        return
    if name:
        _show(specs[0])
        return
    from rmbench.cli.options import print_tables
    from rmbench.format.tables import Block, Column, Table

    rows = tuple((s.name, ", ".join(s.kinds), s.primary, s.data.where, s.summary) for s in specs)
    heads = {"task": 0, "kinds": 2, "headline": 1, "data": 0}
    columns = [Column(head, "text", drop=drop) for head, drop in heads.items()]
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
    from rmbench.tasks.spec import parameter_help

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


FILES = ("task", "board", "study", "judge", "record")


@click.command()
@click.argument("file", type=click.Choice(FILES))
def schema(file: str) -> None:
    """Print the JSON Schema of a kind of FILE; editors complete and check with it.

    \b
    rmbench schema task > task.schema.json
    # then, as the first line of a task file, for an editor with the YAML language server:
    # yaml-language-server: $schema=task.schema.json

    The schema lists all task kinds and readers, plug-ins included, with their parameters and options.
    """
    click.echo(json.dumps(schema_of(file), indent=2, ensure_ascii=False))


def schema_of(file: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a kind of file, one of `FILES`."""
    if file == "task":
        from rmbench.tasks.spec import task_schema

        return task_schema()
    if file == "board":
        from rmbench.boards.definition import BoardSpec

        return json_schema(BoardSpec, "A leaderboard of rmbench")
    if file == "study":
        from rmbench.study.spec import StudySpec

        return json_schema(StudySpec, "A study of rmbench")
    if file == "judge":
        from rmbench.models.judge.pack import Pack
        from rmbench.models.judge.template import Template

        return json_schema(Pack, "The pack or the prompt of a judge of rmbench", Template)
    from rmbench.results.record import RecordFile

    return json_schema(RecordFile, "A run record of rmbench")
