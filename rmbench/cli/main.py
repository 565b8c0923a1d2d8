"""`rmbench`: the group of commands, shell completion, and errors as exit codes."""

import errno
import importlib
import io
import os
import sys
from difflib import get_close_matches

import click
from click.shell_completion import get_completion_class

from rmbench import __version__
from rmbench.core.address import without_secrets
from rmbench.core.escape import one_line
from rmbench.errors import ConfigError, RmbenchError, RunError, first_line, is_panic

COMMANDS = {
    "eval": "Evaluate reward models on tasks, and write records.",
    "data": "Show what preference data holds, what spoils numbers, and how a model reads it.",
    "tasks": "List the tasks, or show one.",
    "models": "List the registered reward models.",
    "leaderboard": "Regenerate leaderboards from records.",
    "compare": "Compare models or checkpoints on the same items, verdict first.",
    "power": "Say how small a difference data can show, and how many prompts one needs.",
    "report": "Write a page on one model or several: numbers, figures, worst items.",
    "records": "List the records of a results folder, or remove some.",
    "curve": "Draw best-of-N curves of records: gold, win rate, KL, over-optimisation.",
    "check": "Test a model for defects that spoil its numbers, or measure its biases.",
    "contamination": "Look for a task's data in a training set.",
    "remeasure": "Make the numbers of records again from stored rewards.",
    "import": "Read results that a benchmark has published.",
    "export": "Write a task's items for scoring elsewhere, or records for RewardBench.",
    "train": "Train a reward model on pairs.",
    "sample": "Sample a policy's responses: a pool for best-of-N.",
    "study": "Train a grid of models and compare the methods.",
    "verifiers": "List the verifiers, which check responses and give gold.",
    "losses": "List the losses that a reward model can be trained with.",
    "schema": "Print the JSON Schema of task, board, study, judge or record files.",
    "doctor": "Show versions, devices, extras and folders, for bug reports.",
    "completion": "Print the shell completion script.",
}
"""Command -> its line in `rmbench --help`, written here so that help imports no command."""

_PLACES = {
    "losses": "models_command:losses",
    "schema": "tasks_command:schema",
    "verifiers": "models_command:verifiers",
    **{
        name: f"results.{name}_command:command"
        for name in (
            "leaderboard",
            "compare",
            "power",
            "report",
            "records",
            "curve",
            "remeasure",
            "import",
            "export",
        )
    },
}
"""Command -> module below `rmbench.cli` and name there; by default `NAME_command:command`."""


class LazyGroup(click.Group):
    """A group that imports a command when it is used, so that `rmbench --help` starts fast."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of `rmbench --help`."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command `cmd_name`, imported now."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name == "completion":
            return completion
        place, _, attribute = _PLACES.get(cmd_name, f"{cmd_name}_command:command").partition(":")
        command = getattr(importlib.import_module(f"rmbench.cli.{place}"), attribute)
        assert isinstance(command, click.Command)  # noqa: S101  (our own modules)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Resolve as click does; an unknown command is an error that names the nearest one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"unknown command {args[0]!r}.{hint} Known: {', '.join(COMMANDS)}.")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Every command has its own --help. Start with: rmbench eval --model builtin:linear --task bon",
)
@click.version_option(__version__, "-V", "--version", prog_name="rmbench")
def cli() -> None:
    """Benchmark reward models.

    Does it rank like people do (preference)? Do its margins mean what they say (calibration)? Does picking
    with it give better text (bon: best-of-N against gold)? Every number has a 95% interval.
    """


_LONGEST_ERROR = 2000
"""Characters of an error: about a screen."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""Errors of the system when a disk is full, or fails: the run has failed, its input was right."""


def main() -> None:
    """Run the command line and exit: 0 done, 1 the run failed, 2 wrong usage or input, 130 interrupted."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """Run the command line with `arguments`; return the exit code."""
    _print_anything()
    try:
        code = cli.main(args=arguments, prog_name="rmbench", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except RmbenchError as error:
        _say(f"error: {error}")
        return error.exit_code
    except click.exceptions.Exit as stop:
        return stop.exit_code
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        where = f"{error.ctx.command_path} --help" if error.ctx else "rmbench --help"
        _say(f"error: {error.format_message()} (see: {where})")
        return 2
    except click.ClickException as error:
        _say(f"error: {error.format_message()}")
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _say("interrupted; rewards so far are kept, and the same command continues")
        return 130
    except BrokenPipeError:
        # The reader of the output (head, less) has ended. That is not an error; Python must not flush again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _refused_by_the_system(error)
    except BaseException as error:
        return _crash_of_a_library(error)


def _print_anything() -> None:
    """Let names and texts be printed that the terminal's encoding does not have, such as half a character."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _crash_of_a_library(error: BaseException) -> int:
    if not is_panic(error):
        raise error
    _say(f"error: a library failed: {first_line(error)}; a file of the model may be damaged")
    return RunError.exit_code


def _refused_by_the_system(error: OSError) -> int:
    """Say what the system refused: a full disk, a folder without permission, a name that is too long."""
    place = "" if error.filename is None else f"{os.fsdecode(error.filename)}: "
    reason = error.strerror or first_line(error)
    rewards = "; rewards so far are kept, and the same command continues" if error.errno in _FULL else ""
    _say(f"error: {place}{reason}{rewards}")
    return RunError.exit_code if error.errno in _FULL else ConfigError.exit_code


def _say(line: str) -> None:
    click.echo(one_line(without_secrets(line), _LONGEST_ERROR), err=True)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script for SHELL.

    \b
    bash:  eval "$(rmbench completion bash)"           (in ~/.bashrc)
    zsh:   eval "$(rmbench completion zsh)"            (in ~/.zshrc)
    fish:  rmbench completion fish | source            (in config.fish)
    """
    found = get_completion_class(shell)
    if found is None:
        raise ConfigError(f"no completion for {shell!r}")
    click.echo(found(cli, {}, "rmbench", "_RMBENCH_COMPLETE").source())


if __name__ == "__main__":
    main()
