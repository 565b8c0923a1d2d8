"""`rmbench data`: what preference data holds, what spoils numbers, and how a model reads it."""

import json
from pathlib import Path
from typing import Any

import click

from rmbench.cli.options import eval_options, json_option, runtime_options


@click.command("data")
@click.argument("data", type=click.Path(path_type=Path), metavar="PATH|ORG/NAME")
@click.option("-m", "--model", metavar="MODEL", help="Also show how this model reads it.")
@eval_options("options")
@click.option("-t", "--task", default="preference", show_default=True, help="Read it as this task does.")
@eval_options("params")
@click.option(
    "--items",
    type=click.IntRange(min=0),
    default=2,
    show_default=True,
    help="Items to show as the model reads them.",
)
@runtime_options
@json_option
def command(
    data: Path,
    model: str | None,
    options: dict[str, str],
    task: str,
    params: dict[str, str],
    items: int,
    as_json: bool,
    **runtime: Any,
) -> None:
    """Show what preference data holds: how it is read, counts, lengths, and what spoils numbers.

    \b
    rmbench data pairs.jsonl
    rmbench data pairs.parquet --model path/to/rm
    rmbench data answers.csv -T columns=prompt:ask,chosen:good,rejected:bad
    rmbench data org/name:test

    With a model all conversations are tokenised, and the first items are shown as it reads them: with its
    chat template, where they are cut, and the token at which the reward is read. A folder or a data set with
    several splits is read split by split; prompts that two splits share are counted. So are rows that do not
    fit.
    """
    from rmbench.errors import ConfigError
    from rmbench.format.tables import as_text
    from rmbench.inspection.run import inspect_data
    from rmbench.inspection.told import as_json_values, blocks_of, shown_lines
    from rmbench.models.resolve import load_model
    from rmbench.models.runtime import Runtime
    from rmbench.tasks.spec import apply_params, load_task

    if options and model is None:
        raise ConfigError("-M is an option of the model; give --model MODEL with it")
    spec = apply_params(load_task(task), params)
    machine = Runtime(**runtime)
    loaded = None if model is None else load_model(model, options, machine)
    found = inspect_data(spec, data, offline=machine.offline, model=loaded, n_shown=items)
    if as_json:
        click.echo(json.dumps(as_json_values(found), indent=1))
        return
    click.echo(as_text(blocks_of(found)))
    for line in shown_lines(found):
        click.echo(line)
