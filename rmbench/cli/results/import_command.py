"""`rmbench import`: read published results as records.

Win rates of AlpacaEval's generators are shown in its units and under its names.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from rmbench.cli.options import eval_options, output_options
from rmbench.core.escape import one_line
from rmbench.format.tables import Block, Cell, Column, Number, Table
from rmbench.results.published import WinRate


def win_rate_row(found: WinRate) -> dict[str, Any]:
    """Return a generator's numbers as in AlpacaEval's leaderboard, in percent, and the 95% interval."""
    estimate = found.win_rate
    return {
        "generator": found.generator,
        "win_rate": 100 * estimate.value,
        "standard_error": None if estimate.stderr is None else 100 * estimate.stderr,
        "ci95": None if estimate.ci95 is None else [100 * bound for bound in estimate.ci95],
        "discrete_win_rate": 100 * found.discrete_win_rate,
        "n_wins": found.n_wins,
        "n_wins_base": found.n_wins_base,
        "n_draws": found.n_draws,
        "n_total": found.n_total,
        "n_missing": found.n_missing,
        "adversarial": found.adversarial,
    }


def win_rate_blocks(found: Sequence[WinRate]) -> list[Block]:
    """Return the table of generators, best first; no block without generators."""
    if not found:
        return []
    columns = (
        Column("generator", "text"),
        *(Column(head) for head in ("win_rate", "standard_error", "discrete")),
        *(Column(head, "count") for head in ("draws", "n_total", "missing")),
    )
    rows = []
    for entry in _best_first(found):
        row = win_rate_row(entry)
        rows.append(
            (
                f"{entry.generator[:40]}{' (adversarial)' if entry.adversarial else ''}",
                _percent(row["win_rate"], row["ci95"]),
                None if row["standard_error"] is None else _percent(row["standard_error"]),
                _percent(row["discrete_win_rate"]),
                *(row[key] for key in ("n_draws", "n_total", "n_missing")),
            )
        )
    caption = ("Win rates of generators in percent, with 95% intervals",)
    return [Block("win-rates", (), Table(columns, tuple(rows)), caption=caption)]


def win_rate_values(numbers: Table, found: Sequence[WinRate]) -> Table:
    """Return the table of a row per number with the win rates below."""
    rows: list[tuple[Cell, ...]] = []
    for entry in _best_first(found):
        row = win_rate_row(entry)
        for metric, interval in (("win_rate", row["ci95"]), ("discrete_win_rate", None)):
            value = _percent(row[metric], interval)
            size = ("percent", entry.n_total, entry.n_total, None)
            rows.append(("alpacaeval", None, "win_rate", entry.generator, metric, value, *size))
    return replace(numbers, rows=(*numbers.rows, *rows))


def _best_first(found: Sequence[WinRate]) -> list[WinRate]:
    return sorted(found, key=lambda w: (-w.win_rate.value, w.generator))


def _percent(value: float, interval: list[float] | None = None) -> Number:
    return Number(value, (interval[0], interval[1]) if interval else None, "percent")


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
@eval_options("params", "on_bad")
@click.option(
    "--prior-sets/--no-prior-sets",
    default=True,
    show_default=True,
    help="RewardBench: join a model's prior sets. Models with and without them are not on the same items.",
)
@click.option(
    "--reduce",
    metavar="HOW",
    default="prod",
    show_default=True,
    help="RewardMATH: how the values of a solution's steps become one reward: prod (as published), mean, min"
    " or last. The name of such a model ends with it.",
)
@eval_options("seed")
@click.option(
    "--workers",
    "n_workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="Processes that measure.  [default: one; one per core for many files]",
)
@eval_options("convention", "results")
@output_options
@click.option("-q", "--quiet", is_flag=True, help="No remarks.")
def command(
    format_name: str,
    path: Path,
    data: Path | None,
    params: dict[str, str],
    on_bad: str,
    prior_sets: bool,
    reduce: str,
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
    FORMAT reward-math: PATH is results/ of RewardMATH, or one of its files: rewards, step values, ratings or
                        verdicts on its problems, or on RewardBench's maths pairs (task rewardbench-math).
    FORMAT processbench: PATH is a table of ProcessBench with columns of step rewards, or a folder of them; a
                        file without steps is joined by id.
    FORMAT alpacaeval:  PATH is results/ (<model>/<annotator>/annotations.json) or the .tar.xz.
    FORMAT rewardbench-bon: PATH is best-of-n/alpaca_eval/<generator>/ of RewardBench's results, or one of its
                        files; --data is the judge's annotations of the samples, <writer>.<sample>/.

    alpacaeval prints the win rate of every generator, 100 * mean(preference - 1) over its prompts, as
    published, not length-controlled. Generators are not reward models and get no record. Judges get one:
    their verdicts are rewards on alpacaeval-calibration, and the verdicts of `-T annotator` are gold. The
    gold judge gets no record. If a judge is the same model as the gold judge, by the annotators' names, its
    record says self-gold.

    No model is needed: `rmbench leaderboard` and `compare` then work on the records. All files are read and
    checked before the first record is written. --on-bad skip leaves out files that do not fit and names them.
    """
    from rmbench.cli.options import print_tables
    from rmbench.report.tables import record_blocks, record_values
    from rmbench.results.published import FORMATS, Import, write_runs
    from rmbench.scoring.processes import n_cores

    request = Import(data, params, on_bad == "skip", prior_sets, reduce)
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
    if output == "json":
        found: Any = [d.run.record.to_json() for d in done]
        if request.win_rates:
            found = {"records": found, "generators": [win_rate_row(w) for w in request.win_rates]}
        click.echo(json.dumps(found, indent=1))
        return
    stored = [d.run for d in done]
    print_tables(
        output,
        lambda: [*record_blocks(stored, convention), *win_rate_blocks(request.win_rates)],
        lambda: win_rate_values(record_values(stored, convention), request.win_rates),
    )
    if not quiet:
        reused = sum(d.reused for d in done)
        note = f" ({reused} there before)" if reused else ""
        click.echo(f"\n{len(done)} records in {one_line(str(results))}{note}", err=True)
