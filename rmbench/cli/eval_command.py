"""`rmbench eval`: evaluate models on tasks, print the table, write records."""

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from rmbench.cli.options import PerModelCommand, options_of, output_options, print_tables
from rmbench.core.escape import one_line
from rmbench.evaluation.options import EvalOptions
from rmbench.models.resolve import rules

if TYPE_CHECKING:
    from rmbench.evaluation.run import Outcome


class _WithRules(PerModelCommand):
    """A command whose help ends with the rules of `--model`, which are formatted when they are shown."""

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
@options_of(EvalOptions, output_options)
def command(models: tuple[str, ...], tasks: tuple[str, ...], options: EvalOptions, output: str) -> None:
    """Evaluate reward models on tasks, print the table, and write a record of each run.

    \b
    rmbench eval --model builtin:linear --task bon
    rmbench eval --model length --model path/to/my-rm --task preference --task bon
    rmbench eval --model my_rm.py:MyRM --task hh-harmless --data hh/test.jsonl.gz
    rmbench eval --model runs/a -M label=1 --model runs/b -M max_length=512 --task preference
    rmbench eval --model scores:rewards.jsonl --task judgebench --data judgebench/ --convention official
    rmbench eval --model my/rm --task gsm8k-bon --data pools.jsonl --gold verifier:math
    rmbench eval --model my/rm --task bon --gold org/bigger-rm
    RAY_ADDRESS=10.0.0.1:6379 rmbench eval --model my/rm --task bon --executor ray --workers 8

    Rewards are stored as they are computed: after a kill, the same command continues, and a second run does
    no model work. With several models, -M belongs to the --model before it, or to the one in brackets:
    -M '[runs/a]label=1', -M '[2]label=1'. A record always holds the numbers of both conventions. --latex,
    --csv and --markdown print the same tables for a paper, a spreadsheet, an issue.
    `rmbench tasks` and `rmbench models` list the names.
    """
    from rmbench.evaluation.names import options_by_model
    from rmbench.evaluation.request import Asked, run_all

    own = options_by_model(models, options.options)
    asked = list[Asked]()
    for one in map(Asked, models, own):
        asked += [one] if one not in asked else []
    outcomes = run_all(asked, tasks, replace(options, command=("rmbench", *sys.argv[1:])))
    if output == "json":
        click.echo(json.dumps([o.run.record.to_json() for o in outcomes], indent=1))
        return
    _show(outcomes, options, output)


def _show(outcomes: "Sequence[Outcome]", options: EvalOptions, output: str) -> None:
    """Print the tables, and the folder of the records."""
    from rmbench.report.tables import record_blocks, record_values

    runs, convention = [o.run for o in outcomes], options.convention
    print_tables(output, lambda: record_blocks(runs, convention), lambda: record_values(runs, convention))
    if not options.quiet:
        reused = sum(o.reused for o in outcomes)
        note = f" ({reused} complete before, nothing done)" if reused else ""
        click.echo(f"\n{len(outcomes)} records in {one_line(str(options.results))}{note}", err=True)
