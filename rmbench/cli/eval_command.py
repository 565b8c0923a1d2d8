"""`rmbench eval`: the headline command."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rmbench.cli.options import (
    convention_option,
    data_options,
    key_values,
    output_options,
    part_option,
    results_option,
    runtime_options,
    store_option,
)
from rmbench.core.escape import one_line
from rmbench.core.options import parse_part
from rmbench.errors import ConfigError
from rmbench.models.resolve import rules

if TYPE_CHECKING:
    from rmbench.evaluation.request import Request
    from rmbench.evaluation.run import Outcome


class _WithRules(click.Command):
    """A command whose help ends with the rules of `--model`; they are put together when they are shown."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the rules."""
        self.epilog = f"\b\n{rules()}"
        super().format_epilog(ctx, formatter)


@click.command("eval", cls=_WithRules)
@click.option(
    "-m",
    "--model",
    "models",
    multiple=True,
    required=True,
    metavar="MODEL",
    help="What to evaluate (repeat).",
)
@click.option("-t", "--task", "tasks", multiple=True, required=True, metavar="TASK", help="On what (repeat).")
@data_options
@runtime_options
@click.option(
    "--gold",
    metavar="SPEC",
    help="What gives the gold in place of the data: a reward model, as --model takes it, or verifier:NAME.",
)
@click.option("-G", "gold_options", multiple=True, metavar="KEY=VALUE", help="Option of the gold (repeat).")
@click.option("--self-gold", is_flag=True, help="Let a model be measured against its own scores. Recorded.")
@part_option
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    help="A seeded random sample of N items. Recorded; never on a board.",
)
@click.option(
    "--batch-tokens",
    type=click.IntRange(min=1),
    envvar="RMBENCH_BATCH_TOKENS",
    show_envvar=True,
    help="Most tokens in one forward pass. Changes speed and memory, not the numbers."
    "  [default: what fits into free memory]",
)
@click.option(
    "--workers",
    "n_workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    metavar="N",
    help="Processes that score, each with a model of its own: one per GPU, or a few on a CPU's cores.",
)
@click.option(
    "--executor",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where the workers run: as processes of this machine, or as actors of the Ray cluster at RAY_ADDRESS"
    " (without one: of a Ray that is started here). Needs rmbench[ray].",
)
@convention_option
@results_option
@store_option
@output_options
@click.option("-q", "--quiet", is_flag=True, help="No progress bar and no remarks.")
def command(
    models: tuple[str, ...], tasks: tuple[str, ...], data: Path | None, task_options: tuple[str, ...],
    on_bad: str, model_options: tuple[str, ...], device: str, dtype: str, offline: bool,
    trust_remote_code: bool, seed: int, gold: str | None, gold_options: tuple[str, ...], self_gold: bool,
    part: str | None, limit: int | None, batch_tokens: int | None, n_workers: int,
    executor: str, convention: str, results: Path, store: Path | None, output: str, quiet: bool,
) -> None:  # fmt: skip
    """Evaluate reward models on tasks, print the table, and write a record of each run.

    \b
    rmbench eval --model builtin:linear --task bon
    rmbench eval --model length --model path/to/my-rm --task preference --task bon
    rmbench eval --model my_rm.py:MyRM --task hh-harmless --data hh/test.jsonl.gz
    rmbench eval --model scores:rewards.jsonl --task judgebench --data judgebench/ --convention official
    rmbench eval --model my/rm --task gsm8k-bon --data pools.jsonl --gold verifier:math
    rmbench eval --model my/rm --task bon --gold org/bigger-rm
    RAY_ADDRESS=10.0.0.1:6379 rmbench eval --model my/rm --task bon --executor ray --workers 8

    Rewards are stored as they come: the same command continues where a killed one stopped, and a second
    run does no model work. A record holds the numbers of both conventions, whatever
    is shown; --latex, --csv and --markdown print the same tables for a paper, a spreadsheet, an issue.
    `rmbench tasks` and `rmbench models` list the names.
    """
    from rmbench.evaluation.request import Asked, Request, run_all
    from rmbench.models.runtime import Runtime

    if model_options and len(models) > 1:
        raise ConfigError("-M belongs to one model; give a single --model with it")
    runtime = Runtime(
        device=device, dtype=dtype, offline=offline, seed=seed, trust_remote_code=trust_remote_code,  # type: ignore[arg-type]
    )  # fmt: skip
    request = Request(
        models=[Asked(spec, key_values(model_options, "-M")) for spec in dict.fromkeys(models)],
        tasks=tasks,
        data=data,
        task_options=key_values(task_options, "-T"),
        on_bad=on_bad,
        runtime=runtime,
        part=None if part is None else parse_part(part, "--part"),
        limit=limit,
        seed=seed,
        batch_tokens=batch_tokens,
        n_workers=n_workers,
        executor=executor,
        gold=gold,
        gold_options=key_values(gold_options, "-G"),
        self_gold=self_gold,
        convention=convention,
        results=results,
        store=store,
        command=("rmbench", *sys.argv[1:]),
        show_progress=not quiet,
    )
    outcomes = run_all(request)
    if output == "json":
        click.echo(json.dumps([o.run.record.to_json() for o in outcomes], indent=1))
        return
    _show(outcomes, request, output)


def _show(outcomes: "Sequence[Outcome]", request: "Request", output: str) -> None:
    """Print the tables, and where the records are."""
    from rmbench.cli.options import print_tables
    from rmbench.report.tables import record_blocks, record_values

    runs, convention = [o.run for o in outcomes], request.convention
    print_tables(output, lambda: record_blocks(runs, convention), lambda: record_values(runs, convention))
    if request.show_progress:
        reused = sum(o.reused for o in outcomes)
        note = f" ({reused} complete before, nothing done)" if reused else ""
        where = one_line(str(request.results))
        click.echo(f"\n{len(outcomes)} records in {where}{note}", err=True)
