"""Counts of the package beside what is aimed at: files, lines, folders, import circles, start-up times.

Usage: `python scripts/shape.py`, or with `--no-time` for the counts alone.
"""

import ast
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "rmbench"
_FOLDERS = ("--results", "FOLDER/results", "--store", "FOLDER/scores")
EVAL = ("eval", "--model", "length", "--task", "bon", *_FOLDERS)


def module_name(path: Path) -> str:
    """Return the dotted name of a file of the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports when it is imported itself."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def circles(files: list[Path]) -> list[list[str]]:
    """Return the groups of modules that import each other in a loop."""
    names = {module_name(path) for path in files}
    graph = {module_name(path): imported(path) & names - {module_name(path)} for path in files}
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen, waiting = set(), [start]
        while waiting:
            for target in graph[waiting.pop()] - seen:
                seen.add(target)
                waiting.append(target)
        reach[start] = seen
    in_loop = {name: frozenset(m for m in reach[name] if name in reach[m]) for name in graph}
    return sorted(sorted(loop) for loop in {loop for loop in in_loop.values() if loop})


def longest_function(files: list[Path]) -> tuple[int, str]:
    """Return the lines of the longest function, its docstring not counted, and its name."""
    found = []
    for path in files:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                doc = ast.get_docstring(node, clean=False) or ""
                length = (node.end_lineno or 0) - node.lineno + 1 - doc.count("\n")
                found.append((length, f"{module_name(path)}.{node.name}"))
    return max(found)


def seconds(*arguments: str) -> float:
    """Return the wall time of `rmbench ARGUMENTS` with folders of its own, the best of three."""
    times = []
    for _ in range(3):
        with tempfile.TemporaryDirectory() as folder:
            command = [word.replace("FOLDER", folder) for word in arguments]
            start = time.perf_counter()
            subprocess.run(
                [sys.executable, "-m", "rmbench", *command], cwd=ROOT, capture_output=True, check=True
            )
            times.append(time.perf_counter() - start)
    return min(times)


def main() -> None:
    """Print one line per count."""
    files = sorted(PACKAGE.rglob("*.py"))
    lines = {path: path.read_text(encoding="utf-8").count("\n") for path in files}
    folders = Counter(path.parent for path in files)
    fullest = max(folders, key=lambda folder: folders[folder])
    longest = max(files, key=lambda path: lines[path])
    length, function = longest_function(files)
    rows = [
        ("package files", len(files), "210"),
        ("package lines", sum(lines.values()), "31,000"),
        ("modules at the top level", len([p for p in files if p.parent == PACKAGE]), "20"),
        (f"files in the fullest folder, {fullest.relative_to(ROOT)}", folders[fullest], "15"),
        (f"lines of the longest file, {longest.relative_to(ROOT)}", lines[longest], "500"),
        (f"lines of the longest function, {function}", length, "60"),
        ("import circles", len(circles(files)), "0"),
    ]
    if "--no-time" not in sys.argv:
        rows.append(("seconds of `rmbench --help`", round(seconds("--help"), 2), "0.3"))
        rows.append(("seconds of `rmbench eval --model length --task bon`", round(seconds(*EVAL), 2), "1"))
    width = max(len(what) for what, _, _ in rows)
    for what, value, most in rows:
        print(f"{what:<{width}}  {value:>8,}  (at most {most})")
    for circle in circles(files):
        print("circle:", " ".join(circle))


if __name__ == "__main__":
    main()
