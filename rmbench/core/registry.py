"""Registries: one name for one object, from this package, a user's file or another package."""

import importlib
import pkgutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import Distribution, EntryPoints, entry_points
from pathlib import Path
from typing import Any, Generic, TypeVar, cast

from rmbench.core.files import digest
from rmbench.core.loaded import code_of
from rmbench.core.user_file import import_file, is_file_module
from rmbench.errors import ConfigError, UnknownNameError

T = TypeVar("T")


@dataclass(frozen=True, eq=False, kw_only=True)
class Declared:
    """A function with what it declares of itself. Subclasses add the declarations and how it is called.

    It passes for the function: same name, module, docstring and signature.
    """

    run: Any
    """The function; or `module:attribute`, imported at first use (keeps heavy libraries out of start-up)."""

    def __post_init__(self) -> None:
        """Take over the function's name, module and docstring."""
        if isinstance(self.run, str):
            module, _, attribute = self.run.partition(":")
            object.__setattr__(self, "__module__", module)
            object.__setattr__(self, "__qualname__", attribute)
            return
        for name in ("__name__", "__qualname__", "__module__", "__doc__"):
            object.__setattr__(self, name, getattr(self.run, name, None))
        object.__setattr__(self, "__wrapped__", self.run)


class Registry(Generic[T]):
    """Names to objects: by decorator, by lazy `module:attribute` target, or by other packages' entry points.

    Args:
        kind: What is registered, for messages ("reward model").
        group: Entry-point group that other packages may add names to; None: other packages cannot.
        homes: Packages of rmbench whose modules register names when they are imported. A name's own module
            is tried first (`rm-bench` is in `rm_bench.py`), so that one lookup does not import them all.
        adopt: Makes a registered object of what an entry point or a user's file names, such as a plain
            function; it raises ConfigError where it cannot. None: everything is taken as it is.
    """

    def __init__(
        self,
        kind: str,
        group: str | None = None,
        homes: Sequence[str] = (),
        adopt: Callable[[str, Any], T] | None = None,
    ) -> None:
        self.kind = kind
        self._group = group
        self._homes = tuple(homes)
        self._adopt = adopt or (lambda _, thing: cast(T, thing))
        self._entries: dict[str, T | str] = {}
        self._sources: dict[str, str] = {}
        self._aliases: dict[str, str] = {}
        self._of_files: dict[str, dict[str, T]] = {}
        self._found: dict[str, tuple[T, str]] = {}
        self._distributions: dict[str, Distribution] = {}
        self._plugins_read = group is None

    def register(self, name: str, *aliases: str) -> Callable[[T], T]:
        """Return a decorator that registers an object under `name`; `aliases` are other names for `name`."""

        def decorate(thing: T) -> T:
            self._put(name, thing, _where(thing))
            self._aliases |= dict.fromkeys(aliases, name)
            return thing

        return decorate

    def register_lazily(self, name: str, target: str) -> None:
        """Register `module:attribute`, imported at first use (keeps heavy libraries out of start-up)."""
        self._put(name, target, target)

    def unregister(self, name: str) -> None:
        """Forget `name`, so that another object can be registered under it.

        Raises:
            UnknownNameError: If no object has the name.
        """
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        del self._entries[name], self._sources[name]

    def get(self, name: str, where: str = "") -> T:
        """Return the object called `name`, or a file's `FILE.py:NAME` that `find` has found before.

        `where` begins the message about an unknown name.

        Raises:
            UnknownNameError: If no object has the name.
            ConfigError: If its module fails to import; the message carries *its* exception.
        """
        if name in self._found:
            return self._found[name][0]
        if name not in self:
            raise UnknownNameError(self.kind, name, self._entries, where)
        entry = self._entries[name]
        if isinstance(entry, str):
            entry = self._adopt(name, imported(entry, f"{self.kind} {name!r}"))
            self._entries[name] = entry
        return entry

    def find(self, name: str, where: str, folder: Path | None = None) -> tuple[T, str | None]:
        """Return the object called `name`, or what `FILE.py:NAME` names, and a SHA-256 of its code.

        The hash is that of the file with its own modules (see `import_file`); of a name it is the hash of
        `identity`, and None for this package's own.

        Args:
            name: In a file, NAME is an object of its own, or what it is registered as.
            where: Begins messages.
            folder: Where a relative FILE is looked for first; then in the working directory.

        Raises:
            UnknownNameError: If no object has the name; with the nearest name.
            ConfigError: If the file is missing or cannot be imported, or which code is loaded is not known.
        """
        file, separator, own = name.rpartition(".py:")
        if not separator:
            return self.get(name, where), self._code_hash(name)
        path = Path(file + ".py").expanduser()
        if folder is not None and (folder / path).is_file():
            path = folder / path
        module, source = import_file(path, where)
        package = module.__name__.partition(".")[0] + "."
        here: dict[str, Any] = {}
        for each in (*(n for n in self._of_files if n.startswith(package)), module.__name__):
            here |= self._of_files.get(each, {})
        here |= {n: x for n, x in vars(module).items() if getattr(x, "__module__", "") == module.__name__}
        if own not in here:
            raise UnknownNameError(self.kind, own, here, file + ".py")
        found = self._adopt(own, here[own])
        self._found[file_name(name)] = found, source
        return found, source

    def file_hash(self, name: str) -> str | None:
        """Return the second value of `find`, without importing a user's file; None where it is not known."""
        if name in self._found:
            return self._found[name][1]
        return self._code_hash(name) if name in self else None

    def identity(self, name: str) -> dict[str, str]:
        """Return what tells the code behind a registered name from a changed one; {} for this package's own.

        That is `source` (`module:attribute`), `distribution` (name and version, of another package's entry
        point), and `source_sha256` or `bytecode_sha256` of the code that is loaded.

        Raises:
            UnknownNameError: If no object has the name.
            ConfigError: If it cannot be imported, or which code is loaded is not known.
        """
        found, source = self.get(name), self.source(name)
        if source.startswith("rmbench."):
            return {}
        distribution = self._distributions.get(name)
        told = {} if distribution is None else {"distribution": f"{distribution.name} {distribution.version}"}
        where = f"{self.kind} {name!r}"
        if isinstance(run := getattr(found, "run", None), str):
            imported(run, where)  # what is hashed is what is loaded
        return {"source": source, **told, **code_of(found, source.partition(":")[0], where, distribution)}

    def _code_hash(self, name: str) -> str | None:
        return digest(identity) if (identity := self.identity(name)) else None

    def names(self) -> list[str]:
        """Return every known name, sorted; those of users' files are not among them."""
        self._read_plugins()
        self._search_homes("")
        return sorted(self._entries)

    def aliases(self) -> list[str]:
        """Return the other names that stand for registered ones, sorted."""
        return sorted(self._aliases)

    def canonical(self, name: str) -> str:
        """Return the name that `name` is an alias of; other names, known or not, as they are."""
        return self._aliases.get(name, name) if name not in self else name

    def source(self, name: str) -> str:
        """Return where `name` comes from, as `module:attribute`."""
        if name not in self:
            raise UnknownNameError(self.kind, name, self._entries)
        return self._sources[name]

    def __contains__(self, name: str) -> bool:
        if name in self._found:
            return True
        self._read_plugins()
        if name not in self._entries:
            self._search_homes(name)
        if name not in self._entries:
            self._search_homes("")
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self.names())

    def _put(self, name: str, entry: T | str, source: str) -> None:
        module = source.partition(":")[0]
        if is_file_module(module):
            # Names of a file are its own: two files, or two versions of one, do not collide.
            self._of_files.setdefault(module, {})[name] = cast(T, entry)
            return
        taken = self._sources.get(name)
        # The same object again is a module imported under two names or reloaded, not a collision.
        if taken is not None and taken != source:
            raise ConfigError(
                f"{self.kind} {name!r} is registered twice: by {taken} and by {source}; rename one of them"
            )
        self._entries[name] = entry
        self._sources[name] = source

    def _search_homes(self, name: str) -> None:
        """Import the modules of the homes that `name` begins with; all of them where it is empty."""
        stem = name.replace("-", "_")
        for home in self._homes:
            package = importlib.import_module(home)
            whole = stem.startswith(home.rpartition(".")[2]) or not name
            for found in pkgutil.iter_modules(package.__path__):
                if whole or stem.startswith(found.name):
                    importlib.import_module(f"{home}.{found.name}")

    def _read_plugins(self) -> None:
        if self._plugins_read or self._group is None:
            return
        for point in sorted(_entry_points().select(group=self._group), key=lambda p: (p.name, p.value)):
            self._put(point.name, point.value, point.value)
            if point.dist is not None and self._sources[point.name] == point.value:
                self._distributions[point.name] = point.dist
        self._plugins_read = True  # only now: a collision is an error at every use, not at the first alone


@cache
def _entry_points() -> EntryPoints:
    """Return those of all installed packages, whose files are read once and not for each registry."""
    return entry_points()  # type: ignore[return-value]  # of before 3.12: the same interface


def imported(target: str, what: str) -> Any:
    """Return the object that `module:attribute` names.

    Raises:
        ConfigError: If it cannot be imported; the message begins with `what` and carries the exception.
    """
    module, _, attribute = target.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise ConfigError(f"{what} ({target}) cannot be imported: {type(error).__name__}: {error}") from error


def file_name(name: str) -> str:
    """Return `FILE.py:NAME` without the folder of the file; other names as they are."""
    file, separator, own = name.rpartition(".py:")
    return f"{Path(file).name}.py:{own}" if separator else name


def _where(thing: Any) -> str:
    return f"{getattr(thing, '__module__', '?')}:{getattr(thing, '__qualname__', repr(thing))}"
