"""`rmbench models`, `rmbench losses` and `rmbench verifiers`: lists of registered objects."""

import inspect
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from rmbench.cli.options import json_option, output_options
from rmbench.core.escape import one_line
from rmbench.errors import ConfigError

if TYPE_CHECKING:
    from rmbench.models.resolve import OptionRow


@click.command("models")
@click.argument("model", required=False, metavar="[MODEL]")
@output_options
def command(model: str | None, output: str) -> None:
    """List the registered reward models and the forms that --model takes, or show one with its options.

    MODEL is whatever --model takes, or a scheme: `rmbench models hf` lists the options of every Hugging Face
    model. `rmbench models recipes` lists how heads of public reward models are read (-M recipe=NAME), and how
    models that compare two replies are asked. `rmbench models judges` lists how families of judges are asked
    and read (-M pack=NAME).

    Register your own with @register_reward_model("name"), by an entry point in the group rmbench.models, or
    name it by file: --model my_rm.py:MyRM.
    """
    from rmbench.models.resolve import list_models, rules

    if model is not None:
        if model in ("recipes", "judges"):
            (_show_recipes if model == "recipes" else _show_judges)(output)
            return
        if output not in ("text", "json"):
            raise click.UsageError(f"--{output} is for the list of models", click.get_current_context())
        _show(model, as_json=output == "json")
        return
    rows = list_models()
    if output == "json":
        click.echo(json.dumps([asdict(row) for row in rows], indent=1))
        return
    from rmbench.cli.options import print_tables
    from rmbench.format.tables import Block, Column, Table

    columns = (Column("model", "text"), Column("kind", "text"), Column("what", "text", 80))
    table = Table(columns, tuple((r.name, r.kind, r.summary) for r in rows))
    block = Block("models", (), table, caption=("Registered reward models, and the forms of --model",))
    print_tables(output, lambda: [block], lambda: table)
    if output == "text":
        click.echo(f"\n{rules()}")


def _show_recipes(output: str) -> None:
    """Print the recipes of the package: what each reads, for which families, and by which evidence."""
    try:
        from rmbench.models.hf.recipes.recipe import recipes
        from rmbench.models.pair.recipe import pair_recipes
    except ImportError as error:
        raise ConfigError(str(error)) from None
    found: list[Any] = [*recipes().values(), *pair_recipes().values()]
    if output == "json":
        click.echo(json.dumps([{**asdict(r), "identity": r.identity} for r in found], indent=1))
        return
    from rmbench.cli.options import print_tables
    from rmbench.format.tables import Block, Column, Table

    names = {"recipe": None, "with": None, "families": 48, "found by": 44, "verified": None}
    columns = tuple(Column(name, "text", width) for name, width in names.items())
    pairs = pair_recipes()
    rows = tuple(
        (
            r.name,
            "pair:" if r.name in pairs else "process:" if getattr(r, "steps", None) else "hf:",
            ", ".join(r.families),
            r.match.told,
            r.verified,
        )
        for r in found
    )
    table = Table(columns, rows)
    print_tables(
        output, lambda: [Block("recipes", (), table, caption=("How heads are read",))], lambda: table
    )
    if output == "text":
        click.echo(
            "\nrmbench finds a recipe by what the files show (found by). One that nothing in the files"
            " shows has to be named: -M recipe=NAME.\n--json prints all families, the evidence and what each"
            " recipe says."
        )


def _show_judges(output: str) -> None:
    """Print the judge packs of the package: what each asks, what it needs, and for which families."""
    from rmbench.models.judge.pack import packs

    if output == "json":
        found = [{**asdict(pack), "identity": pack.identity} for pack in packs().values()]
        click.echo(json.dumps(found, indent=1))
        return
    from rmbench.cli.options import print_tables
    from rmbench.format.tables import Block, Column, Table

    names = {"pack": None, "asks": None, "shows": None, "about": 60, "families": 40}
    rows = tuple(
        (
            pack.name,
            f"{pack.asks} (at most {pack.most})" if pack.asks == "list" else pack.asks,
            ", ".join(f"{name} (needed)" if text is None else name for name, text in pack.shows.items()),
            pack.about,
            ", ".join(pack.families),
        )
        for pack in packs().values()
    )
    table = Table(tuple(Column(name, "text", width) for name, width in names.items()), rows)
    caption = ("How judges are asked and read (-M pack=NAME)",)
    print_tables(output, lambda: [Block("judges", (), table, caption=caption)], lambda: table)


