"""`rmbench verifiers`: what can give gold in place of the data."""

import inspect
import json
import re
from typing import Any

import click

from rmbench.cli.options import json_option


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
        click.echo(json.dumps(rows, indent=1))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row['verifier']} Gold: {row['gold_kind']}.")
        for key, option in row["options"].items():
            default = "none" if option["default"] is None else option["default"]
            click.echo(f"{'':<{width}}    {key} = {default}  {option['help']}".rstrip())


def _row(name: str, factory: Any) -> dict[str, Any]:
    doc = inspect.getdoc(factory) or ""
    parameters = inspect.signature(factory).parameters
    return {
        "name": name,
        "verifier": " ".join(doc.partition("\n\n")[0].split()),
        "version": getattr(factory, "version", None),
        "gold_kind": getattr(factory, "gold_kind", None),
        "options": {
            key: {"default": None if p.default is p.empty else p.default, "help": _help(doc, key)}
            for key, p in parameters.items()
        },
    }


def _help(doc: str, key: str) -> str:
    """Return what a docstring says of an argument."""
    found = re.search(rf"^\s+{re.escape(key)}: (.+?)(?=^\s+\w+: |\n\s*\n|\Z)", doc, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""
