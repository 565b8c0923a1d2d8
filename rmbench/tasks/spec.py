"""Task files: facts in YAML, checked to the last key, as frozen values.

The `data` part of a task file: where its items come from.
"""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from rmbench.core.identity import digest
from rmbench.core.options import PARAMS, Param, filled, parse_value, settle
from rmbench.core.yaml import defined_in, mapping_of, packaged_folder, parse_yaml, read_yaml_text, texts_of
from rmbench.errors import ConfigError, UnknownNameError

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


KIND_ALIASES = {"bon": "best_of_n"}
OFFICIAL_KINDS = (
    "rewardbench", "rewardbench2", "rm-bench", "judgebench", "ppe", "m-rewardbench", "reward-math", "rmb",
    "plan-rewardbench",
)  # fmt: skip
"""Kinds that compute a benchmark's number by its own published definition; the others are the clean ones."""
KIND_NAMES = ("preference", "calibration", "best_of_n", *OFFICIAL_KINDS)

_TASK_KEYS = (
    "name", "version", "kinds", "summary", "source", "license", "sizes", "data", "params",
    "primary", "strata", "reproduced", "unchecked",
)  # fmt: skip
_OPTIONAL = ("sizes", "params", "strata", "reproduced", "unchecked")
_ABOUT = re.compile(r"about [1-9]\d*")


@dataclass(frozen=True, slots=True)
class TaskSpec:
    """A task as its YAML file says it, parameters typed and complete."""

    name: str
    version: int
    """Raised when any number could change."""
    kinds: tuple[str, ...]
    summary: str
    source: str
    license: str
    data: DataSpec
    params: Mapping[str, Any]
    """Every parameter of the task's kinds, defaults filled in; a `later` one only where it is no default."""
    primary: str
    """The headline metric; `win_rate@max` is the one at the largest n."""
    strata: tuple[str, ...]
    """Stratum keys to report on; the first is what the macro mean averages over."""
    sizes: Mapping[str, int | str]
    """How much the whole published set holds, by what is counted; `about 8210` if no more is known."""
    reproduced: tuple[str, ...]
    """What was compared with which publication, and came out the same."""
    unchecked: tuple[str, ...]
    """What rests on a description alone."""
    path: Path
    text: str | None = field(default=None, compare=False, repr=False)
    """The YAML itself, which records carry; None for a task that was made without a file."""

    @property
    def size(self) -> str:
        """The sizes, for people."""
        return ", ".join(f"{_said(n)} {what}" for what, n in self.sizes.items()) or "not known"

    def kinds_of(self, convention: str) -> tuple[str, ...]:
        """Return the kinds of a convention, `official`, `clean` or `both` (official ones first)."""
        return kinds_of(self.kinds, convention)

    def digest(self) -> str:
        """Return the hash of everything that can change a number, 16 hex digits."""
        return digest(
            {
                "name": self.name,
                "version": self.version,
                "kinds": list(self.kinds),
                "reader": self.data.reader,
                "options": dict(self.data.options),
                "params": dict(self.params),
                "strata": list(self.strata),
            },
            16,
        )


def task_folders() -> list[Path]:
    """Return where task files are looked for: `RMBENCH_TASKS_DIR` first, then those of the package."""
    extra = [Path(p) for p in os.environ.get("RMBENCH_TASKS_DIR", "").split(os.pathsep) if p]
    return [*extra, packaged_folder("_tasks", "tasks")]


def list_tasks() -> list[str]:
    """Return the names of all tasks, sorted.

    Raises:
        ConfigError: If a folder of tasks is missing or has none: a name could mean another task than meant.
    """
    folders = task_folders()
    advice = "Set RMBENCH_TASKS_DIR to folders of task files (TASK.yaml), or unset it."
    if len(folders) == 1:
        advice = "They come with the package: install rmbench again."
    return defined_in(folders, "task", advice)


def load_task(name: str) -> TaskSpec:
    """Return the task called `name`, or the one in the file `name`.

    Raises:
        UnknownNameError: If there is none; with the nearest name.
        ConfigError: If its file is wrong, with file and key, or if a folder of tasks has none.
    """
    if name.endswith((".yaml", ".yml")):
        path = Path(name)
        if not path.is_file():
            raise ConfigError(f"--task {name}: there is no such file")
        return _parse(path)
    known = list_tasks()
    if name not in known:
        if (found := _ELSEWHERE.get()(name)) is not None:
            return found
        raise UnknownNameError("task", name, known)
    return _parse(next(p for folder in task_folders() for p in folder.glob("*.yaml") if p.stem == name))


_ELSEWHERE: ContextVar[Callable[[str], TaskSpec | None]] = ContextVar("tasks", default=lambda _: None)


@contextmanager
def tasks_also_from(find: Callable[[str], TaskSpec | None]) -> Iterator[None]:
    """Let `load_task` ask `find` for tasks that no folder has, such as those that records hold."""
    token = _ELSEWHERE.set(find)
    try:
        yield
    finally:
        _ELSEWHERE.reset(token)


def kinds_of(kinds: Iterable[str], convention: str) -> tuple[str, ...]:
    """Return those of `kinds` that follow a convention: `official`, `clean` or `both` (official first)."""
    official = tuple(k for k in kinds if k in OFFICIAL_KINDS)
    clean = tuple(k for k in kinds if k not in OFFICIAL_KINDS)
    return {"official": official, "clean": clean}.get(convention, official + clean)


