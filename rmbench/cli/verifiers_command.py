"""`rmbench verifiers`: what can give gold in place of the data."""

import inspect
import json
from dataclasses import asdict
from typing import Any

import click

from rmbench.cli.models_command import option_lines
from rmbench.cli.options import json_option
from rmbench.escape import one_line


@click.command("verifiers")
@json_option
def command(as_json: bool) -> None:
    """List the verifiers that give gold (`--gold verifier:NAME`), with their options (`-G key=value`).

    Your own: a class with `@register_verifier("my-verifier")` from rmbench.verifiers.verdicts. In a file:
    `--gold verifier:my_file.py:my-verifier`; in a package: an entry point in the group `rmbench.verifiers`.
    """
    from rmbench.verifiers.verdicts import GOLD_VERIFIERS

    rows = [_row(name, GOLD_VERIFIERS.get(name)) for name in GOLD_VERIFIERS]
    if as_json:
        click.echo(json.dumps([row | {"options": [*map(asdict, row["options"])]} for row in rows], indent=1))
        return
    for row in rows:
        click.echo(f"{one_line(row['name'])}: {one_line(row['summary'])} Gold: {one_line(row['gold_kind'])}.")
        for line in option_lines(row["options"]):
            click.echo(f"  {line}")


def _row(name: str, factory: Any) -> dict[str, Any]:
    from rmbench.models.catalogue import describe_options, summary_of

    return {
        "name": name,
        "summary": summary_of(factory),
        "version": getattr(factory, "version", None),
        "gold_kind": str(getattr(factory, "gold_kind", "unknown")),
        "options": describe_options(factory, inspect.signature(factory).parameters.values()),
    }
