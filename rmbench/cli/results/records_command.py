"""`rmbench records`: list the records of a results folder, or remove some."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli.options import eval_options, output_options, print_tables
from rmbench.core.escape import one_line
from rmbench.errors import ConfigError
from rmbench.format.tables import Block, Column, Table, cell_of

if TYPE_CHECKING:
    from rmbench.results.run import Run


@click.command("records")
@click.argument("words", metavar="[rm] [MODEL]...", nargs=-1)
@click.option("-t", "--task", "tasks", multiple=True, help="Only records of this task (repeat).")
@eval_options("results")
@click.option("--yes", "-y", is_flag=True, help="With rm: do not ask.")
@output_options
def command(words: tuple[str, ...], tasks: tuple[str, ...], results: Path, yes: bool, output: str) -> None:
    """List records: model, task, items, headline, time. `rm` removes those that are named.

    A MODEL is a name in the results folder, a name with the hash that tables show, or a record's path. Of a
    removed record, its rewards go too; the score store keeps what was computed, so the same evaluation needs
    no model work.

    \b
    rmbench records
    rmbench records my-rm --task preference
    rmbench records rm old-name
    rmbench records rm my-rm --task bon --yes
    """
    from rmbench.results.read import find_runs, runs_at
    from rmbench.results.run import shown_name

    removes = words[:1] == ("rm",)
    names = words[1:] if removes else words
    if removes and not names:
        raise click.UsageError("rm needs the name of a model, or the path of a record")
    if yes and not removes:
        raise click.UsageError("--yes belongs to rm")
    everything = runs_at(results) if results.exists() or not names else []
    runs = find_runs(names or [str(results)], results, tasks)
    if output == "json":
        rows = [_facts(run, shown_name(run, everything or runs)) for run in runs]
        if not removes:
            click.echo(json.dumps(rows, indent=1))
            return
    else:
        table = _table(runs, everything or runs)
        print_tables(output, lambda: [table_block(table, results)], lambda: table)
    if removes:
        _remove(runs, results, yes=yes)


def _facts(run: "Run", model: str) -> dict[str, object]:
    found = run.metrics.get(run.record.primary)
    return {
        "model": model,
        "task": run.task,
        "version": run.version,
        "limit": run.limit,
        "seed": run.seed,
        "metric": run.record.primary,
        "value": None if found is None else found.value,
        "time": run.record.provenance.get("time"),
        "run_id": run.record.run_id,
        "path": str(run.path),
    }


def _table(runs: "Sequence[Run]", everything: "Sequence[Run]") -> Table:
    from rmbench.results.run import shown_name

    heads = ("model", "task", "items", "seed", "headline", "value", "made", "record")
    numbers = {"seed": Column("seed", "count"), "value": Column("value")}
    columns = tuple(numbers.get(head, Column(head, "text")) for head in heads)
    rows = []
    for run in runs:
        counts = run.record.counts
        items = f"{counts['items']:,}" + (f" of {counts['items_available']:,}" if run.limit else "")
        value = cell_of(run.metrics.get(run.record.primary))
        made = str(run.record.provenance.get("time") or "")[:16].replace("T", " ")
        rows.append((shown_name(run, everything), f"{run.task}@{run.version}", items, run.seed,
                     run.record.primary, value, made, run.record.run_id))  # fmt: skip
    return Table(columns, tuple(rows))


def table_block(table: Table, results: Path) -> Block:
    """Return the list of records with its heading."""
    n = len(table.rows)
    return Block("records", (f"{n:,} record{'s' * (n != 1)} in {one_line(str(results))}",), table)


def _remove(runs: "Sequence[Run]", results: Path, *, yes: bool) -> None:
    """Remove records with the files beside them, and folders that are empty then."""
    if not yes:
        if not sys.stdin.isatty():
            raise ConfigError(f"{len(runs)} records would be removed; give --yes to remove them")
        click.confirm(f"Remove these {len(runs)} records?", abort=True, err=True)
    for run in runs:
        run.path.unlink()  # first: a record without rewards would be damaged
        for beside in (run.rewards_path, run.influence_path):
            beside.unlink(missing_ok=True)
        for folder in (run.path.parent, run.path.parent.parent):
            if folder.resolve() != results.resolve() and folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()
    click.echo(f"{len(runs)} record{'s' * (len(runs) != 1)} removed", err=True)
