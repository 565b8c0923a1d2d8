"""The `data` part of a task file: where its items come from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from rmbench.errors import ConfigError, UnknownNameError
from rmbench.params import PARAMS, filled
from rmbench.yaml_reader import mapping_of, texts_of

_KEYS = ("reader", "path", "hub", "github", "files", "hub_files", "sha256", "train", "options")
HUB_DATA = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*@[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Where a task's items come from when `--data` does not say."""

    reader: str
    """Name of a reader."""
    path: str | None = None
    """A file shipped in the package, relative to its data folder."""
    hub: tuple[str, ...] = ()
    """`org/name@<40-hex commit>` of data sets on the Hugging Face Hub, read one after the other."""
    github: str | None = None
    """`owner/name@<40-hex commit>` of a repository on GitHub that has the files; it is not fetched."""
    files: str | None = None
    """Glob of the files inside the hub data sets, or inside a folder given as `--data`."""
    hub_files: str | None = None
    """Glob of those to fetch, where a hub data set has files that `files` means and the task does not."""
    sha256: str | None = None
    """Of the packaged file."""
    train: str | None = None
    """The training split: a glob in the hub data set where there is one, else a packaged file."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """The reader's parameters."""

    @property
    def where(self) -> str:
        """Where the data comes from, for people."""
        return "embedded" if self.path else "hub or --data" if self.hub else "--data"

    @property
    def to_get(self) -> str:
        """The commands that fetch the repository at its commit; empty where none is named."""
        if self.github is None:
            return ""
        name, _, commit = self.github.partition("@")
        folder = name.partition("/")[2]
        return f"git clone https://github.com/{name} && git -C {folder} checkout {commit}"


def data_spec(raw: Any, where: str) -> DataSpec:
    """Return what the key `data` of a task file says.

    Raises:
        UnknownNameError: If it has a key or a parameter that is not known.
        ConfigError: If a value is of the wrong form.
    """
    given = mapping_of(raw, where)
    for key in given:
        if key not in _KEYS:
            raise UnknownNameError("key", key, _KEYS, where)
    if "reader" not in given:
        raise ConfigError(f"{where}: key 'reader' is missing")
    hub = [given["hub"]] if isinstance(given.get("hub"), str) else given.get("hub") or []
    hub = tuple(_pinned(name, f"{where}, key 'hub'") for name in texts_of(hub, f"{where}, key 'hub'"))
    github, sha256 = given.get("github"), given.get("sha256")
    if sha256 is not None and not (isinstance(sha256, str) and _SHA256.fullmatch(sha256)):
        raise ConfigError(f"{where}, key 'sha256': {sha256!r}; expected 64 hex digits")
    reader = str(given["reader"])
    options = mapping_of(given.get("options") or {}, f"{where}, key 'options'")
    return DataSpec(
        reader=reader,
        path=given.get("path"),
        hub=hub,
        github=_pinned(github, f"{where}, key 'github'") if github is not None else None,
        files=given.get("files"),
        hub_files=given.get("hub_files"),
        sha256=sha256,
        train=given.get("train"),
        options=filled(options, PARAMS.get(f"reader:{reader}", {}), f"{where}, key 'options'"),
    )


def _pinned(name: Any, where: str) -> str:
    if not (isinstance(name, str) and HUB_DATA.fullmatch(name)):
        raise ConfigError(f"{where}: {name!r}; expected org/name@<40-hex commit>")
    return name
