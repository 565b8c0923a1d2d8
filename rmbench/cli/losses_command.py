"""`rmbench losses`: what a reward model can be trained with."""

import inspect
import json
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

    found = {name: (summary_of(LOSSES.get(name)), _options(LOSSES.get(name))) for name in LOSSES.names()}
    if as_json:
        rows = [{"name": n, "loss": equation, "options": options} for n, (equation, options) in found.items()]
        click.echo(json.dumps(rows, indent=1))
        return
    width = max(map(len, found))
    for name, (equation, options) in found.items():
        click.echo(f"{name:<{width}}  {equation}")
        for key, default in options.items():
            click.echo(f"{'':<{width}}    {key} = {'none' if default is None else default}")


def _options(loss: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a loss with their defaults: what follows rewards and batch."""
    parameters = list(inspect.signature(loss).parameters.items())[3:]
    return {key: p.default for key, p in parameters if p.default is not p.empty}
