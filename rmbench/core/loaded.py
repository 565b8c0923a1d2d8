"""Identity of code that is loaded already: of a package, a module that a program imported, or a notebook.

Where it is certain that the loaded modules have the text of their files, it is the hash of these files. Else
it is a hash of what is in memory: the code objects that can be reached from the object, with plain values.
"""

import functools
import inspect
import re
import sys
import types
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from enum import Enum
from hashlib import sha256
from importlib.metadata import Distribution
from pathlib import Path, PurePath
from typing import Any

from rmbench.core.code import code_sha256, doubts, files_of_module, is_installed
from rmbench.core.user_file import code_of_file_module, is_file_module
from rmbench.errors import ConfigError

_PLAIN = (type(None), bool, int, float, complex, str, bytes, bytearray, range, type(...))
_NAMED = (
    types.MemberDescriptorType,
    types.GetSetDescriptorType,
    types.BuiltinFunctionType,
    types.MethodWrapperType,
)
_WRAPPERS: Mapping[type, tuple[str, ...]] = {
    property: ("fget", "fset", "fdel"),
    functools.cached_property: ("func",),
    functools.partial: ("func", "args", "keywords"),
    functools.partialmethod: ("func", "args", "keywords"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    types.MethodType: ("__func__", "__self__"),
    type(functools.lru_cache(len)): ("__wrapped__",),
}


def code_of(thing: Any, module: str, where: str, distribution: Distribution | None = None) -> dict[str, str]:
    """Return what joins the identity of a thing from a module: a hash of the code that runs.

    Args:
        thing: A class, a function, or an instance.
        module: Name of the loaded module that defines it.
        where: Begins messages.
        distribution: What it was installed with, if that is known.

    Returns:
        `source_sha256`, of the files; or `bytecode_sha256`, of what is in memory: for what was typed into a
        notebook or a script, and for files that may have changed since they were imported.

    Raises:
        ConfigError: If neither says which code is loaded.
    """
    if is_file_module(module):
        return {"source_sha256": code_of_file_module(module)}
    file = getattr(sys.modules.get(module), "__file__", None)
    in_file = module != "__main__" and file is not None
    why, tops = "", {module.partition(".")[0]}
    if in_file and Path(str(file)).is_file():
        files = files_of_module(module, distribution, where)
        tops |= {label.partition("/")[0].partition(".")[0] for label in files}
        why = next(doubts((path for path, _ in files.values()), where), "")
        if not why:
            return {"source_sha256": code_sha256(files)}
    walk = _Walk(where, tops)
    if not isinstance(thing, type):
        walk.take("its class", type(thing))
    walk.take(getattr(thing, "__name__", type(thing).__name__), thing)
    if in_file and walk.opaque:
        raise ConfigError(
            f"{where}: {why or f'{file} is gone; start Python again'} ({walk.opaque[0]!r} is a value of its,"
            " and which text made that is not known)"
        )
    return {"bytecode_sha256": walk.total.hexdigest()}


class _Walk:
    """A hash over everything that can be reached from one object.

    Args:
        where: Begins messages.
        tops: Top-level names that the object's code comes from; other installed packages are only named.
    """

    def __init__(self, where: str, tops: set[str]) -> None:
        self.total, self._where, self._tops = sha256(), where, tops
        self.opaque: list[str] = []
        """Names of values that cannot be told from others of their type."""
        self._seen: dict[int, tuple[int, Any]] = {}

    def _note(self, *words: object) -> None:
        self.total.update(repr(words).encode("utf-8", "backslashreplace"))

    def _is_own(self, module: str | None) -> bool:
        """Say whether a module counts: not Python's, not rmbench's, and installed only if the object is."""
        top = (module or "").partition(".")[0]
        if top in self._tops or module == "__main__":
            return True
        if top == "rmbench" or top in sys.stdlib_module_names:
            return False
        file = getattr(sys.modules.get(module or ""), "__file__", None)
        return file is None or not is_installed(Path(file))

    def take(self, name: str, value: Any) -> None:
        """Take a value into the hash; `name` is what messages call it."""
        if isinstance(value, _PLAIN):
            self._note(type(value).__name__, value)
        elif isinstance(value, set | frozenset):
            self._note("set", sorted(map(repr, value)))
        elif isinstance(value, tuple):
            self._note("tuple", len(value))
            for entry in value:
                self.take(name, entry)
        elif id(value) in self._seen:
            self._note("again", self._seen[id(value)][0])
        else:
            self._seen[id(value)] = len(self._seen), value  # kept, so that no other gets its id
            self._take_new(name, value)

    def _take_new(self, name: str, value: Any) -> None:
        if isinstance(value, list):
            self._note("list", len(value))
            for entry in value:
                self.take(name, entry)
        elif isinstance(value, dict | types.MappingProxyType):
            self._note("mapping", len(value))
            for key, entry in value.items():
                self.take(name, key)
                self.take(f"{name}[{key!r}]" if isinstance(key, str) else name, entry)
        elif isinstance(value, types.CodeType):
            self._code(value)
        elif isinstance(value, type):
            self._class(value)
        elif isinstance(value, types.ModuleType):
            self._module(value)
        elif inspect.isfunction(value):
            self._function(name, value)
        elif type(value) in _WRAPPERS:
            self._note(type(value).__name__)
            for inner in _WRAPPERS[type(value)]:
                self.take(name, getattr(value, inner))
        elif not self._described(name, value):
            self._note("opaque", type(value).__qualname__)
            self.opaque.append(name)

    def _code(self, code: types.CodeType) -> None:
        self._note(code.co_code, code.co_names, code.co_freevars, getattr(code, "co_exceptiontable", b""))
        for constant in code.co_consts:
            self.take(code.co_name, constant)

    def _function(self, name: str, value: types.FunctionType) -> None:
        self._note("function", value.__module__, value.__qualname__)
        if not self._is_own(value.__globals__.get("__name__")):
            return
        self.take(name, value.__code__)
        self.take(name, value.__defaults__)
        self.take(name, value.__kwdefaults__)
        for cell in value.__closure__ or ():
            with suppress(ValueError):  # an empty cell
                self.take(name, cell.cell_contents)
        for used in sorted(_names_in(value.__code__) & value.__globals__.keys()):
            self._note(used)
            self.take(used, value.__globals__[used])

    def _class(self, kind: type) -> None:
        for base in kind.__mro__:
            self._note("class", base.__module__, base.__qualname__)
            if not self._is_own(base.__module__):
                continue
            for name, value in sorted(vars(base).items()):
                function = inspect.isroutine(value) or isinstance(value, property | functools.cached_property)
                if function or not (name.startswith("__") or name == "_abc_impl"):
                    self._note(name)
                    self.take(f"{kind.__qualname__}.{name}", value)

    def _module(self, module: types.ModuleType) -> None:
        self._note("module", module.__name__)
        if is_file_module(module.__name__) and hasattr(module, "__file__"):
            self._note(code_of_file_module(module.__name__))
            return
        file = getattr(module, "__file__", None)
        if file is None or not self._is_own(module.__name__):
            return
        files = files_of_module(module.__name__, None, self._where) if Path(file).is_file() else {}
        if files and not any(doubts((path for path, _ in files.values()), self._where)):
            self._note(code_sha256(files))
            return
        for name, value in sorted(vars(module).items()):
            if not name.startswith("__"):
                self._note(name)
                self.take(f"{module.__name__}.{name}", value)

    def _described(self, name: str, value: Any) -> bool:
        """Take a value of a type that says all of itself; return False for any other."""
        kind = type(value)
        self._note(kind.__module__, kind.__qualname__)
        if isinstance(value, Enum):
            self._note(value.name)
        elif isinstance(value, re.Pattern):
            self._note(value.pattern, value.flags)
        elif isinstance(value, PurePath):
            self._note(str(value))
        elif isinstance(value, _NAMED) or kind.__module__ in ("typing", "types"):
            self._note(getattr(value, "__qualname__", repr(value)))
        elif kind.__module__ == "numpy" and hasattr(value, "tobytes") and not value.dtype.hasobject:
            self._note(str(value.dtype), value.shape, sha256(value.tobytes()).hexdigest())
        elif is_dataclass(value):
            self.take(name, kind)
            for field in fields(value):
                self.take(f"{name}.{field.name}", getattr(value, field.name))
        else:
            return False
        return True


def _names_in(code: types.CodeType) -> set[str]:
    """Return the names that code uses, that of the functions inside it too."""
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_in(constant)
    return names
