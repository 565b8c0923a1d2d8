"""`rmbench models`: what can be evaluated."""

import json

import click

from rmbench.cli.options import json_option
from rmbench.escape import one_line


@click.command("models")
@json_option
def command(as_json: bool) -> None:
    """List the registered reward models and the forms that --model takes.

    Register your own with @register_reward_model("name"), by an entry point in the group rmbench.models, or
    name it by file: --model my_rm.py:MyRM.
    """
    from rmbench.models.catalogue import list_models
    from rmbench.models.resolve import RULES

    rows = list_models()
    if as_json:
        fields = ("name", "kind", "summary", "source")
        click.echo(json.dumps([{f: getattr(row, f) for f in fields} for row in rows], indent=1))
        return
    from tabulate import tabulate

    table = [[one_line(r.name), r.kind, one_line(r.summary, 80)] for r in rows]
    click.echo(tabulate(table, headers=["model", "kind", "what"], tablefmt="simple"))
    click.echo(f"\n{RULES}")
