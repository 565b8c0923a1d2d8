"""The code of the documentation runs, and what its pages show is what it prints."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from doc_pages import pages

from rmbench.cli.main import COMMANDS, cli

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = {p.relative_to(DOCS).as_posix(): pages.blocks_of(p.read_text()) for p in sorted(DOCS.rglob("*.md"))}
PARSED = {"scaling.md": "plans for many machines, with placeholders for models and data"}
"""Pages whose commands are parsed alone, and why."""
RUN = [name for name, blocks in PAGES.items() if any(b.is_run for b in blocks) and name not in PARSED]
SLOW = [name for name in RUN if any(b.slow for b in PAGES[name])]
NOT_RUN = {
    "data.md": ["it needs the Hub"],
    "findings.md": ["it is of the repository's own records"],
    "how-to/bias.md": ["it needs a server"],
    "how-to/best-of-n.md": ["it needs a language model"],
    "how-to/evaluate.md": ["it needs a folder with a model"] * 3,
    "how-to/judges.md": ["it needs a server", "it needs a server"],
    "how-to/model.md": ["it needs a folder with a model"],
    "how-to/train.md": ["it needs a folder with a model"] * 2,
    "how-to/verifier.md": ["it runs programs"],
    "install.md": ["it installs the package that the tests run in"],
    "models.md": [
        *["it needs a folder with a model"] * 6, "it needs a server", *["it needs a folder with a model"] * 2,
    ],
    "how-to/study.md": ["it trains six models"],
}  # fmt: skip
"""Page -> why its blocks are not run, in order. To leave out a block is a decision: it is written down twice."""


@pytest.fixture(scope="module")
def rewards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A score store for all pages: they measure the same models on the same texts."""
    return tmp_path_factory.mktemp("rewards")


@pytest.fixture
def here(tmp_path: Path, rewards: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working folder with the example's files alone, from which Python imports as it does in a notebook."""
    pages.furnish(tmp_path)
    monkeypatch.setenv("RMBENCH_STORE", str(rewards))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]


def check(name: str, *, slow: bool) -> None:
    """Run the blocks of a page; those that are slow only where they are asked for."""
    session = pages.Session(name)
    for block in PAGES[name]:
        if not (block.title or block.is_run) or (block.slow and not slow):
            continue
        printed = session.output_of(block)
        if block.shown is not None:
            problem = pages.differs(block.shown.text, printed)
            assert not problem, f"docs/{name}, line {block.shown.line}: {problem}\n{printed}"


LONG = ("tutorial.md",)
"""Pages that train, and draw: seconds each."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.long) if n in LONG else n for n in RUN])
def test_a_page_does_what_it_says(name: str, here: Path) -> None:
    check(name, slow=False)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_a_page_does_what_it_says_with_its_slow_blocks(name: str, here: Path) -> None:
    check(name, slow=True)


def test_what_is_not_run_is_known_and_counted() -> None:
    found = {name: [b.why_not for b in blocks if b.why_not] for name, blocks in PAGES.items()}
    assert {name: why for name, why in found.items() if why} == NOT_RUN
    code = [b for blocks in PAGES.values() for b in blocks if b.language in pages.RUN and not b.title]
    assert sum(map(len, NOT_RUN.values())) <= len(code) / 4


@pytest.mark.parametrize("name", sorted({*NOT_RUN, *PARSED}))
def test_what_is_not_run_parses_at_least(name: str) -> None:
    blocks = [b for b in PAGES[name] if b.language == "bash" and (b.why_not or name in PARSED)]
    commands = [command for block in blocks for command in pages.commands_of(block)]
    assert commands
    for command in commands:
        if "rmbench " in command and not command.startswith(("pip ", "git ", ".venv/bin/pip ")):
            words, _ = pages.arguments_of(command[command.index("rmbench ") :])
            assert words[0] in COMMANDS
            found = cli.get_command(click.Context(cli), words[0])
            assert found is not None
            found.make_context(words[0], words[1:])


def test_every_page_is_in_the_navigation() -> None:
    text = (ROOT / "zensical.toml").read_text()
    for name in PAGES:
        assert f'"{name}"' in text, f"docs/{name} is not in the navigation of zensical.toml"


def test_the_reference_of_the_command_line_is_up_to_date() -> None:
    # In a process of its own: click keeps what a command's help looked like in the tests before.
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/docs/cli_reference.py", "--check"], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("zensical"), reason="the builder is not installed: make docs")
def test_the_site_is_built_without_a_warning_and_asks_no_other_host(tmp_path: Path) -> None:
    for name in ("docs", "rmbench"):
        shutil.copytree(ROOT / name, tmp_path / name)
    shutil.copy(ROOT / "zensical.toml", tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "build" / "docs"
    assert {p.relative_to(site).as_posix() for p in site.rglob("*.html")} >= {
        name.replace(".md", ".html") for name in PAGES
    }
    for path in site.rglob("*.html"):
        for source in Fetched(path.read_text()).sources:
            assert "//" not in source, f"{path.relative_to(site)} fetches {source}"


class Fetched(HTMLParser):
    """What a browser fetches for a page: scripts, styles, fonts, images, and frames."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.sources: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "link" and found.get("rel") not in ("canonical", "prev", "next"):
            self.sources.append(found.get("href") or "")
        if tag in ("script", "img", "iframe", "source", "video", "audio"):
            self.sources.append(found.get("src") or "")


def test_what_a_page_fetches_is_found() -> None:
    page = "<link rel=canonical href=//a><link rel=stylesheet href=//b><script src=//c></script><a href=//d>"
    assert Fetched(page).sources == ["//b", "//c"]


