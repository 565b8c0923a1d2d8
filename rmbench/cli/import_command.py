"""`rmbench import`: published results in, records out."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from rmbench.cli.options import (
    convention_option,
    key_values,
    on_bad_option,
    output_options,
    results_option,
    seed_option,
    task_options_option,
)
from rmbench.escape import one_line

_RUNS_PER_WORKER = 8
"""A process takes about as long to start as it does to measure a few runs."""


@click.command("import")
@click.argument("format_name", metavar="FORMAT")
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The benchmark's own data: items are then the task's, with prompts as clusters, and records stand"
    " beside those of `rmbench eval`.",
)
@task_options_option
@on_bad_option
@click.option(
    "--prior-sets/--no-prior-sets",
    default=True,
    show_default=True,
    help="RewardBench: join a model's prior sets. Models with and without them are not on the same items.",
)
@seed_option
@click.option(
    "--workers",
    "n_workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that measure.  [default: one per core where there are many files]",
)
@convention_option
@results_option
@output_options
@click.option("-q", "--quiet", is_flag=True, help="No remarks.")
def command(
    format_name: str,
    path: Path,
    data: Path | None,
    task_options: tuple[str, ...],
    on_bad: str,
    prior_sets: bool,
    seed: int,
    n_workers: int | None,
    convention: str,
    results: Path,
    output: str,
    quiet: bool,
) -> None:
    """Read results that a benchmark has published, as run records with rewards.

    \b
    FORMAT rewardbench: PATH is a copy of the results repository (eval-set-scores/, pref-sets-scores/,
                        eval-set/), a folder of scores files or one of them; of either version.
    FORMAT rm-bench:    PATH is a results folder, or one file; a model's files are one run.
    FORMAT judgebench:  PATH is a file of outputs or a folder of them.
    FORMAT alpacaeval:  PATH is results/ (<model>/<annotator>/annotations.json) or the .tar.xz.
    FORMAT rewardbench-bon: PATH is best-of-n/alpaca_eval/<generator>/ of RewardBench's results, or one of its
                        files; --data is the judge's annotations of the samples, <writer>.<sample>/.

    alpacaeval prints the win rate of every generator, 100 * mean(preference - 1) over the prompts at hand, as
    published, not length-controlled. Generators are no reward models, and have no record. Judges have: their
    verdicts are rewards on alpacaeval-calibration, and those of `-T annotator` are gold, which has no record
    of its own. Where both are the same model, by the annotators' names, the record says self-gold.

    No model is needed: `rmbench leaderboard` and `compare` then work on them. Everything is read and checked
    before the first record is written. --on-bad skip leaves out the files that do not fit, and names them.
    """
    from rmbench.cli.output import print_tables
    from rmbench.cli.win_rates import win_rate_blocks, win_rate_row, win_rate_values
    from rmbench.published import FORMATS, Import, write_runs
    from rmbench.scoring.workers import n_cores
    from rmbench.tables import record_blocks, record_values

    request = Import(data, key_values(task_options, "-T"), on_bad == "skip", prior_sets)
    runs = FORMATS.get(format_name)(path, request)
    workers = n_workers or max(1, min(n_cores(), len(runs) // _RUNS_PER_WORKER))
    command_line = ("rmbench", *sys.argv[1:])
    done = []
    for imported in write_runs(runs, results, seed=seed, command=command_line, n_workers=workers):
        done.append(imported)
        if not quiet:
            for note in imported.notes:
                click.echo(f"note: {one_line(imported.run.record.model)}: {one_line(note)}", err=True)
    for why in request.skipped:
        click.echo(f"left out: {one_line(why)}", err=True)
    records = [d.run.record for d in done]
    if output == "json":
        found: Any = [record.to_json() for record in records]
        if request.win_rates:
            found = {"records": found, "generators": [win_rate_row(w) for w in request.win_rates]}
        click.echo(json.dumps(found, indent=1))
        return
    print_tables(
        output,
        lambda: [*record_blocks(records, convention), *win_rate_blocks(request.win_rates)],
        lambda: win_rate_values(record_values(records, convention), request.win_rates),
    )
    if not quiet:
        reused = sum(d.reused for d in done)
        note = f" ({reused} there before)" if reused else ""
        click.echo(f"\n{len(done)} records in {one_line(str(results))}{note}", err=True)
