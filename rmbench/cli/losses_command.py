"""`rmbench losses`: what a reward model can be trained with."""

import inspect
import json
import re
from collections.abc import Callable
from typing import Any

import click

from rmbench.cli.options import json_option
from rmbench.errors import ConfigError


@click.command("losses")
@json_option
def command(as_json: bool) -> None:
    """List the registered losses: equation, options with their defaults, source.

    Your own: `@register_loss("my-loss")` from rmbench.train.losses. In a file: `--method my_loss.py:my-loss`;
    in a package: an entry point in the group `rmbench.losses`.
    """
    try:
        from rmbench.train.losses import LOSSES, summary_of
    except ImportError as error:
        raise ConfigError(str(error)) from None

    rows: list[dict[str, Any]] = [
        {"name": n, "loss": summary_of(loss), "options": _options(loss), "source": _source(loss)}
        for n, loss in ((n, LOSSES.get(n)) for n in LOSSES.names())
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row['loss']}")
        if row["source"] and row["source"] not in row["loss"]:
            click.echo(f"{'':<{width}}    {row['source']}")
        for key, default in row["options"].items():
            click.echo(f"{'':<{width}}    {key} = {'none' if default is None else default}")


def _source(loss: Callable[..., Any]) -> str | None:
    """Return where a loss comes from, as its docstring says it; None if it is our own."""
    found = re.search(r"Source: (.+?)\s*(?:\n\s*\n|$)", loss.__doc__ or "", re.DOTALL)
    return " ".join(found[1].split()) if found else None


def _options(loss: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a loss with their defaults: what follows rewards and batch."""
    parameters = list(inspect.signature(loss).parameters.items())[3:]
    return {key: p.default for key, p in parameters if p.default is not p.empty}
