"""`rmbench models`: what can be evaluated."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from rmbench.cli.options import output_options
from rmbench.escape import one_line

if TYPE_CHECKING:
    from rmbench.models.catalogue import OptionRow


@click.command("models")
@click.argument("model", required=False, metavar="[MODEL]")
@output_options
def command(model: str | None, output: str) -> None:
    """List the registered reward models and the forms that --model takes, or show one with its options.

    MODEL is whatever --model takes, or a scheme: `rmbench models hf` lists the options of every Hugging Face
    model.

    Register your own with @register_reward_model("name"), by an entry point in the group rmbench.models, or
    name it by file: --model my_rm.py:MyRM.
    """
    from rmbench.models.catalogue import list_models
    from rmbench.models.resolve import RULES

    if model is not None:
        if output not in ("text", "json"):
            raise click.UsageError(f"--{output} is for the list of models", click.get_current_context())
        _show(model, as_json=output == "json")
        return
    rows = list_models()
    if output == "json":
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    from rmbench.cli.output import print_tables
    from rmbench.tabular import Block, Column, Table

    columns = (Column("model", "text"), Column("kind", "text"), Column("what", "text", 80))
    table = Table(columns, tuple((r.name, r.kind, r.summary) for r in rows))
    block = Block("models", (), table, caption=("Registered reward models, and the forms of --model",))
    print_tables(output, lambda: [block], lambda: table)
    if output == "text":
        click.echo(f"\n{RULES}")


def _show(model: str, as_json: bool) -> None:
    from rmbench.models.catalogue import describe_model

    summary, options = describe_model(model)
    if as_json:
        listed = [asdict(option) for option in options]
        click.echo(json.dumps({"model": model, "summary": summary, "options": listed}, indent=1))
        return
    click.echo(f"{one_line(model)}: {one_line(summary)}\n\noptions (-M key=value):")
    for line in option_lines(options) or ["none"]:
        click.echo(f"  {line}")


def option_lines(options: "Sequence[OptionRow]") -> list[str]:
    """Return options for a person: what each takes, its default, and below that what it means."""
    width = max((len(option.name) for option in options), default=0)
    lines = []
    for option in options:
        default = f"default: {option.default}" if option.default else "required"
        lines.append(f"{one_line(option.name):{width}}  {one_line(option.type)} ({one_line(default)})")
        if option.summary:
            lines.append(f"{'':{width}}  {one_line(option.summary)}")
    return lines
