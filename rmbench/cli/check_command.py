"""`rmbench check`: test a model before its numbers are published, for defects or for biases."""

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli.options import FileToWrite, eval_options, json_option, runtime_options
from rmbench.core.escape import one_line
from rmbench.errors import ConfigError, RunError

if TYPE_CHECKING:
    from rmbench.models.resolve import LoadedModel
    from rmbench.models.runtime import Runtime

_OF_BIAS = {
    "task": "--task", "data": "--data", "params": "-T", "on_bad": "--on-bad", "limit": "--limit",
    "edits": "--edit", "own": "--self", "html": "--html", "store": "--store",
    "batch_tokens": "--batch-tokens", "quiet": "--quiet",
}  # fmt: skip
"""Options that belong to --bias."""


@click.command("check")
@click.option("-m", "--model", required=True, metavar="MODEL", help="Model to check; as in `rmbench eval`.")
@eval_options("options")
@click.option("--bias", is_flag=True, help="Measure biases on matched pairs in place of the checks.")
@click.option(
    "-t",
    "--task",
    default="preference",
    show_default=True,
    help="With --bias: task whose prompts and replies are used, or whose reader reads --data.",
)
@eval_options("data", "params", "on_bad", "limit")
@click.option(
    "--edit",
    "edits",
    multiple=True,
    metavar="NAME",
    help="With --bias: this edit, FILE.py:NAME, or all edits of a bias (repeat).  [default: all]",
)
@click.option(
    "--self",
    "own",
    metavar="GENERATOR",
    help="With --bias: the generator (tags of replies) that is the model's own.",
)
@click.option("--html", type=FileToWrite(), help="With --bias: write a page to this file.")
@eval_options("store", "batch_tokens")
@runtime_options
@json_option
@eval_options("quiet")
@click.pass_context
def command(
    context: click.Context,
    /,
    model: str,
    options: dict[str, str],
    bias: bool,
    as_json: bool,
    device: str,
    dtype: Any,
    offline: bool,
    trust_remote_code: bool,
    seed: int,
    **asked: Any,
) -> None:
    """Test a model for defects that would spoil its numbers, or measure its biases.

    \b
    rmbench check --model path/to/rm
    rmbench check --model builtin:linear --bias
    rmbench check --model judge:URL -M model=NAME --bias --data pairs.jsonl --limit 50 --html bias.html

    The checks take seconds: length and order of the output, finiteness, determinism, independence of batch
    and padding, very long and empty responses, unicode, doubled BOS, pad equal to EOS. Each failure names its
    effect on a published number. Exit code 1 if a check fails.

    --bias takes one reply of each prompt and compares it with itself after an edit that should not make it
    better: padding (length), Markdown, a claim of authority, an injected verdict. Judges are also asked
    in both orders (position). --self NAME compares replies of one generator with others of equal gold. Each
    effect has an interval, a p-value corrected over all tests (Holm), and the smallest effect that the data
    could have shown. A judge is asked up to 54 questions per prompt: begin with --limit. A bias is no error:
    the exit code is 0.
    """
    from rmbench.models.resolve import load_model
    from rmbench.models.runtime import Runtime

    if not bias:
        given = [flag for name, flag in _OF_BIAS.items() if _is_given(context, name)]
        if given:
            raise ConfigError(f"{', '.join(given)} without --bias; add --bias, or leave out {given[0]}")
    runtime = Runtime(
        device=device, dtype=dtype, offline=offline, trust_remote_code=trust_remote_code, seed=seed
    )
    loaded = load_model(model, options, runtime)
    if bias:
        _measure(loaded, runtime, asked, as_json=as_json)
    else:
        _check(loaded, as_json=as_json)


