"""Installed packages: versions, extras with what they lack, and plug-ins."""

import json
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution, distributions, requires
from pathlib import Path

from packaging.requirements import Requirement

import rmbench
from rmbench.core.versions import installed_version

EXTRAS = {
    "hf": "Hugging Face reward models",
    "plot": "reports and figures",
    "pandas": "tables as data frames",
    "train": "training, and PEFT adapters",
    "judge": "LLM judges, and models behind a server",
    "verifiers": "gold by verifiers: math, json-schema",
    "vllm": "vLLM on this machine; use an environment of its own",
    "ray": "scoring over the machines of a Ray cluster",
}
"""Extra -> what it is for. Extras for work on rmbench itself are left out."""
_FURTHER = ("tokenizers", "datasets", "trl")
"""Packages that no extra names, and whose version explains bugs."""


@dataclass(frozen=True, slots=True)
class Extra:
    """An extra of rmbench, and what it lacks here."""

    name: str
    what: str
    missing: tuple[str, ...]
    """Packages that are not installed."""
    old: tuple[str, ...]
    """Packages with a version that is too old or too new: `torch 2.1.0 (needs >=2.3)`."""
    install: str
    """Command that completes it; empty if it is complete."""


def program() -> dict[str, str]:
    """Return version and place of rmbench and of Python, and the system."""
    return {
        "rmbench": rmbench.__version__,
        "place": str(Path(rmbench.__file__).parent),
        "installed": _installed_how(),
        "python": f"{platform.python_version()} ({platform.python_implementation()})",
        "program": sys.executable,
        "system": platform.platform(),
    }


def _installed_how() -> str:
    """Say how the rmbench that runs was installed."""
    try:
        found = distribution("rmbench")
    except PackageNotFoundError:
        return "not installed: read from its folder"
    told = json.loads(found.read_text("direct_url.json") or "{}")
    if told.get("dir_info", {}).get("editable"):
        return "editable"
    commit = told.get("vcs_info", {}).get("commit_id", "")
    return f"from a repository, commit {commit}" if commit else "as a package"


def versions() -> dict[str, str]:
    """Return package -> version, of the installed ones among all that rmbench and its extras use."""
    names = {asked.name for extra in ("", *EXTRAS) for asked in _asked(extra)} | {*_FURTHER}
    found = {name: installed_version(name) for name in sorted(names, key=str.lower)}
    return {name: version for name, version in found.items() if version is not None}


def extras() -> list[Extra]:
    """Return the extras of rmbench with what is missing."""
    return [_extra(name, what) for name, what in EXTRAS.items()]


def core() -> Extra:
    """Return what rmbench needs without any extra, with what is missing."""
    return _extra("", "rmbench itself")


def _extra(name: str, what: str) -> Extra:
    missing, old = [], []
    for asked in _asked(name):
        version = installed_version(asked.name)
        if version is None:
            missing.append(asked.name)
        elif not asked.specifier.contains(version, prereleases=True):
            old.append(f"{asked.name} {version} (needs {asked.specifier})")
    told = f"rmbench[{name}]" if name else "rmbench"
    install = f"pip install {'--upgrade ' if old else ''}'{told}'" if missing or old else ""
    return Extra(name, what, tuple(missing), tuple(old), install)


def _asked(extra: str) -> Iterator[Requirement]:
    """Yield what an extra asks for, those that it takes from other extras too; empty for the core."""
    try:
        lines = requires("rmbench") or []
    except PackageNotFoundError:
        return
    for asked in map(Requirement, lines):
        if bool(extra) != ("extra ==" in str(asked.marker or "")):
            continue
        if asked.marker is not None and not asked.marker.evaluate({"extra": extra}):
            continue
        if asked.name == "rmbench":
            for inner in sorted(asked.extras):
                yield from _asked(inner)
        else:
            yield asked


def plugins() -> list[str]:
    """Return the entry points that other packages give rmbench: `rmbench.models polite: package 1.0`."""
    found = {
        f"{entry.group} {entry.name}: {package.name} {package.version}"
        for package in distributions()
        for entry in package.entry_points
        if entry.group.startswith("rmbench.") and package.name != "rmbench"
    }
    return sorted(found)
