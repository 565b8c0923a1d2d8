"""`rmbench check`: test a model before its numbers are published."""

import json
from typing import Any

import click

from rmbench.cli.options import eval_options, json_option, runtime_options
from rmbench.core.escape import one_line
from rmbench.errors import RunError


@click.command("check")
@click.option("-m", "--model", required=True, metavar="MODEL", help="Model to check; as in `rmbench eval`.")
@eval_options("options")
@runtime_options
@json_option
def command(model: str, options: dict[str, str], as_json: bool, **runtime: Any) -> None:
    """Test a reward model, in seconds, for defects that would spoil its numbers.

    Length and order of its output, finiteness, determinism, independence of batch and padding, very long and
    empty responses, unicode, doubled BOS, pad equal to EOS. Each failure names its effect on a
    published number. Exit code 1 if a check fails.
    """
    from rmbench.check import check_model
    from rmbench.models.resolve import load_model
    from rmbench.models.runtime import Runtime

    loaded = load_model(model, options, Runtime(**runtime))
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
