"""Task files: YAML, checked to the last key, as frozen values."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from rmbench.core.files import digest
from rmbench.core.options import NO_OPTION, Option, Parameter, parameters_of
from rmbench.core.registry import file_name
from rmbench.core.schema import filled, from_text, json_schema, parse, schema_of, settled, written
from rmbench.core.yaml import defined_in, packaged_folder, parse_yaml, read_yaml_text
from rmbench.errors import ConfigError, UnknownNameError
from rmbench.metrics.kinds import KINDS, Params, kinds_of
from rmbench.tasks.rows import READERS, Reader

HUB_DATA = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*@[0-9a-f]{40}")
Pinned = Annotated[str, Option(pattern=HUB_DATA.pattern, expected="org/name@<40-hex commit>")]
Text = Annotated[str, Option(pattern=r"(.|\n)*\S(.|\n)*", expected="text")]


@dataclass(frozen=True, slots=True)
class DataSpec:
    """Where a task's items come from when `--data` does not say."""

    reader: str
    """Name of a reader, or `FILE.py:NAME`."""
    path: str | None = None
    """A file shipped in the package, relative to its data folder."""
    hub: Annotated[tuple[Pinned, ...], Option(single=True)] = ()
    """`org/name@<40-hex commit>` of data sets on the Hugging Face Hub, read one after the other."""
    github: Pinned | None = None
    """`owner/name@<40-hex commit>` of a repository on GitHub that has the files; it is not fetched."""
    files: str | None = None
    """Glob of the files inside the hub data sets, or inside a folder given as `--data`."""
    hub_files: str | None = None
    """Glob of those to fetch, where a hub data set has files that `files` means and the task does not."""
    sha256: Annotated[str, Option(pattern="[0-9a-f]{64}", expected="64 hex digits")] | None = None
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


