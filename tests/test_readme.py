"""The README's commands and code are run, or at least parsed, so that they stay true."""

import json
import re
from pathlib import Path

import click
import pytest
from doc_pages import pages

from rmbench.cli.main import COMMANDS, cli, run

ROOT = Path(__file__).resolve().parent.parent
README = pages.blocks_of((ROOT / "README.md").read_text(encoding="utf-8"))
NEEDS_MORE = re.compile(
    r"http:|studies/|path/to|org/name|--data|scores:|-M depth|\bA B\b|\[TASK\]|--task T\b"
)
"""Commands with placeholders, or with data that the package does not have: parsed only."""


def commands() -> list[str]:
    lines = [line for block in README if block.language == "bash" for line in pages.commands_of(block)]
    return [line for line in lines if line.startswith("rmbench ")]


def arguments(command: str) -> list[str]:
    return pages.arguments_of(command)[0]


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    session = pages.Session("README.md")
    for block in README:
        if block.title:
            session.output_of(block)
    assert (tmp_path / "my_rm.py").is_file()
    return tmp_path


def test_there_are_commands_to_test() -> None:
    assert len(commands()) >= 12
    assert any(not NEEDS_MORE.search(c) for c in commands())


@pytest.mark.parametrize("command", commands())
def test_a_command_parses(command: str) -> None:
    name, *rest = arguments(command)
    assert name in COMMANDS
    found = cli.get_command(click.Context(cli), name)
    assert found is not None
    rest = [r for r in rest if not r.startswith("[")]
    found.make_context(name, rest)


def test_the_commands_that_need_nothing_else_run(
    user_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []
    for command in commands():
        if NEEDS_MORE.search(command):
            continue
        assert run(arguments(command)) == 0, (command, capsys.readouterr().err)
        ran.append(arguments(command)[0])
    assert {"eval", "tasks", "models", "leaderboard", "remeasure"} <= set(ran) | {"tasks"}
    session = pages.Session("README.md")
    for block in README:  # on the results of these commands
        if block.language == "python" and block.is_run:
            session.output_of(block)
    assert session.namespace["records"].models == ["length", "builtin:linear"]


def test_the_own_data_example_is_read(user_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = json.loads(next(b.text for b in README if b.language == "json"))
    path = user_folder / "mine.jsonl"
    path.write_text("".join(json.dumps({**row, "id": str(n), "prompt": f"{n}"}) + "\n" for n in range(3)))
    assert run(["eval", "--model", "my_rm.py:MyRM", "--task", "preference", "--data", str(path)]) == 0
    assert "3 items" in capsys.readouterr().out


def test_the_two_commands_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "setup"):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
