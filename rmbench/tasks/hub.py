"""Data sets on the Hugging Face Hub: `org/name[/config][:split][@revision]`, as files of one commit.

Which files are a split's is what the data set's card says (`configs` in its README.md); without it, what the
names of files and folders say, as in a folder. No code of a repository is run.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from glob import escape
from pathlib import Path, PurePosixPath
from typing import Any

from rmbench.core.yaml import parse_yaml
from rmbench.errors import ConfigError, first_line
from rmbench.tasks.containers import SUFFIXES
from rmbench.tasks.folders import is_data_name, split_of

_WORD = r"[A-Za-z0-9][\w.-]*"
_FORM = re.compile(
    rf"(?P<sure>hf:)?(?P<name>{_WORD}/{_WORD})(?:/(?P<config>[\w.+-]+))?(?::(?P<split>[\w.-]+))?"
    r"(?:@(?P<revision>[\w./-]+))?"
)
_COMMIT = re.compile(r"[0-9a-f]{40}")
_CARD = re.compile(r"\A---\r?\n(.*?)\r?\n---", re.DOTALL)
_TIMEOUT_S = 10.0
FORM = "org/name[/config][:split][@commit]"


@dataclass(frozen=True, slots=True)
class HubData:
    """What `org/name[/config][:split][@revision]` names."""

    name: str
    config: str | None = None
    split: str | None = None
    revision: str | None = None

    def told(self) -> str:
        """Return the same text again."""
        config, split = f"/{self.config}" if self.config else "", f":{self.split}" if self.split else ""
        return f"{self.name}{config}{split}" + (f"@{self.revision}" if self.revision else "")


def hub_data(text: str) -> HubData | None:
    """Return the data set that a text names; None for one that means a path.

    A text with the form of `org/name` alone is a path where the folder `org` exists: most likely a mistyped
    one, and the Hub is not asked about it.
    """
    form = _FORM.fullmatch(text)
    if form is None or Path(text).exists():
        return None
    said = bool(form["sure"] or form["split"] or form["revision"])
    if not said and (Path(form["name"]).parent.is_dir() or text.endswith(SUFFIXES)):
        return None
    return HubData(form["name"], form["config"], form["split"], form["revision"])


def is_name(text: str) -> bool:
    """Say whether a text has the form of a data set's name, whatever lies on this machine."""
    return _FORM.fullmatch(text) is not None and not text.endswith(SUFFIXES)


@dataclass(frozen=True, slots=True)
class Commit:
    """A data set at one commit."""

    data: HubData
    """With the commit as its revision."""
    names: tuple[str, ...]
    """All its files, sorted."""
    remark: str
    """Which commit was found, where none was asked for; else empty."""


def resolve(data: HubData, *, offline: bool) -> Commit:
    """Return the commit that a data set is at, and its files; nothing is downloaded.

    Raises:
        ConfigError: If the Hub must not be asked, cannot be reached, or has no such data set.
    """
    from huggingface_hub import HfApi, constants

    for is_set, name in ((offline, "--offline"), (constants.HF_HUB_OFFLINE, "HF_HUB_OFFLINE")):
        if is_set:
            raise ConfigError(
                f"--data {data.told()} is on the Hub and {name} is set; give --data a file or folder, such as"
                " the snapshot in the Hub's cache"
            )
    try:
        info = HfApi().dataset_info(data.name, revision=data.revision, timeout=_TIMEOUT_S)
    except Exception as error:
        raise _not_fetched(data, error) from None
    pinned = replace(data, revision=str(info.sha))
    names = tuple(sorted(each.rfilename for each in info.siblings or ()))
    remark = ""
    if data.revision is None or not _COMMIT.fullmatch(data.revision):
        remark = f"{data.told()} is now at commit {info.sha}; --data {pinned.told()} reads the same again"
    return Commit(pinned, names, remark)


def fetch(commit: Commit, *, several: bool = False) -> dict[str, list[Path]]:
    """Return split -> its files, sorted by name and downloaded; those of one configuration.

    Args:
        commit: The data set.
        several: Take all splits where none is named; else one is to be named if there are several.

    Raises:
        ConfigError: If they cannot be fetched, or another configuration or split is to be named.
    """
    data, names = commit.data, commit.names
    chosen = _splits(data, names, _configs(_card(data)) if "README.md" in names else {})
    wanted = _wanted(data, chosen, several)
    folder = _download(data, [name for split in wanted for name in chosen[split]])
    return {split: [folder / name for name in chosen[split]] for split in wanted}


def _card(data: HubData) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(data.name, "README.md", repo_type="dataset", revision=data.revision))
    except Exception as error:
        raise _not_fetched(data, error) from None