def apply_params(spec: TaskSpec, options: Mapping[str, str]) -> TaskSpec:
    """Return the task with `-T key=value` texts applied, each typed by its parameter.

    Raises:
        UnknownNameError: If the task has no such parameter.
        ConfigError: If a value is not of the parameter's type, or not one of its choices.
    """
    params, reader = dict(spec.params), dict(spec.data.options)
    known, where = _known(spec.kinds, spec.data.reader), f"task {spec.name!r}"
    for key, text in options.items():
        if key not in known:
            raise UnknownNameError("parameter", key, known, where)
        value = parse_value(known[key], text, f"{where}, parameter {key!r}")
        target = reader if key in PARAMS.get(f"reader:{spec.data.reader}", {}) else params
        target[key] = value
    params = settle(params, _known(spec.kinds, ""), where)
    return replace(spec, params=params, data=replace(spec.data, options=reader))


def parameter_names(spec: TaskSpec) -> list[str]:
    """Return the names of the parameters that `-T` may set on this task."""
    return sorted(_known(spec.kinds, spec.data.reader))


def parameter_help(spec: TaskSpec) -> list[str]:
    """Return one line per parameter: name, value on this task, choices, meaning."""
    current = {**spec.params, **spec.data.options}
    lines = []
    for name, param in _known(spec.kinds, spec.data.reader).items():
        choices = f", one of {', '.join(param.choices)}" if param.choices else ""
        shown = current.get(name, param.default)
        if shown is None:
            shown = "not set" if param.only_with else "by convention"
        lines.append(f"{name} = {shown} ({param.type.__name__}{choices}): {param.help}")
    return lines


def _known(kinds: tuple[str, ...], reader: str) -> dict[str, Param]:
    found = dict(PARAMS["all"])
    for group in (*kinds, f"reader:{reader}"):
        found |= PARAMS.get(group, {})
    return found


def parse_recorded(text: str, name: str) -> TaskSpec:
    """Return the task in the text of a task file that a record holds. It is not trusted.

    Raises:
        ConfigError: If it is wrong, or names a Python file: no code is run because a record names it.
    """
    path = Path(f"{name}.yaml")
    raw = parse_yaml(text, path)
    data = raw.get("data")
    reader = data.get("reader") if isinstance(data, dict) else None
    kinds = raw.get("kinds")
    if any(".py" in str(word) for word in (reader, *(kinds if isinstance(kinds, list) else ()))):
        raise ConfigError(
            f"the task file of {name} names a Python file, which is not run because a record names it;"
            f" RMBENCH_TASKS_DIR names the folder of {path}"
        )
    return _parse(path, text)


def task_name(name: str) -> str:
    """Return the name of the task that `--task` means: that of a task file is the file's stem."""
    return Path(name).stem if name.endswith((".yaml", ".yml")) else name


def _parse(path: Path, text: str | None = None) -> TaskSpec:
    text = read_yaml_text(path) if text is None else text
    raw = parse_yaml(text, path)
    for key in raw:
        if key not in _TASK_KEYS:
            raise UnknownNameError("key", str(key), _TASK_KEYS, str(path))
    for key in _TASK_KEYS:
        if key not in raw and key not in _OPTIONAL:
            raise ConfigError(f"{path}: key {key!r} is missing")
    if raw["name"] != path.stem:
        raise ConfigError(f"{path}, key 'name': {raw['name']!r}; expected the file's stem {path.stem!r}")
    version = raw["version"]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ConfigError(f"{path}, key 'version': {version!r}; expected a whole number from 1")
    kinds = _kinds(raw["kinds"], path)
    data = data_spec(raw["data"], f"{path}, key 'data'")
    given = mapping_of(raw.get("params") or {}, f"{path}, key 'params'")
    return TaskSpec(
        name=str(raw["name"]),
        version=version,
        kinds=kinds,
        summary=_text(raw, "summary", path),
        source=_text(raw, "source", path),
        license=_text(raw, "license", path),
        data=data,
        params=filled(given, _known(kinds, ""), f"{path}, key 'params'"),
        primary=_text(raw, "primary", path),
        strata=tuple(texts_of(raw.get("strata") or [], f"{path}, key 'strata'")),
        sizes=_sizes(raw.get("sizes") or {}, f"{path}, key 'sizes'"),
        reproduced=tuple(texts_of(raw.get("reproduced") or [], f"{path}, key 'reproduced'")),
        unchecked=tuple(texts_of(raw.get("unchecked") or [], f"{path}, key 'unchecked'")),
        path=path,
        text=text,
    )


def _kinds(raw: Any, path: Path) -> tuple[str, ...]:
    names = [KIND_ALIASES.get(k, k) for k in texts_of(raw, f"{path}, key 'kinds'")]
    if not names:
        raise ConfigError(f"{path}, key 'kinds': empty; expected some of {', '.join(KIND_NAMES)}")
    for name in names:
        if name not in KIND_NAMES:
            raise UnknownNameError("task kind", name, KIND_NAMES, f"{path}, key 'kinds'")
    return tuple(dict.fromkeys(names))


def _sizes(raw: Any, where: str) -> dict[str, int | str]:
    given = mapping_of(raw, where)
    for key, value in given.items():
        whole = isinstance(value, int) and not isinstance(value, bool) and value > 0
        if not whole and not (isinstance(value, str) and _ABOUT.fullmatch(value)):
            raise ConfigError(
                f"{where}, key {key!r}: {value!r}; expected a whole number from 1, or such as 'about 8210'"
            )
    return given


def _said(size: int | str) -> str:
    return f"{size:,}" if isinstance(size, int) else f"about {int(size.split()[1]):,}"


def _text(raw: Mapping[str, Any], key: str, path: Path) -> str:
    if not isinstance(raw[key], str) or not raw[key].strip():
        raise ConfigError(f"{path}, key {key!r}: {raw[key]!r}; expected text")
    return str(raw[key]).strip()
