"""Pages of Markdown whose code is run: in the tests, and to write the real output into them.

    python scripts/docs/pages.py docs/tutorial.md    # run it, and put in what its blocks print

A page's blocks run in order, in one folder and one Python process. What a fence says:

- ```` ```bash ```` runs line by line; `rmbench` is called within this process, all else by bash.
- ```` ```python ```` runs as one cell of a notebook; the page is one namespace.
- any fence with `title="FILE"` is written to FILE in place of being run.
- ```` ```text ```` after one of the first two is what it prints on stdout. A line `...` stands for any lines.
- `<!-- not run: REASON -->` before a block leaves it out; its `rmbench` lines are parsed all the same.
- `<!-- slow: REASON -->` before a block: run only where slow tests are; no other block may need it.
- `<!-- exit code N -->` before a block: its last line fails so, and what is shown is stderr.

Other fences (yaml, json and so on without a title) are only shown.
"""

import io
import linecache
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rmbench.cli.main import run

_FENCE = re.compile(r"```(?P<language>\w*)(?P<rest>[^`]*)$")
_REMARK = re.compile(r"<!-- (?:not run: (?P<why>.+)|slow: (?P<slow>.+)|exit code (?P<code>\d+)) -->")
_NUMBER = re.compile(r"-?\d+\.\d+")
TOLERANCE = 0.0015
"""By how much a shown decimal may be off: the last digit of three, where another processor rounds."""
RUN = ("bash", "python")
EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "example"


class PageError(Exception):
    """A block does not do what its page says; the message has file and line."""


@dataclass
class Block:
    """One fenced block."""

    language: str
    text: str
    line: int
    """Of its fence, from 1."""
    title: str = ""
    why_not: str = ""
    """Why it is not run."""
    slow: str = ""
    """Why it is run with the slow tests alone."""
    exit_code: int = 0
    shown: "Block | None" = None
    """What the page says that it prints."""

    @property
    def is_run(self) -> bool:
        """Whether it is code that runs."""
        return self.language in RUN and not self.title and not self.why_not


def blocks_of(text: str) -> list[Block]:
    """Return the blocks of a page in order; those that show output belong to the one before."""
    found: list[Block] = []
    lines = iter(enumerate(text.splitlines(), 1))
    remark, touches = None, False
    for number, line in lines:
        fence = _FENCE.match(line)
        if fence is None:
            if line.strip():
                remark, touches = _REMARK.fullmatch(line.strip()), False
            continue
        body = "".join(f"{inner}\n" for inner in _until_fence(lines))
        title = re.search(r'title="([^"]+)"', fence["rest"])
        block = Block(fence["language"], body, number, title[1] if title else "")
        if remark:
            block.why_not, block.slow = remark["why"] or "", remark["slow"] or ""
            block.exit_code = int(remark["code"] or 0)
        if block.language == "text" and touches and found[-1].is_run:
            found[-1].shown = block
        else:
            found.append(block)
        remark, touches = None, True
    return found


def _until_fence(lines: Iterator[tuple[int, str]]) -> Iterator[str]:
    for _, line in lines:
        if line.startswith("```"):
            return
        yield line


def commands_of(block: Block) -> list[str]:
    """Return the commands of a bash block: one a line, continued by backslashes, without remarks."""
    joined = re.sub(r"\\\n\s*", "", block.text)
    lines = (re.split(r"\s{2,}#|^#", line)[0].strip() for line in joined.splitlines())
    return [line for line in lines if line]


def arguments_of(command: str) -> tuple[list[str], str]:
    """Return the arguments of an `rmbench` command, and the file that its output goes to (or nothing)."""
    words = shlex.split(command)[1:]
    if len(words) > 1 and words[-2] == ">":
        return words[:-2], words[-1]
    return words, ""


