"""Versions of the libraries that rewards are computed with: read, and told where they differ."""

import re
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version

LIBRARIES = ("torch", "transformers", "tokenizers")
"""Libraries whose version can change a reward's last digits, or all of them."""

_OWN = "rmbench."
_OWN_WITH_LIBRARIES = ("rmbench.models.hf.", "rmbench.models.vllm.", "rmbench.study.", "rmbench.train.")


def installed_version(name: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    return _version_of_loaded(name) if name in sys.modules else _version(name)


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


@cache
def _version_of_loaded(name: str) -> str | None:
    """Return the version of a package that this process keeps, whatever is installed later."""
    return _version(name)


def loaded_versions(names: Iterable[str] = LIBRARIES) -> dict[str, str]:
    """Return the versions of those packages that this process has loaded: others played no part."""
    found = {name: installed_version(name) for name in names if name in sys.modules}
    return {name: text for name, text in found.items() if text is not None}


def uses_libraries(model: object) -> bool:
    """Say whether a model may compute with `LIBRARIES`: False for those of rmbench that never do."""
    module = f"{type(model).__module__}."
    return not module.startswith(_OWN) or module.startswith(_OWN_WITH_LIBRARIES)


def changed_since(versions: Mapping[str, str]) -> dict[str, str | None]:
    """Return the libraries of `versions` whose installed version is another one, with it; None for none."""
    now = {name: installed_version(name) for name in versions}
    return {name: text for name, text in now.items() if text != versions[name]}


def reuse_note(what: str, versions: Mapping[str, str]) -> str:
    """Return a line on numbers of another major or minor version than the installed one; empty for the same.

    Args:
        what: What is reused, as `3 stored rewards`.
        versions: What they were computed with: library -> version.
    """
    now = {n: v for n, v in changed_since(versions).items() if _minor(v or "") != _minor(versions[n])}
    if not now:
        return ""
    then = ", ".join(f"{name} {_minor(versions[name])}" for name in now)
    under = ", ".join(
        f"{name if len(now) > 1 else ''} {_minor(v) if v else 'no installed version'}".strip()
        for name, v in now.items()
    )
    return f"{what} of {then} are reused under {under}; --fresh computes them again"


def _minor(text: str) -> str:
    """Return the major and minor version of `text`; all of it where it has none."""
    found = re.match(r"\d+\.\d+", text)
    return found.group() if found else text
