"""A user's Python file as a module: the bytes that run are the bytes that were hashed.

The file and the modules of its folder that it imports are read once, hashed, and loaded as a private package.
No bytecode is read or written. Two versions of a file, or files of one name in two folders, live side by side
in one process, each with its own helpers.
"""

import builtins
import importlib
import inspect
import linecache
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import decode_source, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

from rmbench.core.code import Reach, code_sha256, doubts, finder, located
from rmbench.errors import ConfigError

_PREFIX = "_rmbench_file_"
"""How the names of the private packages begin."""


@dataclass(slots=True)
class _Package:
    """A user's file with the modules of its folder, as they were read."""

    name: str
    folder: Path
    file: Path
    raw: Mapping[str, bytes]
    """Absolute path -> bytes."""
    identity: str
    """SHA-256 of all the code, modules outside the folder included."""

    _elsewhere: set[str] = field(default_factory=set)
    """Top-level names that are known not to be of the folder."""

    def importer(self) -> Callable[..., Any]:
        """Return the `__import__` of these modules: their folder comes first, under the package's name."""
        tops = {Path(file).relative_to(self.folder).parts[0].partition(".")[0] for file in self.raw}

        def own_import(
            name: str, namespace: Any = None, local: Any = None, wanted: Any = (), level: int = 0
        ) -> Any:
            top = name.partition(".")[0]
            if level == 0 and top in tops:
                leaf = builtins.__import__(f"{self.name}.{name}", namespace, local, wanted, 0)
                return leaf if wanted else sys.modules[f"{self.name}.{top}"]
            if level == 0 and top not in self._elsewhere:
                if located(top, self.folder) is not None:
                    raise ImportError(self.stranger(top))
                self._elsewhere.add(top)
            return builtins.__import__(name, namespace, local, wanted, level)

        return own_import

    def stranger(self, module: str) -> str:
        """Return the error for a module of the folder that was not hashed."""
        return (
            f"{module} lies beside {self.file.name} and is no part of what was hashed: no import statement"
            f" names it, or it is newer; write `import {module}` in {self.file.name}, or run again"
        )


_PACKAGES: dict[str, _Package] = {}
_EXTENSIONS: dict[str, bytes] = {}
"""Path of a loaded extension module -> its bytes; the system loads a path once."""


class _HeldLoader(SourceFileLoader):
    """Runs the bytes that it was given."""

    def __init__(self, name: str, path: Path, raw: bytes, package: _Package) -> None:
        super().__init__(name, str(path))
        self._raw, self._package = raw, package

    def get_data(self, path: str) -> bytes:
        """Return the bytes of the module; those of another file are read."""
        return self._raw if path == self.path else super().get_data(path)

    def path_stats(self, path: str) -> Mapping[str, Any]:
        """Raise OSError, after which Python neither reads nor writes bytecode."""
        raise OSError(path)

    def exec_module(self, module: ModuleType) -> None:
        """Run the bytes; tracebacks and `inspect.getsource` show them, whatever the file becomes."""
        text = decode_source(self._raw)
        linecache.cache[self.path] = (len(self._raw), None, text.splitlines(keepends=True), self.path)
        module.__dict__["__builtins__"] = {**vars(builtins), "__import__": self._package.importer()}
        super().exec_module(module)


class _Finder(MetaPathFinder):
    """Finds the modules of private packages, and only among the files that were read."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module of a private package; None for any other name.

        Raises:
            ImportError: If the code of a private package asks for a module of its folder in another way than
                by an import statement.
        """
        top, _, rest = fullname.partition(".")
        if (package := _PACKAGES.get(top)) is None:
            if (asking := _asking()) is not None and located(top, asking.folder) is not None:
                raise ImportError(asking.stranger(top))
            return None
        if not rest:
            return None
        if "." in rest:
            tries = (finder(Path(place)).find_spec(fullname) for place in path or ())
            found = next(filter(None, tries), None)
        else:
            found = located(rest, package.folder)
        return None if found is None else _held(fullname, found, package)


def _asking() -> _Package | None:
    """Return the private package whose code asks for an import, if one does."""
    frame = inspect.currentframe()
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name != __name__ and name.partition(".")[0] != "importlib":
            return _PACKAGES.get(name.partition(".")[0])
        frame = frame.f_back
    return None


