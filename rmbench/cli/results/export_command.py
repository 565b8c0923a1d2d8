"""`rmbench export`: write items for others to score, and records for RewardBench's own analysis."""

import json
from pathlib import Path

import click
from click.core import ParameterSource

from rmbench.cli.options import FileToWrite, eval_options
from rmbench.core.escape import one_line


@click.group("export", invoke_without_command=True, subcommand_metavar="[rewardbench ...]")
@click.option("-t", "--task", help="Task whose items to write.")
@eval_options("data", "params", "on_bad")
@click.option("-o", "--out", type=FileToWrite(), help="File to write.  [default: stdout]")
@eval_options("offline")
@click.pass_context
def command(
    ctx: click.Context,
    task: str | None,
    data: Path | None,
    params: dict[str, str],
    on_bad: str,
    out: Path | None,
    offline: bool,
) -> None:
    """Write a task's items as JSON Lines: {"id", "prompt": [turns], "responses": [texts]}, without gold.

    Score them anywhere (an API, a cluster, a model that does not fit here), write one line per item

    \b
        {"id": "<item id>", "rewards": [one number per response, or null]}

    and evaluate with: rmbench eval --model scores:FILE --task TASK

    `rmbench export rewardbench` writes records instead, as RewardBench publishes its results.
    """
    if ctx.invoked_subcommand is not None:
        if any(ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in ctx.params):
            raise click.UsageError(f"options of {ctx.invoked_subcommand!r} stand behind its name", ctx)
        return
    if task is None:
        raise click.UsageError("Missing option '-t' / '--task', or the name of what to export.", ctx)

    from rmbench.core.files import write_atomic_with
    from rmbench.tasks import export_items, read_task_items
    from rmbench.tasks.spec import apply_params, load_task

    spec = apply_params(load_task(task), params)
    found = read_task_items(spec, data, on_bad=on_bad, offline=offline)
    lines = (json.dumps(row, sort_keys=True) for row in export_items(found.items))
    if out is None:
        for line in lines:
            click.echo(line)
    else:
        write_atomic_with(out, lambda file: file.writelines(f"{line}\n".encode() for line in lines))
        click.echo(f"{len(found.items):,} items in {out}", err=True)


@command.command("rewardbench")
@click.argument("records", metavar="RECORDS...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "-o", "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to write to."
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="The benchmark's own data: files then hold the conversations, as turns without a template. Without"
    " it they have no texts, which RewardBench's analysis does not read.",
)
def rewardbench(records: tuple[Path, ...], out: Path, data: Path | None) -> None:
    """Write records of rewardbench and rewardbench2 as RewardBench publishes its results.

    RECORDS are results folders, parts of them, or single records; those of other tasks and of samples are
    left out. FOLDER gets, for each version,

    \b
        reward-bench-results/      eval-set/<org>/<model>.json         accuracies
        reward-bench-2-results/    eval-set-scores/<org>/<model>.json  scores
                                   pref-sets/, pref-sets-scores/       prior sets, where a record has them

    A model without an organisation is in `local/`; other characters than letters, digits and ._- are replaced
    in names of files. Models that compare pairs have results and null scores, as published. `rmbench import
    rewardbench FOLDER` reads it all back.
    """
    from rmbench.benchmarks.rewardbench.export import export_runs, exportable

    runs, left = exportable(records)
    written = export_runs(runs, out, data)
    for reason, count in sorted(left.items()):
        click.echo(f"left out: {count:,} {reason}", err=True)
    click.echo(f"{len(runs):,} records, {len(written):,} files in {one_line(str(out))}", err=True)