def _is_given(context: click.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is click.core.ParameterSource.COMMANDLINE


def _check(loaded: "LoadedModel", *, as_json: bool) -> None:
    from rmbench.check import check_model

    results = check_model(loaded.model)
    if as_json:
        rows = [
            {"name": r.name, "passed": r.passed, "detail": r.detail, "meaning": r.meaning} for r in results
        ]
        click.echo(json.dumps({"model": loaded.name, "checks": rows}, indent=1))
    else:
        for result in results:
            mark = {True: "ok  ", False: "FAIL", None: "n/a "}[result.passed]
            click.echo(f"{mark} {result.name}: {one_line(result.detail)}")
            if result.passed is False:
                click.echo(f"       {one_line(result.meaning)}")
    failed = sum(r.passed is False for r in results)
    if failed:
        raise RunError(f"{one_line(loaded.name)} fails {failed} of {len(results)} checks")


def _measure(loaded: "LoadedModel", runtime: "Runtime", asked: Mapping[str, Any], *, as_json: bool) -> None:
    from rmbench.check.bias import measure_bias, most_questions, refuse_precomputed
    from rmbench.cli.options import print_blocks
    from rmbench.core.files import write_atomic
    from rmbench.core.progress import Bar
    from rmbench.edits import find_edits
    from rmbench.evaluation.options import EvalOptions
    from rmbench.evaluation.task import prepare_task
    from rmbench.evaluation.written import without_unwritable
    from rmbench.models.resolve import fingerprint_of
    from rmbench.report.bias_tables import as_json_values, blocks_of
    from rmbench.scoring import open_stores
    from rmbench.tasks.spec import apply_params, load_task
    from rmbench.types import ConcurrentModel

    refuse_precomputed(loaded.model)
    edits = find_edits(asked["edits"])
    options = EvalOptions(
        data=asked["data"],
        on_bad=asked["on_bad"],
        limit=asked["limit"],
        runtime=runtime,
        store=asked["store"],
    )
    task = prepare_task(apply_params(load_task(asked["task"]), asked["params"]), options)
    if options.on_bad == "skip":
        task = without_unwritable(task, loaded.model)
    tell = None if asked["quiet"] else lambda line: click.echo(one_line(line), err=True)
    if tell and isinstance(loaded.model, ConcurrentModel):
        n = most_questions(loaded.model, task.items, edits, seed=runtime.seed)
        tell(f"{loaded.name}: up to {n:,} questions on {len(task.items):,} prompts; --limit N asks fewer")
    with (
        open_stores(options.store_folder, loaded.model, fingerprint_of(loaded), tell=tell) as store,
        Bar(f"bias of {loaded.name}", "texts", enabled=not asked["quiet"]) as bar,
    ):
        panel = measure_bias(
            loaded.model, task.items, edits, store, seed=runtime.seed, own=asked["own"],
            batch_tokens=asked["batch_tokens"], progress=bar if bar.is_shown else None,
        )  # fmt: skip
    if as_json:
        click.echo(json.dumps(as_json_values(loaded.name, panel, task.source), indent=1))
    else:
        print_blocks(blocks_of(loaded.name, panel, task.source))
        for reason, n in task.dropped.items():
            click.echo(f"  rows of the data left out: {n:,}, {one_line(reason)}")
    if asked["html"] is not None:
        from rmbench.report.bias_page import bias_page

        page = bias_page(loaded.name, panel, task.source, _again(loaded, asked, runtime.seed))
        write_atomic(asked["html"], page)
        click.echo(f"page: {asked['html']}", err=True)


def _again(loaded: "LoadedModel", asked: Mapping[str, Any], seed: int) -> list[str]:
    """Return the command that makes the page again, without -M: options of a model may hold secrets."""
    from rmbench.core.address import without_secrets

    words = ["rmbench", "check", "--model", without_secrets(loaded.spec), "--bias", "--task", asked["task"]]
    if asked["data"] is not None:
        words += ["--data", str(asked["data"])]
    words += [word for key, value in asked["params"].items() for word in ("-T", f"{key}={value}")]
    words += [word for name in asked["edits"] for word in ("--edit", name)]
    for flag, value in (("--limit", asked["limit"]), ("--self", asked["own"]), ("--seed", seed or None)):
        words += [] if value is None else [flag, str(value)]
    return [*words, "--html", asked["html"].name]
