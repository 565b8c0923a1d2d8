"""A model that somebody made in Python: its name, and an identity that changes with its code."""

import inspect
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError
from rmbench.files import sha256_file
from rmbench.models.resolve import LoadedModel, checked_name, problem_of

_PLAIN = (str, bytes, int, float, bool, tuple, list, dict, set, frozenset)


def given_model(model: Any, name: str | None = None) -> LoadedModel:
    """Return a model object as `load_model` returns one that it made.

    The model's fingerprint is joined by a hash of the source of its class, as that of `FILE.py:Class` is: a
    class that is changed in a notebook and run again is another model. Of a class in a module it is the hash
    of the module's file; of one in a notebook or a script, of its methods and its plain attributes. What
    these use beyond the class is for `fingerprint` to say.

    Raises:
        ConfigError: If it is no reward model, or its name cannot be shown.
    """
    kind = model if isinstance(model, type) else type(model)
    spec = f"{kind.__module__}:{kind.__qualname__}"
    problem = problem_of(model)
    if isinstance(model, type):
        raise ConfigError(f"model {spec}: it is a class; expected an instance: {kind.__name__}(...)")
    if problem is not None:
        raise ConfigError(f"model {spec}: {kind.__name__} is no reward model: {problem}")
    name = name or str(getattr(model, "display_name", kind.__name__))
    return LoadedModel(checked_name(name, f"model {spec}"), model, spec, _source(kind))


def _source(kind: type) -> dict[str, str]:
    """Return what joins the identity of a class: nothing for the package's own."""
    if kind.__module__.partition(".")[0] == "rmbench":
        return {}
    file = getattr(sys.modules.get(kind.__module__), "__file__", None)
    if kind.__module__ != "__main__" and file and Path(file).is_file():
        return {"source_sha256": sha256_file(Path(file))}
    functions, values = _members(kind)
    total = sha256(repr(values).encode("utf-8", "backslashreplace"))
    try:
        for function in functions:
            total.update(inspect.getsource(function).encode("utf-8", "backslashreplace"))
    except (OSError, TypeError):
        # Typed into an interpreter, or made by `exec`: what the code does can be seen from the code alone.
        for function in functions:
            code = function.__code__
            defaults = [*(function.__defaults__ or ()), *sorted((function.__kwdefaults__ or {}).items())]
            plain = [_stable(v) for v in defaults if isinstance(v, (*_PLAIN, tuple))]
            total.update(code.co_code + repr((code.co_names, _constants(code), plain)).encode())
        return {"bytecode_sha256": total.hexdigest()}
    return {"source_sha256": total.hexdigest()}


def _members(kind: type) -> tuple[list[Any], list[tuple[str, str]]]:
    """Return the functions of a class and its plain attributes, those of a user's own bases too."""
    functions, values = [], []
    for base in filter(_is_own, kind.__mro__):
        for name, value in sorted(vars(base).items()):
            function = getattr(value, "fget", None) or getattr(value, "func", None)
            function = function or getattr(value, "__func__", value)
            if inspect.isfunction(function):
                functions.append(function)
            elif isinstance(value, _PLAIN) and not name.startswith("__"):
                values.append((name, _stable(value)))
    return functions, values


def _is_own(base: type) -> bool:
    """Say whether a class is somebody's own, and not of an installed package."""
    if base.__module__ == "__main__":
        return True
    top = base.__module__.partition(".")[0]
    file = getattr(sys.modules.get(base.__module__), "__file__", None) or ""
    return top != "rmbench" and top not in sys.stdlib_module_names and "site-packages" not in file


def _stable(value: Any) -> str:
    """Return a plain value as text; the order of a set changes from one Python process to the next."""
    return repr(sorted(map(repr, value))) if isinstance(value, set | frozenset) else repr(value)


def _constants(code: Any) -> list[Any]:
    """Return the constants of code, those of the code inside it too, without addresses in memory."""
    return [
        [*_constants(value), value.co_code, value.co_names] if inspect.iscode(value) else _stable(value)
        for value in code.co_consts
    ]
