"""What is built and installed, as users have it: sdist, wheel, and the commands far from the repository."""

import ast
import json
import re
import sys
import tarfile
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path
from zipfile import ZipFile

import pytest
from installed_wheel import BESIDE_THE_CODE, Built, built, finished

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parent.parent
WRITTEN_BY_SETUPTOOLS = {"PKG-INFO", "setup.cfg"}
TASKS = {path.stem for path in (ROOT / "tasks").glob("*.yaml")}


def source_files() -> set[str]:
    """Return the code and data that the package reads, by their place in the repository."""
    code = (path for path in (ROOT / "rmbench").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {
        path.relative_to(ROOT).as_posix()
        for path in (*code, *(ROOT / "tasks").glob("*.yaml"), *(ROOT / "leaderboards").glob("*.yaml"))
    }


def in_wheel(wheel: Path) -> set[str]:
    """Return the files of a wheel, without its metadata."""
    with ZipFile(wheel) as archive:
        return {name for name in archive.namelist() if ".dist-info/" not in name}


def imported(folder: str) -> set[str]:
    """Return the distributions that the code of a folder imports, inside functions too, in lower case."""
    sources = list((ROOT / folder).rglob("*.py"))
    nodes = [node for path in sources for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {str(node.module) for node in nodes if isinstance(node, ast.ImportFrom)}
    beside = [] if folder == "rmbench" else [*sources, *(ROOT / "scripts").rglob("*.py")]
    ours = {"rmbench", *(path.stem for path in beside)}
    theirs = {name.partition(".")[0] for name in names} - ours - sys.stdlib_module_names
    installed = packages_distributions()
    return {installed.get(name, [name])[0].lower().replace("-", "_") for name in theirs}


def declared(*extras: str) -> set[str]:
    """Return the distributions that `pip install rmbench[...]` names, in lower case."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = set()
    for line in project["dependencies"] + [p for e in extras for p in project["optional-dependencies"][e]]:
        name, inner = re.fullmatch(r"([\w.-]+)(?:\[(.*)\])?.*", line).groups()  # type: ignore[union-attr]
        found |= declared(*inner.split(",")) if inner else {name.lower().replace("-", "_")}
    return found


USERS = ("hf", "plot", "pandas", "train", "judge", "verifiers", "vllm", "ray")
"""The extras that users install; the others are for work on the project."""


def test_what_is_imported_is_declared_and_the_core_is_imported() -> None:
    assert imported("rmbench") <= declared(*USERS)
    for folder in ("tests", "scripts", "benchmarks"):
        assert imported(folder) <= declared("dev", "bench"), folder
    assert declared() <= imported("rmbench"), "a core dependency that nothing imports"


def test_wheel_and_sdist_hold_code_data_tasks_and_boards_and_nothing_else(
    built_once: Built, tmp_path: Path
) -> None:
    with tarfile.open(built_once.sdist) as archive:
        files = {m.name.partition("/")[2] for m in archive if m.isfile()}
    assert {f for f in files if ".egg-info/" not in f} == {
        *source_files(),
        *BESIDE_THE_CODE,
        *WRITTEN_BY_SETUPTOOLS,
    }
    placed = {
        f.replace("tasks/", "rmbench/_tasks/").replace("leaderboards/", "rmbench/_boards/")
        if not f.startswith("rmbench/")
        else f
        for f in source_files()
    }
    assert {f"rmbench/_tasks/{name}.yaml" for name in TASKS} < placed
    assert in_wheel(built_once.wheel) == placed
    assert in_wheel(built("wheel", built_once.source, tmp_path / "wheel")) == placed


def test_the_installed_wheel_works_in_an_empty_folder(built_once: Built, tmp_path: Path) -> None:
    installed = built_once.programs
    empty = tmp_path / "empty"
    empty.mkdir()

    def rmbench(*arguments: str) -> str:
        return finished(
            [str(installed / "rmbench"), *arguments], empty, RMBENCH_STORE=str(tmp_path / "store"),
            RMBENCH_OFFLINE="1", OMP_NUM_THREADS="1",
        )  # fmt: skip

    place = finished([str(installed / "python"), "-c", "import rmbench; print(rmbench.__file__)"], empty)
    assert Path(place.strip()).is_relative_to(installed.parent), "the wheel is not what is imported"

    assert {task["name"] for task in json.loads(rmbench("tasks", "--json"))} == TASKS
    rmbench("eval", "-m", "builtin:linear", "-m", "length", "-t", "bon", "-t", "preference", "--quiet")
    rmbench("leaderboard", "main", "--out", "boards")
    board = json.loads((empty / "boards" / "main.json").read_text(encoding="utf-8"))
    assert [(row["model"], row["rank"]) for row in board["rows"]] == [("builtin:linear", 1), ("length", 2)]

    few = ["--limit", "40", "--max-steps", "2", "--batch-size", "8", "--freeze-backbone", "--quiet"]
    trained = rmbench(
        "train", "--base", "builtin:tiny", "--data", "preference:train", "--out", "trained", *few
    )
    assert "2 steps" in trained
    assert "builtin:tiny" in (empty / "trained" / "README.md").read_text(encoding="utf-8")

    rmbench("report", "builtin:linear", "--out", "report.html")
    page = (empty / "report.html").read_text(encoding="utf-8")
    assert "builtin:linear" in page
    assert "<svg" in page, "the figures are missing"
    left = {path.name for path in empty.iterdir()}
    assert left == {"results", "boards", "trained", "report.html"}, "something else was written"
