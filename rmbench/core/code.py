"""Files that somebody's code consists of, and whether loaded modules still have the text of their files.

A module belongs to the code where an import statement names it, inside a function or not, and it is neither
of Python, nor of rmbench, nor installed. A package belongs with all its modules: whatever picks them at run
time, they are part of it.
"""

import ast
import multiprocessing.process
import os
import sys
import sysconfig
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import datetime
from functools import cache, lru_cache
from hashlib import sha256
from importlib.machinery import (
    BYTECODE_SUFFIXES,
    EXTENSION_SUFFIXES,
    SOURCE_SUFFIXES,
    ExtensionFileLoader,
    FileFinder,
    ModuleSpec,
    SourceFileLoader,
    SourcelessFileLoader,
)
from importlib.metadata import Distribution
from importlib.util import find_spec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any, TypeAlias

from rmbench.core.files import digest
from rmbench.errors import ConfigError

Files: TypeAlias = dict[str, tuple[Path, bytes]]
"""Path relative to the folder that it is imported from -> the file and its bytes."""

_SUFFIXES = (*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES, *BYTECODE_SUFFIXES)


def code_sha256(files: Files) -> str:
    """Return the SHA-256 of code, 64 hex digits: of the file's bytes where it is one file."""
    hashes = {label: sha256(raw).hexdigest() for label, (_, raw) in files.items()}
    return next(iter(hashes.values())) if len(hashes) == 1 else digest(["files", hashes])


class Reach:
    """Code that is reached from one file by import statements.

    Args:
        folder: The folder of a user's file, whose modules are found before any other; None: there is none.
        where: Begins messages.

    Raises:
        ConfigError: While files are added, if one cannot be read or parsed.
    """

    def __init__(self, folder: Path | None, where: str) -> None:
        self._folder, self._where = folder, where
        self.own: Files = {}
        """Files of `folder`."""
        self.others: Files = {}
        """Files found on `sys.path`."""

    def add(self, label: str, path: Path, raw: bytes | None = None, *, own: bool) -> None:
        """Add a file and what it imports; `raw` is its bytes where they are read already."""
        files = self.own if own else self.others
        if label in files:
            return
        try:
            raw = path.read_bytes() if raw is None else raw
        except OSError as error:
            raise ConfigError(f"{self._where}: {path} cannot be read ({error.strerror})") from None
        files[label] = path, raw
        if path.suffix in SOURCE_SUFFIXES:
            self._follow(label, path, raw, own)

    def _follow(self, label: str, path: Path, raw: bytes, own: bool) -> None:
        imports, by_text = _imports(raw)
        depth = label.count("/") if own else sys.maxsize
        for level, name in imports:
            if level == 0 or level > depth:
                self._find(name)
        for line, name in by_text:
            if own and self._folder is not None and located(name, self._folder):
                raise ConfigError(
                    f"{self._where}: {path}, line {line}: {name!r} lies beside the file and is imported by"
                    f" import_module, which does not show what belongs to the file; write `import {name}`"
                )

    def _find(self, name: str) -> None:
        spec = located(name, self._folder) if self._folder is not None else None
        own = spec is not None
        spec = spec or _on_path(name)
        if spec is not None:
            for label, path in _files_of(spec):
                self.add(label, path, own=own)