PAGE = """
Text.

```python title="a.py"
x = 1
```

<!-- not run: no GPU -->
```bash
rmbench eval --model a \\
    --task b   # a remark
```

```text
not the output of a block that is not run
```

<!-- exit code 2 -->
```bash
rmbench tasks nowhere
```

```text
error
```

```json
{}
```
"""


def test_blocks_are_read_with_what_is_said_of_them() -> None:
    found = pages.blocks_of(PAGE)
    assert [(b.language, b.title, b.why_not, b.exit_code, b.is_run) for b in found] == [
        ("python", "a.py", "", 0, False),
        ("bash", "", "no GPU", 0, False),
        ("text", "", "", 0, False),
        ("bash", "", "", 2, True),
        ("json", "", "", 0, False),
    ]
    assert found[3].shown.text == "error\n"
    assert found[0].line == 4
    assert pages.commands_of(found[1]) == ["rmbench eval --model a --task b"]


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("a  b\n---\n1.000", "a b\n------\n1.0005\n", True),
        ("1.000", "1.002", False),
        ("1500.0", "1501.0", True),
        ("16 [16, 32]", "16 [16, 16]", False),
        ("a", "a\nb", False),
        ("a\nb", "a", False),
        ("", "a", False),
        ("...\nb", "a\nb", True),
        ("...\nb", "b\na", False),
        ("a\n...", "a\nb\nc", True),
        ("b\n...", "a\nb", False),
        ("a\n...\nc\n...\ne", "a\nb\nc\nd\ne", True),
        ("a\n...\nd\n...\nc\n...", "a\nc\nd\ne", False),
        ("0.300", "0.3", True),
        ("x", "y", False),
    ],
)
def test_what_is_shown_is_compared_with_what_is_printed(shown: str, printed: str, same: bool) -> None:
    assert bool(pages.differs(shown, printed)) is not same


def test_a_block_that_fails_is_named(here: Path) -> None:
    session = pages.Session("x.md")
    (block,) = pages.blocks_of("```bash\nrmbench tasks nowhere\n```\n")
    with pytest.raises(pages.PageError, match=r"x\.md, line 1: rmbench tasks nowhere\nexit code 2: error: "):
        session.output_of(block)
    block.exit_code = 2
    assert "unknown task 'nowhere'" in session.output_of(block)
    block.exit_code = 1
    with pytest.raises(pages.PageError):
        session.output_of(block)


def test_output_is_written_into_a_page(here: Path) -> None:
    page = here / "p.md"
    page.write_text("```python\nprint('a\\nb')\n```\n\n```text\n```\n\nend\n")
    page.write_text(pages.filled(page))
    assert page.read_text() == "```python\nprint('a\\nb')\n```\n\n```text\na\nb\n```\n\nend\n"
    assert pages.filled(page) == page.read_text()


def test_blocks_of_a_page_share_a_namespace(here: Path) -> None:
    session = pages.Session("p.md")
    blocks = pages.blocks_of("```python\nx = 2\n```\n```python\nprint(x + 1)\n```\n")
    assert [session.output_of(block) for block in blocks] == ["", "3\n"]


GROUPS = {f"rmbench.{name}" for name in ("formats", "kinds", "losses", "readers", "schemes", "verifiers")}
"""Entry-point groups, which are no modules."""
OTHER_NAMES = {"rmbench.json", "rmbench.evaluat", "rmbench.py", "rmbench.errors.things"}
"""A file of a trained model, and made-up names of tests."""
PROSE = [
    *(p for folder in ("docs", "rmbench", "scripts", "tasks", "tests") for p in (ROOT / folder).rglob("*")),
    *ROOT.glob("*.md"),
]
NAMED = re.compile(r"(?<![\w./@-])rmbench(?:\.[A-Za-z]\w*)+")
PATHS = re.compile(r"(?<![\w./@<{-])(?:docs|rmbench|tasks|tests)/[\w./-]+\.(?:py|md|yaml)\b")


def found_in(pattern: re.Pattern[str], suffixes: tuple[str, ...]) -> dict[str, str]:
    """Return what a pattern matches in sources and pages -> the first place."""
    found: dict[str, str] = {}
    for path in sorted(p for p in PROSE if p.suffix in suffixes and "fixtures" not in p.parts):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            for name in pattern.findall(line):
                found.setdefault(name, f"{path.relative_to(ROOT)}:{number}")
    return found


def resolves(name: str) -> bool:
    """Say whether a dotted name is a module of rmbench, or something in one."""
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            spec = find_spec(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        if spec is not None:
            thing: object = import_module(spec.name) if k < len(parts) else None
            for attribute in parts[k:]:
                if not hasattr(thing, attribute):
                    return False
                thing = getattr(thing, attribute)
            return True
    return False


def test_names_of_rmbench_in_docs_and_docstrings_resolve() -> None:
    found = found_in(NAMED, (".md", ".py", ".yaml"))
    assert len(found) > 100
    known = GROUPS | OTHER_NAMES
    assert not {name: place for name, place in found.items() if name not in known and not resolves(name)}
    assert resolves("rmbench.metrics.kinds.Metric")
    assert not [end for end in ("specs", "metrics.kinds.Metrik") if resolves(f"rmbench.{end}")]


def test_files_named_in_docs_and_comments_are_there() -> None:
    found = found_in(PATHS, (".md", ".yaml"))
    assert len(found) > 20
    assert not {
        name: place for name, place in found.items() if "NAME" not in name and not (ROOT / name).exists()
    }
