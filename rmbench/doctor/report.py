"""The whole report: what was found, in one object, without secrets and without the user's name."""

import getpass
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rmbench.doctor.folders import Folder, look
from rmbench.doctor.machine import Machine, machine, problems_of
from rmbench.doctor.packages import Extra, core, extras, plugins, program, versions
from rmbench.doctor.settings import offline, problems_of_settings, settings


@dataclass(frozen=True, slots=True)
class Report:
    """What an installation of rmbench has, and what is wrong with it."""

    program: dict[str, str]
    """Version and place of rmbench and Python, and the system."""
    packages: dict[str, str]
    """Package -> version."""
    plugins: list[str]
    machine: Machine
    extras: list[Extra]
    folders: list[Folder]
    offline: dict[str, bool]
    settings: dict[str, str]
    """Environment variable -> value, or `(set)`."""
    problems: list[str]
    """What is wrong, each with what to do. A missing extra is none."""

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values; the user's home is `~`, and his name elsewhere `USER`."""
        shown = _without_user(asdict(self))
        assert isinstance(shown, dict)  # noqa: S101  (a mapping stays one)
        return shown


def examine(results: Path, store: Path) -> Report:
    """Look at this installation. Nothing is written, and the network is not used.

    Args:
        results: Folder of run records.
        store: Folder of the score stores.
    """
    from huggingface_hub import constants

    folders = [
        look("results", results, "--results"),
        look("score stores", store, "--store"),
        look("hub cache", Path(constants.HF_HUB_CACHE), "HF_HUB_CACHE"),
    ]
    found, itself, others = machine(), core(), extras()
    lacks = [*(f"{name} is not installed" for name in itself.missing), *itself.old]
    problems = [
        *(f"{lack}; {itself.install}" for lack in lacks),
        *(f"{old}; {extra.install}" for extra in others for old in extra.old),
        *problems_of(found),
        *(folder.problem for folder in folders if folder.problem),
        *problems_of_settings(),
    ]
    return Report(
        program(), versions(), plugins(), found, others, folders, offline(), settings(),
        list(dict.fromkeys(problems)),
    )  # fmt: skip


def _without_user(value: Any) -> Any:
    """Return a value with the user's home and name hidden in every text."""
    if isinstance(value, dict):
        return {key: _without_user(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_user(inner) for inner in value]
    return _hidden(value) if isinstance(value, str) else value


def _hidden(text: str) -> str:
    home = Path.home()
    if home != Path(home.anchor):
        text = re.sub(rf"{re.escape(str(home))}(?![\w.-])", "~", text)
    for name in {home.name, _user()} - {""}:
        text = re.sub(rf"(?<=[/\\]){re.escape(name)}(?=[/\\]|$)", "USER", text)
    return text


def _user() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):  # a user without a name, as in containers
        return ""