@lru_cache(maxsize=10_000)
def _imports(raw: bytes) -> tuple[list[tuple[int, str]], list[tuple[int, str]]]:
    """Return (level, top-level name) of import statements, and (line, name) of `import_module("name")`."""
    try:
        tree = ast.parse(raw)
    except (SyntaxError, ValueError, RecursionError):
        return [], []  # if it is ever imported, the import says so
    imports, by_text = dict[tuple[int, str], None](), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imports |= {(0, alias.name.partition(".")[0]): None for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports[node.level, node.module.partition(".")[0]] = None
        elif isinstance(node, ast.ImportFrom):
            imports |= {(node.level, alias.name): None for alias in node.names}
        elif isinstance(node, ast.Call) and node.args:
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            name = getattr(node.args[0], "value", None)
            if called == "import_module" and isinstance(name, str) and not name.startswith("."):
                by_text.append((node.lineno, name.partition(".")[0]))
    return list(imports), by_text


def located(name: str, folder: Path) -> ModuleSpec | None:
    """Return where `import name` finds a module of `folder` itself; None where it means another.

    As for a script, the folder comes before `sys.path`; but Python's own modules, rmbench and what is
    installed into the folder stay what they are.
    """
    if name == "rmbench" or name in sys.stdlib_module_names or is_installed(folder / name):
        return None
    spec = finder(folder).find_spec(name)
    if spec is None or spec.loader is not None:
        return spec
    # A folder without __init__.py is a package only if nothing else has the name.
    if not any(_code_in(Path(place)) for place in spec.submodule_search_locations or ()):
        return None
    other = _spec(name)
    return spec if other is None or other.origin is None else None


def finder(folder: Path) -> FileFinder:
    """Return a finder that sees a folder as it is now."""
    return FileFinder(
        str(folder),
        (ExtensionFileLoader, EXTENSION_SUFFIXES),
        (SourceFileLoader, SOURCE_SUFFIXES),
        (SourcelessFileLoader, BYTECODE_SUFFIXES),
    )


def _spec(name: str) -> ModuleSpec | None:
    with suppress(ImportError, ValueError, AttributeError):  # e.g. a module without a spec
        return find_spec(name)
    return None


def _on_path(name: str) -> ModuleSpec | None:
    """Return where a name on `sys.path` is found, if it is neither Python's, rmbench's nor installed."""
    if name in ("rmbench", "__main__") or name in sys.stdlib_module_names:
        return None
    spec = _spec(name)
    places = [] if spec is None else [spec.origin] if spec.has_location else spec.submodule_search_locations
    return None if any(is_installed(Path(str(place))) for place in places or ()) else spec


def _files_of(spec: ModuleSpec) -> Iterator[tuple[str, Path]]:
    """Yield the files of a module or of a whole package, with their labels."""
    if spec.submodule_search_locations is None:
        if spec.has_location and spec.origin is not None and Path(spec.origin).is_file():
            yield Path(spec.origin).name, Path(spec.origin)
        return
    for place in map(Path, spec.submodule_search_locations):
        yield from ((path.relative_to(place.parent).as_posix(), path) for path in _code_in(place))


def _code_in(folder: Path) -> list[Path]:
    """Return the modules in and below a folder, sorted; through links, each folder once."""
    found, seen = [], set[str]()
    for place, folders, names in os.walk(folder, followlinks=True):
        if (real := os.path.realpath(place)) in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(f for f in folders if f != "__pycache__" and not f.startswith("."))
        found += [Path(place) / name for name in names if name.endswith(_SUFFIXES)]
    return sorted(found)


def is_installed(path: Path) -> bool:
    """Say whether a module's file is of an installed package or of Python itself."""
    if {"site-packages", "dist-packages"} & set(path.parts):
        return True
    if any(path.is_relative_to(sysconfig.get_path(which)) for which in ("stdlib", "platstdlib")):
        return True
    package = path.parent if path.name.startswith("__init__.") else path
    return package.name.partition(".")[0] in _installed_into(package.parent)


@cache
def _installed_into(folder: Path) -> frozenset[str]:
    """Return the top-level names that pip installed into any folder (`pip install --target`)."""
    found = set[str]()
    for info in folder.glob("*.dist-info"):
        for file in Distribution.at(info).files or ():
            found.add(file.parts[0].partition(".")[0])
    return frozenset(found)


def files_of_module(name: str, distribution: Distribution | None, where: str) -> Files:
    """Return the files of the code that the loaded module `name` belongs to.

    Of an installed module these are its top-level package's, and those of its distribution; of another one
    also what they import that is not installed.

    Raises:
        ConfigError: If a file cannot be read.
    """
    parts = name.split(".")
    tops = (sys.modules.get(".".join(parts[: n + 1])) for n in range(len(parts)))
    top: Any = next(module for module in tops if getattr(module, "__file__", None))
    file = Path(str(top.__file__))
    is_package = hasattr(top, "__path__")
    folder = file.parent.parent if is_package else file.parent
    paths = {p.relative_to(folder).as_posix(): p for p in (_code_in(file.parent) if is_package else [file])}
    reach = Reach(None, where)
    if is_installed(file):
        paths |= _listed(distribution)
        for label, path in paths.items():
            reach.others[label] = path, path.read_bytes()
    else:
        for label, path in paths.items():
            reach.add(label, path, own=False)
    return reach.others


def _listed(distribution: Distribution | None) -> dict[str, Path]:
    """Return the modules that a distribution lists as its files."""
    files = (distribution.files or ()) if distribution is not None else ()
    return {
        file.as_posix(): Path(str(file.locate()))
        for file in files
        if file.name.endswith(_SUFFIXES)
        and not {"..", "__pycache__"} & set(file.parts)
        and not file.name.startswith("__editable__")  # it holds paths of this machine
        and Path(str(file.locate())).is_file()
    }


def doubts(paths: Iterable[Path], where: str) -> Iterator[str]:
    """Yield, for each loaded module of these files, why it may have run another text than its file has now.

    The text is known where the file was last changed before this Python began.

    Raises:
        ConfigError: If Python took old bytecode for the text; the message begins with `where`.
    """
    modules = {str(vars(m).get("__file__")): m for m in [*sys.modules.values()] if hasattr(m, "__dict__")}
    began = _began()
    for path in paths:
        module = modules.get(str(path)) or modules.get(str(path.resolve()))
        if module is None:
            continue
        if began is None or path.stat().st_ctime >= began:
            yield f"{path} may have changed since it was imported; start Python again"
        elif isinstance(module.__loader__, SourceFileLoader) and (old := _old_bytecode(module, path)):
            raise ConfigError(
                f"{where}: Python ran {old}, which is older than {path}; delete it and start again"
            )


def _old_bytecode(module: ModuleType, path: Path) -> Path | None:
    """Return the cached bytecode that Python took for the file, if it was made of another text."""
    cached = Path(str(getattr(module.__spec__, "cached", None)))
    try:
        info, made = path.stat(), cached.stat()
        head = cached.read_bytes()[:16]
        if made.st_mtime_ns > info.st_ctime_ns:
            return None
        flags, mtime, size = (int.from_bytes(head[n : n + 4], "little") for n in (4, 8, 12))
        if flags == 0 and (mtime, size) != (int(info.st_mtime) & 0xFFFFFFFF, info.st_size & 0xFFFFFFFF):
            return None
        ran: CodeType | None = SourcelessFileLoader(module.__name__, str(cached)).get_code(module.__name__)
    except (OSError, ImportError, EOFError):  # there is none, or of another Python: it was not taken
        return None
    now = SourceFileLoader(module.__name__, str(path)).source_to_code(path.read_bytes(), str(path))
    return cached if ran != now else None


@cache
def _start() -> float | None:
    """Return when this process began, in seconds since 1970; None where the system does not say."""
    with suppress(OSError, ValueError, IndexError, AttributeError):
        words = Path("/proc/self/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        # Counted in whole ticks; the rest of the one in which it began is less than Python takes to start.
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - (int(words[19]) + 1) / os.sysconf("SC_CLK_TCK")
        return time.time() - age
    import subprocess  # systems without /proc; costs every start otherwise

    with suppress(OSError, ValueError, subprocess.SubprocessError):
        told = subprocess.run(
            ["ps", "-o", "lstart=", "-p", str(os.getpid())],
            capture_output=True, text=True, check=True, env=os.environ | {"LC_ALL": "C"},
        )  # fmt: skip
        return datetime.strptime(told.stdout.strip(), "%a %b %d %H:%M:%S %Y").astimezone().timestamp()
    return None


_AT_IMPORT = _start()
"""A process that is forked later keeps it: it has the modules of the first."""


def _began() -> float | None:
    # multiprocessing forks before this module is imported, too; such a process has modules of unknown age.
    forked = type(multiprocessing.process.current_process()).__name__ == "ForkProcess"
    return None if forked else _AT_IMPORT
