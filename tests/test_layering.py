"""The shape of the package: imports go downwards, files and functions stay small, start-up stays light."""

import ast
import importlib
import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import rmbench

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rmbench"

LAYERS = [
    ["errors", "types"],
    ["core", "stats"],
    ["edits", "format", "metrics", "models"],
    ["tasks"],
    ["results", "scoring"],
    ["benchmarks", "boards", "check", "contamination", "gold", "inspection", "sampling", "train"],
    ["evaluation", "plot"],
    ["doctor", "report", "study"],
    ["api", "cli"],
    ["__main__"],
]
"""Top-level modules and packages, from the bottom; a module imports from layers below and from itself."""

LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
SOURCES = sorted(p for p in PACKAGE.rglob("*.py"))
HEAVY = ("torch", "transformers", "datasets", "sklearn", "vllm", "accelerate", "peft", "ray", "scipy.stats")


def unit_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, module) of every import, those inside functions and TYPE_CHECKING blocks too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            yield node.lineno, str(node.module)


def strings_that_name_modules(path: Path) -> Iterator[tuple[int, str]]:
    """Yield registered targets such as "rmbench.benchmarks.sets.pools:read_gsm8k": imports by another name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            module, _, name = node.value.partition(":")
            if module.startswith("rmbench.") and name.isidentifier():
                yield node.lineno, module


def upward_imports(path: Path) -> Iterator[str]:
    own = unit_of(module_name(path))
    if own == "__init__":  # what type checkers alone import; see below what is imported at run time
        yield from (f"{path}: {m}" for _, m in top_level_imports(path) if m.startswith("rmbench"))
        return
    for line, module in [*imports(path), *strings_that_name_modules(path)]:
        if module.split(".")[0] == "rmbench":
            target = unit_of(module)
            if target not in (own, "__init__") and LEVEL[target] >= LEVEL[own]:
                yield f"{path}:{line}: {own} (layer {LEVEL[own]}) imports {module}"


def test_imports_go_downwards() -> None:
    assert not [line for path in SOURCES for line in upward_imports(path)]


def test_no_module_is_part_of_a_cycle() -> None:
    names = {module_name(p) for p in SOURCES}
    graph = {
        module_name(p): {m for _, m in top_level_imports(p) if m in names} - {module_name(p)} for p in SOURCES
    }
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, " -> ".join((*path, module))
        if module not in done:
            for target in sorted(graph[module]):
                visit(target, (*path, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def top_level_imports(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, str(node.module)
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def names_for_type_checkers() -> dict[str, str]:
    """Return name -> module of what `rmbench/__init__.py` imports under TYPE_CHECKING."""
    tree = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom)
        found |= {alias.name: str(node.module) for alias in node.names}
    return found


def test_the_top_level_names_are_the_same_for_type_checkers_and_at_run_time() -> None:
    told = names_for_type_checkers()
    modules = {name for name, module in told.items() if module == "rmbench"}
    code = "import json, rmbench; print(json.dumps([n for n in dir(rmbench) if not n.startswith('_')]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert set(json.loads(done.stdout)) - {"Any", "TYPE_CHECKING", "import_module"} == set(told)
    assert set(rmbench.__all__) == {*told, "__version__"} - {"register_loss"}
    assert set(told) <= set(dir(rmbench))
    for name, module in told.items():
        found = getattr(importlib.import_module(module), name)
        assert getattr(rmbench, name) is found
        assert name not in modules or found is sys.modules[f"rmbench.{name}"]
    with pytest.raises(AttributeError, match="evaluat"):
        rmbench.evaluat  # noqa: B018


def test_importing_the_package_imports_nothing_of_it() -> None:
    code = "import sys, rmbench; print([m for m in sys.modules if m.startswith('rmbench.') or m == 'numpy'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_every_module_has_a_layer_and_none_is_called_utils() -> None:
    units = {unit_of(module_name(p)) for p in SOURCES} - {"__init__"}
    assert units == set(LEVEL)
    assert not [p for p in SOURCES if p.stem in ("utils", "helpers", "common", "misc")]


def too_large(path: Path) -> Iterator[str]:
    text = path.read_text(encoding="utf-8")
    if (lines := text.count("\n")) > 500:
        yield f"{path} has {lines} lines"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            doc = ast.get_docstring(node, clean=False) or ""
            length = (node.end_lineno or 0) - node.lineno + 1 - doc.count("\n")
            if length > 60:
                yield f"{path}:{node.lineno}: {node.name} has {length} lines"


def test_files_and_functions_stay_small() -> None:
    assert not [line for path in SOURCES for line in too_large(path)]


NOT_OURS = {
    "_repr_html_",  # what a notebook shows
    "_attn_implementation", "_global_mapping",  # transformers
    "_shared_state",  # accelerate
    "_exit",  # os
}  # fmt: skip
"""Underscore names of other libraries that tests read."""


def private_names(path: Path) -> Iterator[str]:
    """Yield where a test reads an underscore name that is not its own: as attribute, import or patched name."""
    private = re.compile(r"_[A-Za-z]\w*")
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            names = [] if ast.unparse(node.value) in ("self", "cls") else [node.attr]
        elif isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "rmbench":
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in PATCHES:
            words = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            names = [word.rpartition(".")[2] for word in words]
        yield from (
            f"{path}:{node.lineno}: {name}"
            for name in names
            if private.fullmatch(name) and name not in NOT_OURS
        )


PATCHES = ("delattr", "getattr", "hasattr", "patch", "setattr")


def test_tests_go_through_public_names() -> None:
    tests = sorted((ROOT / "tests").rglob("*.py"))
    assert len(tests) > 100
    assert not [line for path in tests for line in private_names(path)]


@pytest.mark.parametrize(
    "line",
    ["x = thing._hidden", "from rmbench.core import _hidden", "patch.setattr(thing, '_hidden', 1)",
     "patch.setattr('rmbench.core._hidden', 1)", "getattr(thing, '_hidden')"],
)  # fmt: skip
def test_a_private_name_in_a_test_is_found(line: str, tmp_path: Path) -> None:
    file = tmp_path / "test_it.py"
    file.write_text(line + "\n")
    assert list(private_names(file)) == [f"{file}:1: _hidden"]


def test_folders_stay_small() -> None:
    folders = Counter(path.parent for path in SOURCES)
    assert not {folder: n for folder, n in folders.items() if n > 15}


def test_nothing_unpickles_or_evaluates() -> None:
    words = ("import pickle", "joblib", "allow_pickle=True", "weights_only=False", " eval(", " exec(")
    texts = {p: p.read_text(encoding="utf-8") for p in SOURCES}
    assert not [(p, word) for p, text in texts.items() for word in words if word in text]
    # One place reads pickles of tensors, and torch runs nothing of theirs.
    loads = {p.name: text.split("torch.load(")[1:] for p, text in texts.items() if "torch.load(" in text}
    assert list(loads) == ["tensors.py"]
    assert ["weights_only=True" in rest.split(")")[0] for rest in loads["tensors.py"]] == [True]


@pytest.mark.parametrize(
    "command",
    [["--help"], ["--version"], ["tasks"], ["models"], ["leaderboard", "--check"], ["compare", "--help"],
     ["eval", "--help"], ["report", "--help"]],
    ids=" ".join,
)  # fmt: skip
def test_light_commands_import_no_heavy_library(command: list[str], tmp_path: Path) -> None:
    code = (
        "import sys; from rmbench.cli.main import run; "
        f"code = run({command!r}); "
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr
    assert done.returncode == 0, done.stderr


def test_an_evaluation_imports_only_what_it_runs(tmp_path: Path) -> None:
    where = ["--results", str(tmp_path / "results"), "--store", str(tmp_path / "store")]
    command = ["eval", "--model", "length", "--task", "bon", "--limit", "5", "-q", *where]
    rooms = ("api", "boards", "check", "plot", "report.page", "sampling", "scoring.ray", "scoring.workers",
             "study", "train")  # fmt: skip
    libraries = (*HEAVY, "jinja2", "matplotlib", "pandas", "rich", "scipy.stats", "httpx")
    code = (
        f"import sys; from rmbench.cli.main import run; assert run({command!r}) == 0\n"
        f"unwanted = [*{libraries!r}, *('rmbench.' + room for room in {rooms!r})]\n"
        "print([name for name in unwanted if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stderr.strip().splitlines()[-1] == "[]", done.stderr
    assert done.returncode == 0, done.stderr


def test_the_python_api_evaluates_without_boards() -> None:
    code = (
        "import sys, rmbench; rmbench.evaluate('length', 'bon', limit=5, quiet=True)\n"
        "print([m for m in ('rmbench.boards', 'rmbench.plot', 'jinja2', 'ray', 'torch') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_metrics_and_boards_wait_for_no_part_of_scipy_but_special() -> None:
    code = (
        "import sys, rmbench.metrics, rmbench.boards, rmbench.api; "
        "print([m for m in ('scipy.stats', 'scipy.optimize', 'scipy.sparse') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"