def _show(model: str, as_json: bool) -> None:
    from rmbench.models.resolve import describe_model

    summary, options = describe_model(model)
    if as_json:
        listed = [asdict(option) for option in options]
        click.echo(json.dumps({"model": model, "summary": summary, "options": listed}, indent=1))
        return
    click.echo(f"{one_line(model)}: {one_line(summary)}\n\noptions (-M key=value):")
    for line in option_lines(options) or ["none"]:
        click.echo(f"  {line}")


def option_lines(options: "Sequence[OptionRow]") -> list[str]:
    """Return the lines of a list of options: type and default of each, and its meaning below."""
    width = max((len(option.name) for option in options), default=0)
    lines = []
    for option in options:
        default = f"default: {option.default}" if option.default else "required"
        lines.append(f"{one_line(option.name):{width}}  {one_line(option.type)} ({one_line(default)})")
        if option.summary:
            lines.append(f"{'':{width}}  {one_line(option.summary)}")
    return lines


@click.command("losses")
@json_option
def losses(as_json: bool) -> None:
    """List the registered losses: equation, options with their defaults, source.

    Your own: `@register_loss("my-loss")` from rmbench.train.losses. In a file: `--method my_loss.py:my-loss`;
    in a package: an entry point in the group `rmbench.losses`.
    """
    try:
        from rmbench.train.losses import LOSSES, summary_of
    except ImportError as error:
        raise ConfigError(str(error)) from None

    rows: list[dict[str, Any]] = [
        {"name": n, "loss": summary_of(loss), "options": _options(loss), "source": _source(loss)}
        for n, loss in ((n, LOSSES.get(n)) for n in LOSSES.names())
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=1))
        return
    width = max(len(row["name"]) for row in rows)
    for row in rows:
        click.echo(f"{row['name']:<{width}}  {row['loss']}")
        if row["source"] and row["source"] not in row["loss"]:
            click.echo(f"{'':<{width}}    {row['source']}")
        for key, default in row["options"].items():
            click.echo(f"{'':<{width}}    {key} = {'none' if default is None else default}")


def _source(loss: Callable[..., Any]) -> str | None:
    """Return the source of a loss from its docstring; None without one."""
    found = re.search(r"Source: (.+?)\s*(?:\n\s*\n|$)", loss.__doc__ or "", re.DOTALL)
    return " ".join(found[1].split()) if found else None


def _options(loss: Callable[..., Any]) -> dict[str, Any]:
    """Return the options of a loss with their defaults: the parameters after rewards and batch."""
    parameters = list(inspect.signature(loss).parameters.items())[3:]
    return {key: p.default for key, p in parameters if p.default is not p.empty}


@click.command("verifiers")
@json_option
def verifiers(as_json: bool) -> None:
    """List the verifiers that give gold (`--gold verifier:NAME`), with their options (`-G key=value`).

    Your own: a class with `@register_verifier("my-verifier")` from rmbench.gold.verifier. In a file:
    `--gold verifier:my_file.py:my-verifier`; in a package: an entry point in the group `rmbench.verifiers`.
    """
    from rmbench.gold.verifier import GOLD_VERIFIERS

    rows = [_row(name, GOLD_VERIFIERS.get(name)) for name in GOLD_VERIFIERS]
    if as_json:
        click.echo(json.dumps([row | {"options": [*map(asdict, row["options"])]} for row in rows], indent=1))
        return
    for row in rows:
        click.echo(f"{one_line(row['name'])}: {one_line(row['summary'])} Gold: {one_line(row['gold_kind'])}.")
        for line in option_lines(row["options"]):
            click.echo(f"  {line}")


def _row(name: str, factory: Any) -> dict[str, Any]:
    from rmbench.models.resolve import describe_options, summary_of

    return {
        "name": name,
        "summary": summary_of(factory),
        "version": getattr(factory, "version", None),
        "gold_kind": str(getattr(factory, "gold_kind", "unknown")),
        "options": describe_options(factory, inspect.signature(factory).parameters.values()),
    }
