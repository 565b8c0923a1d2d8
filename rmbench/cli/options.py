"""Options that several commands share, and the parsing of `key=value`.

Printing tables in the format that was asked for.
"""

from collections.abc import Callable, Sequence
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

import click

from rmbench.errors import ConfigError
from rmbench.format.tables import Block, Table, as_csv, as_latex, as_markdown, as_text

F = TypeVar("F", bound=Callable[..., Any])


def key_values(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """Return `("a=1", "b=x=y")` as `{"a": "1", "b": "x=y"}`; only the first `=` splits.

    Raises:
        ConfigError: On a missing `=`, an empty key or a key given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} {pair!r}: expected key=value")
        if key in found:
            raise ConfigError(f"{option} {key} is given twice")
        found[key] = value
    return found


class FiniteRange(click.FloatRange):
    """A number within bounds. `click.FloatRange` lets nan pass, and inf where there is no upper bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with what was expected."""
        found = super().convert(value, param, ctx)
        if not isfinite(found):
            self.fail(f"{found} is not a number in the range {self._describe_range()}.", param, ctx)
        return found


def results_option(function: F) -> F:
    """Add `--results`."""
    return click.option(
        "--results",
        type=click.Path(path_type=Path, file_okay=False),
        default=Path("results"),
        show_default=True,
        envvar="RMBENCH_RESULTS",
        show_envvar=True,
        help="Folder of run records.",
    )(function)


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout; logs go to stderr.")(
        function
    )


FORMATS = {
    "json": "Print JSON to stdout; logs go to stderr.",
    "markdown": "Print Markdown.",
    "csv": "Print CSV: a row per number, intervals in columns of their own.",
    "latex": "Print LaTeX (booktabs), with captions and labels.",
}
"""What a command can print besides what is for the terminal."""


def output_options(function: F) -> F:
    """Add `--json`, `--markdown`, `--csv` and `--latex`: at most one, passed as `output` (else `text`)."""

    def choose(context: click.Context, option: click.Parameter, value: bool) -> None:
        before = context.params.setdefault("output", "text")
        if value and before != "text":
            raise click.UsageError(f"--{before} and --{option.name}: give one of them", context)
        if value:
            context.params["output"] = option.name

    for name, meaning in reversed(FORMATS.items()):
        function = click.option(f"--{name}", is_flag=True, expose_value=False, callback=choose, help=meaning)(
            function
        )
    return function


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    envvar="RMBENCH_DEVICE",
    show_envvar=True,
    help="auto, cpu, cuda, cuda:1, mps.",
)

dtype_option = click.option(
    "--dtype",
    default="auto",
    show_default=True,
    envvar="RMBENCH_DTYPE",
    show_envvar=True,
    help="auto, float32, bfloat16, float16. auto: the checkpoint's where the hardware is fast in it, else"
    " float32.",
)

offline_option = click.option(
    "--offline",
    is_flag=True,
    envvar="RMBENCH_OFFLINE",
    show_envvar=True,
    help="Never reach for a hub.",
)

trust_option = click.option(
    "--trust-remote-code",
    is_flag=True,
    help="Run Python code that comes with a checkpoint. From the Hub it needs org/name@<40-hex commit>.",
)

on_bad_option = click.option(
    "--on-bad",
    type=click.Choice(["fail", "skip"]),
    default="fail",
    show_default=True,
    help="A row that does not fit: stop, or leave it out and count it.",
)

store_option = click.option(
    "--store",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="RMBENCH_STORE",
    show_envvar=True,
    help="Folder of the score stores.  [default: the user's cache folder]",
)


seed_option = click.option(
    "--seed",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    envvar="RMBENCH_SEED",
    show_envvar=True,
    help="Seed of everything that is drawn: bootstrap, folds, --limit, random models.",
)


def runtime_options(function: F) -> F:
    """Add what loading a model needs: `-M`, where and how it runs, what it may do, `--seed`."""
    for option in reversed(
        (
            click.option(
                "-M",
                "model_options",
                multiple=True,
                metavar="KEY=VALUE",
                help="Option of the model (repeat).",
            ),
            device_option,
            dtype_option,
            offline_option,
            trust_option,
            seed_option,
        )
    ):
        function = option(function)
    return function


task_options_option = click.option(
    "-T", "task_options", multiple=True, metavar="KEY=VALUE", help="Parameter of the task (repeat)."
)


def data_options(function: F) -> F:
    """Add what reading a task's data needs: `--data`, `-T`, `--on-bad`."""
    for option in reversed(
        (
            click.option(
                "--data",
                type=click.Path(path_type=Path),
                help="Read the task's data from this file or folder, in the same schema, or from"
                " org/name@COMMIT on the Hugging Face Hub (40 hex digits).",
            ),
            task_options_option,
            on_bad_option,
        )
    ):
        function = option(function)
    return function


convention_option = click.option(
    "--convention",
    type=click.Choice(["both", "official", "clean"]),
    default="both",
    show_default=True,
    help="Show a benchmark's own number (ties, weights and all as published), the clean estimate, or both.",
)

part_option = click.option(
    "--part",
    metavar="LOW:HIGH",
    help="Only prompts whose hash lies in this share: train on 0:0.5, evaluate on 0.5:1.",
)


_FORMATS = {"text": as_text, "markdown": as_markdown, "latex": as_latex}


def print_tables(output: str, blocks: Callable[[], Sequence[Block]], values: Callable[[], Table]) -> None:
    """Print tables to stdout.

    Args:
        output: `text`, `markdown`, `latex` or `csv`.
        blocks: The tables for people, with what is said of them.
        values: Their numbers in one table, for CSV.
    """
    if output == "csv":
        click.echo(as_csv(values()), nl=False)
    else:
        click.echo(_FORMATS[output](blocks()))