def find_reader(name: str, path: Path) -> Reader:
    """Return the reader that the task file `path` names; `FILE.py:NAME` is looked for beside it first.

    Raises:
        UnknownNameError: If no reader has the name; with the nearest name.
        ConfigError: If its file is missing or cannot be imported.
    """
    # Its file's hash joins nothing: whatever a reader does differently shows in the hash of the items.
    return READERS.find(name, f"{path}, key 'reader'", path.parent)[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskSpec:
    """A task: what is measured on which data. Parameters are typed and complete."""

    name: str
    """The file's stem."""
    version: Annotated[int, Option(low=1)]
    """Raised when any number could change."""
    kinds: tuple[str, ...]
    """What is measured: names of task kinds, or `FILE.py:NAME`."""
    summary: Text
    source: Text
    """Where the data comes from: an address."""
    license: Text
    data: DataSpec
    """Where the items come from when `--data` does not say."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """Parameters of the kinds. A loaded task has all, `later` ones only if they are not at their default."""
    primary: Text
    """The headline metric; `win_rate@max` is the one at the largest n."""
    strata: tuple[str, ...] = ()
    """Stratum keys to report on; the first is what the macro mean averages over."""
    sizes: Mapping[
        str,
        Annotated[int, Option(low=1)]
        | Annotated[str, Option(pattern=r"about [1-9]\d*", expected="'about 8210'")],
    ] = field(default_factory=dict)
    """How much the whole published set holds, by what is counted; `about 8210` if no more is known."""
    reproduced: tuple[str, ...] = ()
    """Numbers that were compared with a publication and are equal."""
    unchecked: tuple[str, ...] = ()
    """Parts that rest on a description alone."""
    path: Annotated[Path, NO_OPTION]
    kind_files: Annotated[Mapping[str, str], NO_OPTION] = field(default_factory=dict)
    """Kind `FILE.py:NAME` -> SHA-256 of the file that defines it."""
    text: Annotated[str | None, NO_OPTION] = field(default=None, compare=False, repr=False)
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
                # Tasks with the package's kinds alone keep the digest that they always had.
                **({"kind_files": dict(self.kind_files)} if self.kind_files else {}),
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
        UnknownNameError: If no task has the name; with the nearest name.
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


def apply_params(spec: TaskSpec, options: Mapping[str, str]) -> TaskSpec:
    """Return the task with `-T key=value` texts applied, each typed by its parameter.

    Raises:
        UnknownNameError: If the task has no such parameter.
        ConfigError: If a value is not of the parameter's type, or not one of its choices.
    """
    params, reader = dict(spec.params), dict(spec.data.options)
    of_kinds, of_reader = _known(spec)
    known, where = {**of_kinds, **of_reader}, f"task {spec.name!r}"
    for key, text in options.items():
        if key not in known:
            raise UnknownNameError("parameter", key, known, where)
        target = reader if key in of_reader else params
        target[key] = from_text(known[key].hint, text, f"{where}, parameter {key!r}")
    params, reader = settled(params, of_kinds, where), settled(reader, of_reader, where)
    return replace(spec, params=params, data=replace(spec.data, options=reader))


def apply_reader_options(spec: TaskSpec, options: Mapping[str, str], flag: str = "-T") -> TaskSpec:
    """Return the task with options of its reader applied, where no metric is computed.

    Raises:
        UnknownNameError: If the reader has no such option.
        ConfigError: If a value is not of the option's type.
    """
    where = f"{flag}, reader {spec.data.reader!r}"
    known = parameters_of(find_reader(spec.data.reader, spec.path).options)
    given = dict(spec.data.options)
    for key, text in options.items():
        if key not in known:
            raise UnknownNameError("option", key, known, where)
        given[key] = from_text(known[key].hint, text, f"{where}, option {key!r}")
    return replace(spec, data=replace(spec.data, options=settled(given, known, where)))


def parameter_names(spec: TaskSpec) -> list[str]:
    """Return the names of the parameters that `-T` may set on this task."""
    of_kinds, of_reader = _known(spec)
    return sorted({**of_kinds, **of_reader})


def parameter_help(spec: TaskSpec) -> list[str]:
    """Return one line per parameter: name, value on this task, how values are written, meaning."""
    current = {**spec.params, **spec.data.options}
    of_kinds, of_reader = _known(spec)
    lines = []
    for name, param in ({**of_kinds, **of_reader}).items():
        shown = current.get(name, param.default)
        if shown is None:
            shown = "not set" if param.option.only_with or name in of_reader else "by convention"
        elif isinstance(shown, bool):
            shown = "yes" if shown else "no"
        lines.append(f"{name} = {shown} ({written(param.hint)}): {param.help}")
    return lines


def _known(spec: TaskSpec) -> tuple[Mapping[str, Parameter], Mapping[str, Parameter]]:
    """Return the parameters of a task's kinds, and the options of its reader.

    Raises:
        ConfigError: If one name means two things.
    """
    of_kinds = _of_kinds(spec.kinds, str(spec.path))
    of_reader = parameters_of(find_reader(spec.data.reader, spec.path).options)
    if both := sorted(of_kinds.keys() & of_reader.keys()):
        raise ConfigError(
            f"{spec.path}: {both[0]!r} is a parameter of its kinds and an option of its reader; rename one"
        )
    return of_kinds, of_reader


def _of_kinds(kinds: tuple[str, ...], where: str) -> Mapping[str, Parameter]:
    found = dict(parameters_of(Params))
    for kind in kinds:
        for name, one in parameters_of(KINDS.get(kind).params).items():
            if found.setdefault(name, one) != one:
                raise ConfigError(f"{where}: two of its kinds have different parameters {name!r}; rename one")
    return found


def task_schema() -> dict[str, Any]:
    """Return the JSON Schema of task files: all known kinds and readers, with parameters and options."""
    schema = json_schema(TaskSpec, "A task of rmbench")
    keys, of_file = schema["properties"], {"type": "string", "pattern": r"\.py:"}
    kinds = {"enum": sorted({*KINDS, *KINDS.aliases()})}
    keys["kinds"] |= {"items": {"anyOf": [kinds, of_file]}, "minItems": 1}
    params = {
        name: schema_of(one) for kind in KINDS for name, one in parameters_of(KINDS.get(kind).params).items()
    }
    keys["params"] = {"type": "object", "description": keys["params"]["description"], "properties": params}
    data = keys["data"]
    data["properties"]["reader"]["anyOf"] = [{"enum": READERS.names()}, of_file]
    data["allOf"] = [
        {
            "if": {"properties": {"reader": {"const": name}}, "required": ["reader"]},
            "then": {"properties": {"options": _closed(parameters_of(READERS.get(name).options))}},
        }
        for name in READERS
    ]
    # A kind from a file may have parameters that nobody knows here.
    schema["if"] = {"properties": {"kinds": {"items": kinds}}}
    schema["then"] = {"properties": {"params": {"propertyNames": {"enum": sorted(params)}}}}
    return schema


def _closed(options: Mapping[str, Parameter]) -> dict[str, Any]:
    properties = {name: schema_of(one) for name, one in options.items()}
    return {"type": "object", "properties": properties, "additionalProperties": False}


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
    spec = parse(TaskSpec, parse_yaml(text, path), str(path), path=path, kind_files={}, text=text)
    if spec.name != path.stem:
        raise ConfigError(f"{path}, key 'name': {spec.name!r}; expected the file's stem {path.stem!r}")
    kinds, kind_files = _kinds(spec.kinds, path)
    known = parameters_of(find_reader(spec.data.reader, path).options)
    return replace(
        spec,
        kinds=kinds,
        kind_files=kind_files,
        data=replace(
            spec.data, options=filled(spec.data.options, known, f"{path}, key 'data', key 'options'")
        ),
        params=filled(spec.params, _of_kinds(kinds, str(path)), f"{path}, key 'params'"),
        **{key: getattr(spec, key).strip() for key in ("summary", "source", "license", "primary")},
    )


def _kinds(given: Sequence[str], path: Path) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the names of a task's kinds, and the hashes of the files of those that are in files."""
    where, files = f"{path}, key 'kinds'", dict[str, str]()
    names = [KINDS.canonical(name) for name in given]
    if not names:
        raise ConfigError(f"{where}: empty; expected some of {', '.join(KINDS)}")
    for name in dict.fromkeys(names):
        _, sha256 = KINDS.find(name, where, path.parent)
        if sha256 is not None and files.setdefault(file_name(name), sha256) != sha256:
            raise ConfigError(f"{where}: two files have the kind {file_name(name)}; rename one of the files")
    return tuple(dict.fromkeys(map(file_name, names))), files


def check_kinds(spec: TaskSpec) -> None:
    """Make sure that the kinds of a loaded task are still those that it was loaded with.

    Raises:
        ConfigError: If another task has a file of the same name with such a kind, or the code has changed.
    """
    for kind, sha256 in spec.kind_files.items():
        if KINDS.file_hash(kind) != sha256:
            raise ConfigError(
                f"{spec.path}, key 'kinds': {kind} has become that of another file, or of a newer one; rename"
                " one of the files, or evaluate this task in a command of its own"
            )


def _said(size: int | str) -> str:
    return f"{size:,}" if isinstance(size, int) else f"about {int(size.split()[1]):,}"
