"""Printing tables in the format that was asked for."""

from collections.abc import Callable, Sequence

import click

from rmbench.latex import as_latex
from rmbench.tabular import Block, Table, as_csv, as_markdown, as_text

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
