"""YAML files as plain values, with line numbers; a key given twice is an error.

Also the folders of definitions: those of the package, and the names that the files of a folder define.
"""

import re
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Any

import yaml

from rmbench.core.files import JsonError, check_depth, read_whole
from rmbench.errors import ConfigError, first_line


class Lines(dict[Any, Any]):
    """A mapping of a file that knows its lines, from 1."""

    line: int
    """Where it begins."""
    lines: dict[Any, int]
    """Where each key stands."""


_LARGEST = 16 * 2**20
"""Bytes of a file; a larger one is refused."""


class _Strict(yaml.SafeLoader):
    """The safe loader, without silent overwriting; `1e-3` is a number, as in YAML 1.2 and in editors.

    References (`*name`) are refused: a few lines of them stand for more values than fit into memory.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Return the next node."""
        if self.check_event(yaml.AliasEvent):
            event: Any = self.peek_event()  # type: ignore[no-untyped-call]
            line = event.start_mark.line + 1
            raise ConfigError(f"line {line}: a reference, *{event.anchor}; write the value out")
        return super().compose_node(parent, index)

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return the value of a node; one that is not a value of its tag is an error with its line."""
        try:
            found = super().construct_object(node, deep)
            if isinstance(found, str):
                found.encode()
            if isinstance(found, int):
                float(found)  # OverflowError: no metric, and no option, could take it
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            # What PyYAML raises for `!!bool maybe`, `2001-99-99` or 5,000 digits.
            told = "half a character" if isinstance(error, UnicodeEncodeError) else first_line(error)
            kind = node.tag.rpartition(":")[2]
            raise ConfigError(f"line {node.start_mark.line + 1}: not a value of {kind}: {told}") from None
        return found


def _mapping(loader: _Strict, node: yaml.MappingNode) -> Lines:
    lines: dict[Any, int] = {}
    for key_node, _ in node.value:
        key, line = loader.construct_object(key_node), key_node.start_mark.line + 1
        if not isinstance(key, Hashable):
            raise ConfigError(f"line {line}: a list or mapping is a key; expected a name")
        if key in lines:
            raise ConfigError(f"line {line}: key {key!r} is given twice")
        lines[key] = line
    found = Lines(loader.construct_mapping(node, deep=True))
    found.line, found.lines = node.start_mark.line + 1, lines
    return found


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)
_Strict.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?(\.\d+|\d+(\.\d*)?)[eE][-+]?\d+$"), list("-+.0123456789")
)


def read_yaml(path: Path) -> Lines:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: With file and line, if it cannot be read, is not YAML, or is no mapping.
    """
    return parse_yaml(read_yaml_text(path), path)


def read_yaml_text(path: Path) -> str:
    """Return the text of a YAML file. Raises ConfigError if it cannot be read."""
    return read_whole(path, _LARGEST)


def parse_yaml(text: str, path: Path) -> Lines:
    """Return the mapping in the text of a YAML file; `path` begins messages.

    Raises:
        ConfigError: With file and line, if it is not YAML, or is no mapping.
    """
    try:
        # _Strict is a SafeLoader: it makes plain values only.
        value = yaml.load(text, Loader=_Strict)  # noqa: S506
        check_depth(value)
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except RecursionError:
        raise ConfigError(f"{path}: more levels of lists and mappings than can be read") from None
    except (yaml.YAMLError, JsonError) as error:
        raise ConfigError(f"{path}: cannot be read: {first_line(error)}") from None
    if not isinstance(value, Lines):
        raise ConfigError(f"{path}: expected a mapping of keys to values")
    return value


PACKAGE = Path(__file__).resolve().parent.parent
"""Folder of the package `rmbench`."""


def packaged_folder(installed: str, checkout: str) -> Path:
    """Return the folder of the definitions that come with the package.

    Args:
        installed: Its name inside an installed package, such as `_tasks`. The build copies it there.
        checkout: Its name at the top of the repository, which an editable install reads, such as `tasks`.
    """
    folder = PACKAGE / installed
    is_checkout = (PACKAGE.parent / "pyproject.toml").is_file()
    return PACKAGE.parent / checkout if is_checkout and not folder.is_dir() else folder


def defined_in(folders: Sequence[Path], kind: str, advice: str) -> list[str]:
    """Return the names that the YAML files of `folders` define, sorted.

    Args:
        folders: All that are searched.
        kind: What the files define, for the error: `task`, `board`.
        advice: What to do about a folder that defines nothing.

    Raises:
        ConfigError: If one of the folders is missing or defines nothing; it names all that were searched.
    """
    found = {folder: {path.stem for path in folder.glob("*.yaml")} for folder in folders}
    if empty := [str(folder) for folder, names in found.items() if not names]:
        searched = ", ".join(f"{folder} ({_held(folder, len(names))})" for folder, names in found.items())
        raise ConfigError(f"no {kind}s found in {', '.join(empty)}. Searched: {searched}. {advice}")
    return sorted(set().union(*found.values()))


def _held(folder: Path, n_files: int) -> str:
    if n_files:
        return f"{n_files} *.yaml"
    return "no *.yaml" if folder.is_dir() else "no such folder"
