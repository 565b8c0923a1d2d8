"""Command-line options made from dataclasses, `key=value` parsing, and the output formats."""

from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args, get_origin

import click

from rmbench.core.options import REQUIRED, Option, Parameter, build, parameters_of
from rmbench.errors import ConfigError
from rmbench.evaluation.options import EvalOptions

if TYPE_CHECKING:
    from rmbench.format.tables import Block, Table

F = TypeVar("F", bound=Callable[..., Any])


def key_values(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """Return `("a=1", "b=x=y")` as `{"a": "1", "b": "x=y"}`; only the first `=` splits.

    Raises:
        ConfigError: On a missing `=`, an empty key or a key given twice.
    """
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"{option} {pair!r}: expected key=value")
        if key in found:
            raise ConfigError(f"{option} {key} is given twice")
        found[key] = value
    return found


class PerModelCommand(click.Command):
    """A command whose `-M` belongs to the `--model` before it, where there are several."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse as click does; before it, note which model each `-M` follows."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        names = [parameter.name for parameter in order]
        n_models = names.count("models")
        ctx.meta[_PLACES] = [names[:k].count("models") for k, name in enumerate(names) if name == "options"]
        if n_models < 2:
            ctx.meta[_PLACES] = []
        return super().parse_args(ctx, args)


_PLACES = "models of each -M"


def _of_models(context: click.Context, flag: str, pairs: tuple[str, ...]) -> tuple[str, ...]:
    """Return the texts of `-M` with the place of their model in brackets, `[2]key=value`, if known."""
    places = context.meta.get(_PLACES, [])
    if flag != "-M" or len(places) != len(pairs):
        return pairs
    return tuple(
        f"[{place}]{text}" if place and not text.startswith("[") else text
        for place, text in zip(places, pairs, strict=True)
    )


class FiniteRange(click.FloatRange):
    """A number within bounds. `click.FloatRange` accepts nan, and inf without an upper bound."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the number, or fail with a message that names the range."""
        found = super().convert(value, param, ctx)
        if not isfinite(found):
            self.fail(f"{found} is not a number in the range {self._describe_range()}.", param, ctx)
        return found


