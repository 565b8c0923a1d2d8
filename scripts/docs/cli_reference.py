"""Write docs/reference/cli.md (the help of every command) and the keywords of `evaluate` in python.md.

With `--check` it writes nothing, and fails if a page is out of date.
"""

import inspect
import re
import sys
from pathlib import Path

import click

from rmbench.cli.main import COMMANDS, cli
from rmbench.core.options import parameters_of
from rmbench.evaluation.options import EvalOptions

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
HEAD = """# Command line

What `rmbench COMMAND --help` says, written by `scripts/docs/cli_reference.py`. Exit codes: 0 done, 1 the run
failed, 2 wrong usage or input, 130 interrupted.
"""
_FORM = {"max_content_width": 100, "terminal_width": 100, "help_option_names": ["-h", "--help"]}


def page() -> str:
    """Return the page."""
    context = click.Context(cli, info_name="rmbench", **_FORM)
    parts = [HEAD]
    for name, summary in COMMANDS.items():
        command = cli.get_command(context, name)
        assert command is not None
        parts.append(f"## {name}\n\n{summary}\n\n{_help(context, name, command)}")
        if isinstance(command, click.Group):
            inner = click.Context(command, info_name=name, parent=context, **_FORM)
            for other in command.list_commands(inner):
                nested = command.get_command(inner, other)
                assert nested is not None
                parts.append(f"### {name} {other}\n\n{_help(inner, other, nested)}")
    return "\n".join(parts)


def _help(parent: click.Context, name: str, command: click.Command) -> str:
    """Return a command: usage, what it does, a table of its options, and what its help ends with."""
    context = click.Context(command, info_name=name, parent=parent, color=False, **_FORM)
    usage = " ".join(command.get_usage(context).removeprefix("Usage: ").split())
    rows = [
        found
        for p in command.get_params(context)
        if isinstance(p, click.Option) and (found := p.get_help_record(context))
    ]
    parts = [f"```text\n{usage}\n```", *_paragraphs(command.help or "")]
    parts.append(
        "\n".join(
            [
                "| option | meaning |",
                "|---|---|",
                *(f"| `{_cell(flag)}` | {_prose(_cell(text))} |" for flag, text in rows),
            ]
        )
    )
    if ends := _ends(context, command):
        parts.append(f"```text\n{ends}\n```")
    # A default may be a folder of the machine that writes the page.
    return re.sub(re.escape(str(Path.home())), "~", "\n\n".join(parts)) + "\n"


def _paragraphs(text: str) -> list[str]:
    """Return the paragraphs of a help text; those that click leaves as they are become blocks of code."""
    found = []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(text)):
        kept = paragraph.startswith("\b\n")
        lines = [line.rstrip() for line in paragraph.removeprefix("\b\n").splitlines()]
        found.append("\n".join(["```text", *lines, "```"] if kept else [_prose(line) for line in lines]))
    return found


def _prose(text: str) -> str:
    """Return a line of prose: placeholders such as <board> are text, no tags."""
    parts = re.split(r"(`[^`]*`)", text)
    return "".join(p if p.startswith("`") else re.sub(r"([<*_\[\]])", r"\\\1", p) for p in parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def _ends(context: click.Context, command: click.Command) -> str:
    """Return what the help ends with, after the options."""
    formatter = context.make_formatter()
    command.format_epilog(context, formatter)
    return "\n".join(line.rstrip() for line in formatter.getvalue().strip("\n").splitlines())


def keywords() -> str:
    """Return the table of the keywords of `rmbench.evaluate`."""
    rows = ["| keyword | command line | default | meaning |", "|---|---|---|---|"]
    for name, field in parameters_of(EvalOptions).items():
        flag = (field.option.flags or f"--{name.replace('_', '-')}").split()[-1]
        default = field.option.unset or ("" if field.default in (None, {}) else f"`{field.default}`")
        rows.append(f"| `{name}` | `{flag}` | {default} | {_prose(_cell(field.help))} |")
    return "\n".join(rows) + "\n"


def pages() -> dict[Path, str]:
    """Return every page that is written here, with its text."""
    python = REFERENCE / "python.md"
    text = python.read_text(encoding="utf-8")
    head, begin, rest = text.partition("<!-- keywords, by scripts/docs/cli_reference.py -->\n")
    _, end, tail = rest.partition("<!-- end of keywords -->\n")
    return {REFERENCE / "cli.md": page(), python: f"{head}{begin}\n{keywords()}\n{end}{tail}"}


if __name__ == "__main__":
    for path, text in pages().items():
        if sys.argv[1:] != ["--check"]:
            path.write_text(text, encoding="utf-8")
        elif path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path} is out of date: make docs")