def _download(data: HubData, names: Sequence[str]) -> Path:
    """Fetch files; return the folder that they lie in."""
    from huggingface_hub import snapshot_download

    patterns = [escape(name) for name in names]
    try:
        return Path(
            snapshot_download(data.name, repo_type="dataset", revision=data.revision, allow_patterns=patterns)
        )
    except Exception as error:
        raise _not_fetched(data, error) from None


def _not_fetched(data: HubData, error: Exception) -> ConfigError:
    # The hub's client raises whatever its transport does; all of it means: the data is not to be had now.
    return ConfigError(
        f"--data {data.told()}: there is no such file or folder, and it cannot be fetched from the Hub"
        f" ({first_line(error)})"
    )


def _wanted(data: HubData, chosen: Mapping[str, Sequence[str]], several: bool) -> list[str]:
    if not any(chosen.values()):
        raise ConfigError(
            f"--data {data.told()}: it has no files that can be read; looked for {', '.join(SUFFIXES)}"
        )
    if data.split is None and len(chosen) > 1 and not several:
        example = replace(data, split=list(chosen)[-1]).told()
        raise ConfigError(
            f"--data {data.told()}: it holds several splits: {', '.join(chosen)}; name one of them, such as"
            f" {example}"
        )
    if data.split is None:
        return list(chosen)
    if data.split not in chosen:
        raise ConfigError(
            f"--data {data.told()}: it has no split {data.split!r}; it has {', '.join(filter(None, chosen))}"
        )
    return [data.split]


def _configs(card: Path) -> dict[str, Mapping[str, Any]]:
    """Return the configurations that a data set's card declares, by name."""
    head = _CARD.match(card.read_text("utf-8", "replace"))
    if head is None:
        return {}
    declared = parse_yaml(head[1], card).get("configs")
    found = declared if isinstance(declared, list) else []
    return {
        str(each.get("config_name", "default")): each
        for each in found
        if isinstance(each, Mapping) and (each.get("data_files") or each.get("data_dir"))
    }


def _splits(
    data: HubData, names: Sequence[str], configs: Mapping[str, Mapping[str, Any]]
) -> dict[str, list[str]]:
    """Return split -> files of the configuration that is asked for, or of the only one."""
    config = data.config
    if config is None and configs:
        default = [name for name, each in configs.items() if each.get("default") or name == "default"]
        if len(configs) > 1 and not default:
            raise ConfigError(
                f"--data {data.told()}: it has several configurations: {', '.join(configs)}; name one,"
                f" such as {replace(data, config=next(iter(configs))).told()}"
            )
        config = (default or list(configs))[0]
    if config is not None and config in configs:
        return _declared(configs[config], names)
    below = "" if config is None else f"{config}/"
    inside = [name for name in names if name.startswith(below)]
    if not inside:
        known = dict.fromkeys([*configs, *sorted(name.split("/")[0] for name in names if "/" in name)])
        raise ConfigError(
            f"--data {data.told()}: it has no configuration or folder {config!r}; it has"
            f" {', '.join(known) or 'none'}"
        )
    return _by_name(inside, below)


def _declared(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, list[str]]:
    given, folder = config.get("data_files"), str(config.get("data_dir") or "").strip("/")
    if given is None:
        return _by_name([name for name in names if name.startswith(f"{folder}/")], f"{folder}/")
    if isinstance(given, Mapping):
        given = [{"split": split, "path": path} for split, path in given.items()]
    entries = given if isinstance(given, list) else [given]
    found: dict[str, list[str]] = {}
    for entry in entries:
        entry = entry if isinstance(entry, Mapping) else {"path": entry}
        split, paths = str(entry.get("split", "train")), entry.get("path")
        for path in paths if isinstance(paths, list) else [paths]:
            pattern = "/".join(filter(None, (folder, str(path).removeprefix("./"))))
            matched = [name for name in names if _matches(name, pattern) and is_data_name(name)]
            found.setdefault(split, []).extend(name for name in matched if name not in found.get(split, ()))
    return found


def _by_name(names: Sequence[str], below: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in names:
        parts = PurePosixPath(name.removeprefix(below)).parts
        if is_data_name(name) and not any(part.startswith((".", "_")) for part in parts):
            place = split_of(parts)
            found.setdefault("train" if place is None else place[1], []).append(name)
    return found


def _matches(name: str, pattern: str) -> bool:
    """Say whether a file's name matches a glob; `**/` stands for any folders, also for none."""
    return fnmatchcase(name, pattern) or ("**/" in pattern and fnmatchcase(name, pattern.replace("**/", "")))
