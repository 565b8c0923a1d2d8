"""The README runs as it is written, is short, and its links and counts are right."""

import json
import re
import subprocess
import sys
from html import escape
from pathlib import Path

import pytest
from doc_pages import pages

from rmbench.cli.main import COMMANDS
from rmbench.models.hf.recipes.recipe import recipes
from rmbench.models.pair.recipe import pair_recipes

ROOT = Path(__file__).resolve().parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = pages.blocks_of(TEXT)
MOST_LINES = 150
COMMUNITY = ("CONTRIBUTING.md", ".github/pull_request_template.md")


def commands() -> list[str]:
    lines = [line for block in BLOCKS if block.language == "bash" for line in pages.commands_of(block)]
    return [line for line in lines if line.startswith("rmbench ")]


def test_it_is_short() -> None:
    assert TEXT.count("\n") <= MOST_LINES


def test_your_model_on_your_pairs_is_three_commands_with_their_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pages.furnish(tmp_path)
    assert [line.split()[1] for line in commands()] == ["eval", "compare", "report"]
    session, shown = pages.Session("README.md"), 0
    for block in BLOCKS:
        if not block.is_run:
            continue
        printed = session.output_of(block)
        if block.shown is not None:
            problem = pages.differs(block.shown.text, printed)
            assert not problem, f"README.md, line {block.shown.line}: {problem}\n{printed}"
            shown += 1
    assert shown == len(commands())
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<svg" in page
    rows = (pages.EXAMPLE / "pairs.jsonl").read_text(encoding="utf-8").splitlines()
    prompts = {escape(json.loads(row)["prompt"]) for row in rows}
    assert sum(prompt in page for prompt in prompts) >= 3, "the worst items have no texts"
    assert session.namespace["records"].models == ["builtin:linear", "length"]


def test_the_pairs_of_the_example_are_what_the_script_makes() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/docs/example_pairs.py", "--check"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


def test_commands_in_its_text_are_commands() -> None:
    named = set(re.findall(r"`rmbench ([a-z]+)", TEXT))
    assert named <= set(COMMANDS)


@pytest.mark.parametrize("name", ["README.md", *COMMUNITY])
def test_links_lead_to_files(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))
    assert links
    assert not [x for x in links if "://" not in x and not (page.parent / x).exists()]


def test_the_number_of_recipes_is_right() -> None:
    told = re.search(r"(\d+) recipes", TEXT)
    assert told is not None
    assert int(told[1]) == len(recipes()) + len(pair_recipes())


def test_the_two_commands_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "setup", "docs"):
        assert f"make {target}" in TEXT or target == "setup"
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
