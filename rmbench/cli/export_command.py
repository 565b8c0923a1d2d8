"""`rmbench export`: items out, for somebody else to score."""

import json
from pathlib import Path

import click

from rmbench.cli.options import data_options, key_values, offline_option


@click.command("export")
@click.option("-t", "--task", required=True, help="The task whose items to write.")
@data_options
@click.option(
    "-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="File to write.  [default: stdout]"
)
@offline_option
def command(
    task: str, data: Path | None, task_options: tuple[str, ...], on_bad: str, out: Path | None, offline: bool
) -> None:
    """Write a task's items as JSON Lines: {"id", "prompt": [turns], "responses": [texts]}, without gold.

    Score them anywhere (an API, a cluster, a model that does not fit here), write one line per item

    \b
        {"id": "<item id>", "rewards": [one number per response, or null]}

    and evaluate with: rmbench eval --model scores:FILE --task TASK
    """
    from rmbench.data import export_items, read_task_items
    from rmbench.files import write_atomic_with
    from rmbench.specs import apply_params, load_task

    spec = apply_params(load_task(task), key_values(task_options, "-T"))
    found = read_task_items(spec, data, on_bad=on_bad, offline=offline)
    lines = (json.dumps(row, sort_keys=True) for row in export_items(found.items))
    if out is None:
        for line in lines:
            click.echo(line)
    else:
        write_atomic_with(out, lambda file: file.writelines(f"{line}\n".encode() for line in lines))
        click.echo(f"{len(found.items):,} items in {out}", err=True)
