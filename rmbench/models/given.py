"""A model that somebody made in Python: its name, and an identity that changes with its code."""

import inspect
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

from rmbench.errors import ConfigError
from rmbench.files import sha256_file
from rmbench.models.resolve import LoadedModel, checked_name, problem_of


def given_model(model: Any, name: str | None = None) -> LoadedModel:
    """Return a model object as `load_model` returns one that it made.

    The model's fingerprint is joined by a hash of the source of its class, as that of `FILE.py:Class` is: a
    class that is changed in a notebook and run again is another model. Of a class in a module it is the hash
    of the module's file; of one in a notebook or a script, of its methods.

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
    try:
        return {"source_sha256": _methods_sha256(kind)}
    except (OSError, TypeError):
        # Typed into an interpreter, or made by `exec`: what the code does can be seen from the code alone.
        return {"source": f"{kind.__module__}:{kind.__qualname__}", "bytecode_sha256": _bytecode_sha256(kind)}


def _functions(kind: type) -> list[Any]:
    """Return the functions of a class and of those it inherits from outside of modules' files."""
    found = []
    for base in kind.__mro__:
        if base.__module__ == kind.__module__:
            found += [value for _, value in sorted(vars(base).items()) if inspect.isfunction(value)]
    return found


def _methods_sha256(kind: type) -> str:
    return sha256("\0".join(map(inspect.getsource, _functions(kind))).encode()).hexdigest()


def _bytecode_sha256(kind: type) -> str:
    total = sha256()
    for function in _functions(kind):
        code = function.__code__
        total.update(code.co_code + repr((code.co_names, _constants(code))).encode())
    return total.hexdigest()


def _constants(code: Any) -> list[Any]:
    """Return the constants of code, those of the code inside it too, without addresses in memory."""
    found: list[Any] = []
    for value in code.co_consts:
        if inspect.iscode(value):
            found.append([*_constants(value), value.co_code, value.co_names])
        else:  # a set's order changes from one Python process to the next
            found.append(sorted(map(repr, value)) if isinstance(value, frozenset) else value)
    return found
