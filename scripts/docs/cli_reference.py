"""Write docs/reference/cli.md: every command with its help, as click has it.

With `--check` it writes nothing, and fails where the page is out of date.
"""

import re
import sys
from pathlib import Path

import click

from rmbench.cli.main import COMMANDS, cli

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "cli.md"
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


if __name__ == "__main__":
    if sys.argv[1:] == ["--check"]:
        sys.exit(0 if PAGE.read_text(encoding="utf-8") == page() else f"{PAGE} is out of date: make docs")
    PAGE.write_text(page(), encoding="utf-8")