def _held(fullname: str, found: ModuleSpec, package: _Package) -> ModuleSpec:
    if found.loader is None or found.origin is None:  # a folder without __init__.py
        spec = ModuleSpec(fullname, None, is_package=True)
        spec.submodule_search_locations = list(found.submodule_search_locations or ())
        return spec
    path = Path(found.origin)
    raw = package.raw.get(str(path))
    if raw is None:
        raise ImportError(package.stranger(fullname.partition(".")[2]))
    if not isinstance(found.loader, SourceFileLoader):
        if _EXTENSIONS.setdefault(str(path), raw) != raw or path.read_bytes() != raw:
            raise ImportError(f"{path} has changed since this Python began; start Python again")
        return spec_from_file_location(
            fullname, path, submodule_search_locations=found.submodule_search_locations
        ) or ModuleSpec(fullname, None)
    loader = _HeldLoader(fullname, path, raw, package)
    spec_of = spec_from_file_location(
        fullname, path, loader=loader, submodule_search_locations=found.submodule_search_locations
    )
    assert spec_of is not None  # noqa: S101  (a loader is given)
    return spec_of


def import_file(path: Path, where: str) -> tuple[ModuleType, str]:
    """Return the module in a user's file, and the SHA-256 of the code that it consists of.

    That is the hash of the file where it imports only what is installed. `sys.path` stays as it is. A changed
    file, or one whose own modules changed, is another module. `where` begins messages, such as
    "--model my_rm.py:MyRM".

    Raises:
        ConfigError: If there is no such file, it cannot be imported, or a module that it imports may have run
            another text than its file has now.
    """
    if not path.is_file():
        raise ConfigError(f"{where}: there is no file {path}")
    path = path.absolute()
    folder = path.resolve().parent
    reach = Reach(folder, where)
    reach.add(path.name, path, own=True)
    identity = code_sha256(reach.own | reach.others)
    place = sha256(str(path.resolve()).encode("utf-8", "surrogateescape")).hexdigest()
    name = f"{_PREFIX}{place[:8]}_{code_sha256(reach.own)[:16]}"
    main = f"{name}.{path.stem if path.stem.isidentifier() else '_file'}"
    if main not in sys.modules:
        raw = {str(file): content for file, content in reach.own.values()}
        _PACKAGES[name] = _Package(name, folder, path, raw, identity)
        _run(main, _PACKAGES[name], where)
    for why in doubts((file for file, _ in reach.others.values()), where):
        raise ConfigError(f"{where}: {why}")
    _PACKAGES[name].identity = identity
    return sys.modules[main], identity


def _run(main: str, package: _Package, where: str) -> None:
    """Run a user's file as a module of this name."""
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    parent = ModuleType(package.name)
    parent.__path__ = [str(package.folder)]
    sys.modules[package.name] = parent
    loader = _HeldLoader(main, package.file, package.raw[str(package.file)], package)
    spec = spec_from_file_location(main, package.file, loader=loader)
    assert spec is not None  # noqa: S101  (a loader is given)
    module = module_from_spec(spec)
    before = set(sys.modules)
    sys.modules[main] = module  # dataclasses and pickling look their module up here
    try:
        loader.exec_module(module)
        _check_new(set(sys.modules) - before, package)
    except Exception as error:
        for name in [n for n in sys.modules if n.partition(".")[0] == package.name]:
            del sys.modules[name]
        raise ConfigError(f"{where}: importing it raised {type(error).__name__}: {error}") from error


def _check_new(names: set[str], package: _Package) -> None:
    """Raise ImportError if the file imported a module of its folder in a way that its text does not show."""
    for name in sorted(names):
        file = getattr(sys.modules.get(name), "__file__", None)
        if file and not is_file_module(name) and (spec := located(name.partition(".")[0], package.folder)):
            places = spec.submodule_search_locations or [str(spec.origin)]
            if any(Path(file).is_relative_to(place) for place in places):
                raise ImportError(package.stranger(name))


def is_file_module(module: str) -> bool:
    """Say whether the module of this name is a user's file, or belongs to one."""
    return module.startswith(_PREFIX)


def code_of_file_module(module: str) -> str:
    """Return the SHA-256 of the code of a module for which `is_file_module` is True."""
    return _PACKAGES[module.partition(".")[0]].identity


def place_of(module: str) -> tuple[str, str]:
    """Return the file and the name by which `module_at` finds a module in another process.

    The file is empty for a module that is no user's file.
    """
    return (str(_PACKAGES[module.partition(".")[0]].file) if is_file_module(module) else ""), module


def module_at(file: str, module: str) -> ModuleType:
    """Return the module that `place_of` described, with the same code.

    Raises:
        ImportError: If it cannot be imported.
        ConfigError: If the user's file cannot, or has changed.
    """
    if file:
        import_file(Path(file), file)
        if module.partition(".")[0] not in sys.modules:
            raise ConfigError(f"{file}: it changed, or a module that it imports; run the command again")
    return importlib.import_module(module)