@dataclass
class Session:
    """Where the blocks of one page run, one after the other: the working folder, and a namespace."""

    name: str
    namespace: dict[str, Any] = field(default_factory=lambda: {"__name__": "__main__"})

    def output_of(self, block: Block) -> str:
        """Run a block, or write its file; return what it prints.

        Raises:
            PageError: If it fails, or does not fail as it should.
        """
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
            return ""
        if block.language == "python":
            return self._python(block)
        out, commands = "", commands_of(block)
        for n, command in enumerate(commands, 1):
            code, printed, errors = _ran(command)
            expected = block.exit_code if n == len(commands) else 0
            if code != expected:
                raise PageError(f"{self.name}, line {block.line}: {command}\nexit code {code}: {errors}")
            out += errors if expected else printed
        return out

    def _python(self, block: Block) -> str:
        name, out = f"<{self.name}, line {block.line}>", io.StringIO()
        # As notebooks do: tracebacks, and those who ask for a function's source, find it.
        linecache.cache[name] = (len(block.text), None, block.text.splitlines(keepends=True), name)
        with redirect_stdout(out), redirect_stderr(io.StringIO()):
            exec(compile(block.text, name, "exec"), self.namespace)  # noqa: S102  (the project's own pages)
        return out.getvalue()


def _ran(command: str) -> tuple[int, str, str]:
    if not command.startswith("rmbench "):
        done = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr
    arguments, file = arguments_of(command)
    out, errors = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(errors):
        code = run(arguments)
    if file:
        Path(file).write_text(out.getvalue(), encoding="utf-8")
    return code, "" if file else out.getvalue(), errors.getvalue()


def differs(shown: str, printed: str) -> str:
    """Return the first line in which what is shown is not what is printed; empty if there is none.

    Spaces and rules of tables may be wider, and decimals off by TOLERANCE.
    """
    expected, actual = _plain(shown), _plain(printed)
    parts = [[]] if expected else []
    for line in expected:
        if line == "...":
            parts.append([])
        else:
            parts[-1].append(line)
    if len(parts) <= 1:
        return _first_difference(expected, actual)
    place = 0
    for n, part in enumerate(parts):
        places = range(place, len(actual) - len(part) + 1)
        places = [0] if n == 0 else [len(actual) - len(part)] if n == len(parts) - 1 else places
        near = (k for k in places if k >= place)
        fitting = [k for k in near if not _first_difference(part, actual[k : k + len(part)])]
        if not fitting:
            return f"{part[0] if part else ''!r} is not (or not in this order) in what is printed"
        place = fitting[0] + len(part)
    return ""


def _plain(text: str) -> list[str]:
    lines = (re.sub(r"[-─]{2,}", "--", " ".join(line.split())) for line in text.splitlines())
    return [line for line in lines if line]


def _first_difference(expected: list[str], actual: list[str]) -> str:
    for a, b in zip(expected, actual, strict=False):
        if not _alike(a, b):
            return f"the page shows {a!r}, printed is {b!r}"
    if len(expected) != len(actual):
        more = (expected if len(expected) > len(actual) else actual)[min(len(expected), len(actual))]
        return f"{len(expected)} lines are shown, {len(actual)} printed; the first more: {more!r}"
    return ""


def _alike(a: str, b: str) -> bool:
    if _NUMBER.sub("#", a) != _NUMBER.sub("#", b):
        return False
    pairs = zip(_NUMBER.findall(a), _NUMBER.findall(b), strict=True)
    return all(abs(float(x) - float(y)) <= TOLERANCE * max(1.0, abs(float(x))) for x, y in pairs)


def filled(path: Path) -> str:
    """Run a page in the working folder; return its text with what is printed put in where it differs."""
    text = path.read_text(encoding="utf-8")
    lines, session = text.splitlines(), Session(path.name)
    edits = []
    for block in blocks_of(text):
        if not (block.is_run or block.title):
            continue
        printed = session.output_of(block)
        if block.shown and differs(block.shown.text, printed):
            shown = [line.rstrip() for line in printed.strip("\n").splitlines()]
            edits.append((block.shown.line, block.shown.text.count("\n"), shown))
    for line, length, shown in reversed(edits):
        lines[line : line + length] = shown
    return "\n".join(lines) + "\n"


def furnish(folder: Path) -> None:
    """Put into a working folder what pages find in the repository: the example's files."""
    shutil.copytree(EXAMPLE, folder / "docs" / "example")


def main() -> None:
    """Write the real output into the pages that are named."""
    import os
    import tempfile

    for page in [Path(name).resolve() for name in sys.argv[1:]]:
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            furnish(Path(folder))
            os.environ["RMBENCH_STORE"] = str(Path(folder) / ".scores")
            sys.path.insert(0, folder)
            page.write_text(filled(page), encoding="utf-8")
            os.chdir(page.parent)


if __name__ == "__main__":
    main()