def options_of(
    cls: type, output: Callable[[F], F] | None = None, first: Sequence[str] = ()
) -> Callable[[Callable[..., Any]], Any]:
    """Return a decorator that adds the options of a dataclass; the command gets it as `options`.

    Args:
        cls: The dataclass. Required fields come first in the help; `quiet` comes last.
        output: True: also add the options of the output format, before `quiet`.
        first: Options that come right after the required ones.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        @wraps(function)
        def call(**values: Any) -> Any:
            own = {name: values.pop(name) for name in known}
            return function(options=build(cls, own), **values)

        known = parameters_of(cls)
        names = sorted(known, key=lambda n: (known[n].default is not REQUIRED, n not in first))
        last = [name for name in names if name == "quiet"]
        command: Any = call
        # Each decorator puts its option before those that are there.
        for name in last:
            command = _click_option(known[name])(command)
        command = output(command) if output else command
        for name in reversed([name for name in names if name not in last]):
            command = _click_option(known[name])(command)
        return command

    return decorate


def eval_options(*names: str) -> Callable[[F], F]:
    """Return a decorator that adds options of `rmbench eval` to another command, passed by their names."""

    def decorate(function: F) -> F:
        for name in reversed(names):
            function = _click_option(parameters_of(EvalOptions)[name])(function)
        return function

    return decorate


runtime_options = eval_options("device", "dtype", "offline", "trust_remote_code", "seed")


def _click_option(of: Parameter) -> Callable[[F], F]:
    """Return the decorator of one option."""
    kind, asked = of.kind, of.option
    flags = asked.flags.split() or [f"--{of.name.replace('_', '-')}"]
    many = get_origin(kind) is Mapping or (get_origin(kind) is tuple and asked.convert is None)
    default = None if many or of.default is REQUIRED else of.default
    more: dict[str, Any] = {"metavar": asked.metavar, "multiple": many}
    if kind is bool:
        more = {"is_flag": True}
    elif get_origin(kind) is Mapping:
        more |= {
            "metavar": "KEY=VALUE",
            "callback": lambda context, _, v: key_values(_of_models(context, flags[0], v), flags[0]),
        }
    elif (convert := asked.convert) is not None:
        more["callback"] = lambda _context, _option, v: None if v is None else convert(v, flags[0])
    else:
        more["type"] = _click_type(kind, asked)
    return click.option(
        *flags,
        of.name,
        default=default,
        required=of.default is REQUIRED,
        show_default=default is not None and kind is not bool,
        envvar=asked.env,
        show_envvar=asked.env is not None,
        help=f"{of.help}  [default: {asked.unset}]" if asked.unset else of.help,
        **more,
    )


def _click_type(kind: Any, asked: Option) -> Any:
    if kind is Path:
        return click.Path(path_type=Path, file_okay=not asked.folder)
    if get_origin(kind) is Literal and asked.metavar is None:
        return click.Choice(get_args(kind))
    if kind not in (int, float):
        return None
    bounds: dict[str, Any] = {
        "min": asked.low if asked.above is None else asked.above,
        "max": asked.high if asked.below is None else asked.below,
        "min_open": asked.above is not None,
        "max_open": asked.below is not None,
    }
    return FiniteRange(**bounds) if kind is float else click.IntRange(**bounds)


def json_option(function: F) -> F:
    """Add `--json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON to stdout; logs go to stderr.")(
        function
    )


FORMATS = {
    "json": "Print JSON to stdout; logs go to stderr.",
    "markdown": "Print Markdown.",
    "csv": "Print CSV: a row per number, with columns for its interval.",
    "latex": "Print LaTeX (booktabs), with captions and labels.",
}
"""Output formats other than the terminal's."""


_WIDE = f"{__name__}:wide"
"""Key of `--wide` in what a command's context holds."""


class FileToWrite(click.Path):
    """A file that a command writes at its end: tried before the work begins."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path; ConfigError if nothing can be written there."""
        from rmbench.core.files import require_writable

        path = Path(str(super().convert(value, param, ctx)))
        if path.is_dir():
            raise ConfigError(f"{param.opts[-1] if param else ''} {path}: it is a folder; name a file in it")
        require_writable(path.parent, param.opts[-1] if param else "")
        return path


def output_options(function: F) -> F:
    """Add `--wide`, and `--json`, `--markdown`, `--csv`, `--latex`: at most one, passed as `output`."""

    def widen(context: click.Context, _option: click.Parameter, value: bool) -> None:
        context.meta[_WIDE] = value

    def choose(context: click.Context, option: click.Parameter, value: bool) -> None:
        before = context.params.setdefault("output", "text")
        if value and before != "text":
            raise click.UsageError(f"--{before} and --{option.name}: give one of them", context)
        if value:
            context.params["output"] = option.name

    function = click.option(
        "--wide",
        is_flag=True,
        expose_value=False,
        callback=widen,
        help="Print every column in one line, however narrow the terminal is.",
    )(function)
    for name, meaning in reversed(FORMATS.items()):
        function = click.option(f"--{name}", is_flag=True, expose_value=False, callback=choose, help=meaning)(
            function
        )
    return function


def print_tables(output: str, blocks: "Callable[[], Sequence[Block]]", values: "Callable[[], Table]") -> None:
    """Print tables to stdout.

    Args:
        output: `text`, `markdown`, `latex` or `csv`.
        blocks: Returns the tables with their captions.
        values: Returns their numbers in one table, for CSV.
    """
    from rmbench.format.tables import as_csv, as_latex, as_markdown  # after the options are read

    if output == "csv":
        click.echo(as_csv(values()), nl=False)
    elif output == "text":
        print_blocks(blocks())
    else:
        click.echo({"markdown": as_markdown, "latex": as_latex}[output](blocks()))


def print_blocks(blocks: "Sequence[Block]") -> None:
    """Print tables as text, as wide as the terminal; with `--wide`, or into a file, as wide as they are."""
    from rmbench.format.terminal import as_text, terminal_width

    click.echo(as_text(blocks, None if is_wide() else terminal_width()))


def is_wide() -> bool:
    """Return whether `--wide` asks for everything."""
    return bool(click.get_current_context().meta.get(_WIDE, False))
