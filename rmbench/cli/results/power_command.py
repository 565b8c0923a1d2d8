"""`rmbench power`: smallest difference that data can show, and prompts that a smaller one needs."""

import json
from pathlib import Path

import click

from rmbench.cli.options import (
    FiniteRange,
    eval_options,
    output_options,
)


@click.command("power")
@click.argument("models", nargs=-1, metavar="[A] [B]...")
@click.option("-t", "--task", required=True, help="Task on which all were, or will be, evaluated.")
@click.option("--metric", "metrics", multiple=True, help="Metric (repeat).  [default: the task's headlines]")
@click.option(
    "--difference",
    type=FiniteRange(min=0, min_open=True),
    metavar="D",
    help="Also say how many prompts a difference of D needs, in the metric's own unit.",
)
@click.option(
    "--power",
    type=FiniteRange(min=0.5, max=1, min_open=True, max_open=True),
    default=0.8,
    show_default=True,
    help="Probability of finding a true difference.",
)
@click.option(
    "--tests",
    type=click.IntRange(min=1),
    help="Tests in the family of Holm's correction.  [default: as `rmbench compare` corrects]",
)
@click.option(
    "--correlation",
    type=FiniteRange(min=0, max=1, max_open=True),
    help="With one model or none: correlation of two models' values over prompts.  [default: 0.5]",
)
@click.option(
    "--accuracy",
    type=FiniteRange(min=0, max=1, min_open=True, max_open=True),
    help="Without a model: accuracy of both.  [default: 0.7]",
)
@click.option(
    "--discordance",
    type=FiniteRange(min=0, max=1, min_open=True),
    help="Without a model: share of pairs on which one model alone is right; in place of both others.",
)
@eval_options("data", "params", "on_bad", "offline", "convention", "results")
@output_options
def command(
    models: tuple[str, ...],
    task: str,
    metrics: tuple[str, ...],
    difference: float | None,
    power: float,
    tests: int | None,
    correlation: float | None,
    accuracy: float | None,
    discordance: float | None,
    data: Path | None,
    params: dict[str, str],
    on_bad: str,
    offline: bool,
    convention: str,
    results: Path,
    output: str,
) -> None:
    """Print the smallest difference that data can show, and the number of prompts that a difference D needs.

    Models are names in the results folder, or paths of records. With two or more, every pair is used: the
    clustered error of its paired difference decides what its test can find. With one model, its own error is
    known and the correlation with another model is assumed. Without a model, only the number of pairs and
    prompts is known, and an accuracy is assumed too. The output names all assumptions.

    \b
    rmbench power builtin:linear length --task preference --difference 0.02
    rmbench power A B C --task judgebench --metric accuracy --difference 0.02 --power 0.9
    rmbench power A --task judgebench --correlation 0.3
    rmbench power --task judgebench --data path/to/judgebench --accuracy 0.6 --tests 45

    "shows from" is the smallest difference that a single two-sided test at 5% finds with the requested power.
    "(Holm)" uses 5% over the number of tests, the level of the first test of Holm's correction.
    """
    from rmbench.cli.options import print_tables
    from rmbench.report.power_tables import Asked, as_json_values, block_of, of_data, of_models, values_of
    from rmbench.tasks.spec import apply_params, load_task

    _refuse(
        models,
        {"--data": data, "-T": params, "--accuracy": accuracy, "--discordance": discordance},
        {"--metric": metrics},
        {"--correlation": correlation},
    )
    if models:
        shown = of_models(models, results, task, metrics, convention, correlation)
    else:
        spec = apply_params(load_task(task), params)
        shown = of_data(spec, data, accuracy, correlation, discordance, on_bad=on_bad, offline=offline)
    asked = Asked(difference, power, tests or shown.n_tests)
    if output == "json":
        click.echo(json.dumps(as_json_values(shown, asked), indent=1))
        return
    print_tables(output, lambda: [block_of(shown, asked)], lambda: values_of(shown, asked))


def _refuse(
    models: tuple[str, ...],
    of_data: dict[str, object],
    of_records: dict[str, object],
    of_few: dict[str, object],
) -> None:
    """Raise on options that would not be used.

    Args:
        models: The models that were named.
        of_data: Options for no model.
        of_records: Options for one model or more.
        of_few: Options for one model or none.
    """
    context = click.get_current_context()
    if not models and (given := _given(of_records)):
        raise click.UsageError(f"{given} needs a model; without one there is accuracy alone", context)
    if models and (given := _given(of_data)):
        raise click.UsageError(f"{given} is for no model: the records of models say it", context)
    if len(models) > 1 and (given := _given(of_few)):
        raise click.UsageError(f"{given} is for one model or none: the records of two say it", context)


def _given(options: dict[str, object]) -> str | None:
    return next((name for name, value in options.items() if value not in (None, (), {})), None)
