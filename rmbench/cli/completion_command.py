"""`rmbench completion`: the script that makes the shell complete commands and options."""

import click
from click.shell_completion import get_completion_class

from rmbench.errors import ConfigError


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  eval "$(rmbench completion bash)"           (in ~/.bashrc)
    zsh:   eval "$(rmbench completion zsh)"            (in ~/.zshrc)
    fish:  rmbench completion fish | source            (in config.fish)
    """
    from rmbench.cli.main import cli

    found = get_completion_class(shell)
    if found is None:
        raise ConfigError(f"no completion for {shell!r}")
    click.echo(found(cli, {}, "rmbench", "_RMBENCH_COMPLETE").source())
