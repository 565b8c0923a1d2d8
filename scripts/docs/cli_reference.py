"""Write docs/reference/cli.md (the help of every command) and the keywords of `evaluate` in python.md.

With `--check` it writes nothing, and fails if a page is out of date.
"""

import re
import sys
from pathlib import Path

import click

from rmbench.cli.main import COMMANDS, cli
from rmbench.core.options import parameters_of
from rmbench.evaluation.options import EvalOptions

REFERENCE = Path(__file__).resolve().parents[2] / "docs" / "reference"
HEAD = """# Command line

What `rmbench COMMAND --help` prints, written by `scripts/docs/cli_reference.py`. Exit codes: 0 done, 1 the
run failed, 2 wrong usage or input, 130 interrupted.
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
    context = click.Context(command, info_name=name, parent=parent, color=False, **_FORM)
    # A default may be a folder of the machine that writes the page.
    text = re.sub(re.escape(str(Path.home())), "~", command.get_help(context))
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return "```text\n" + "\n".join(lines) + "\n```\n"


def keywords() -> str:
    """Return the table of the keywords of `rmbench.evaluate`."""
    rows = ["| keyword | command line | default | meaning |", "|---|---|---|---|"]
    for name, field in parameters_of(EvalOptions).items():
        flag = (field.option.flags or f"--{name.replace('_', '-')}").split()[-1]
        default = field.option.unset or ("" if field.default in (None, {}) else f"`{field.default}`")
        rows.append(f"| `{name}` | `{flag}` | {default} | {field.help} |")
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
