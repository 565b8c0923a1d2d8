"""YAML as plain values; a key given twice is an error, as every other mistake is.

Folders of YAML definitions, of tasks and of boards: where the package keeps its own, what a folder has.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from rmbench.errors import ConfigError


class _Strict(yaml.SafeLoader):
    """The safe loader, without silent overwriting."""


def _mapping(loader: _Strict, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node)
        if key in seen:
            raise ConfigError(f"line {key_node.start_mark.line + 1}: key {key!r} is given twice")
        seen.add(key)
    return loader.construct_mapping(node, deep=True)


_Strict.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file.

    Raises:
        ConfigError: With file and line, if it cannot be read, is not YAML, or is no mapping.
    """
    return parse_yaml(read_yaml_text(path), path)


def read_yaml_text(path: Path) -> str:
    """Return the text of a YAML file. Raises ConfigError if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None


def parse_yaml(text: str, path: Path) -> dict[str, Any]:
    """Return the mapping in the text of a YAML file; `path` begins messages.

    Raises:
        ConfigError: With file and line, if it is not YAML, or is no mapping.
    """
    try:
        # _Strict is a SafeLoader: it makes plain values only.
        value = yaml.load(text, Loader=_Strict)  # noqa: S506
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from None
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: expected a mapping of keys to values")
    return value


def mapping_of(raw: Any, where: str) -> dict[str, Any]:
    """Return a mapping of names to values.

    Raises:
        ConfigError: If it is something else.
    """
    if not isinstance(raw, Mapping) or not all(isinstance(k, str) for k in raw):
        raise ConfigError(f"{where}: expected a mapping of names to values")
    return dict(raw)


def texts_of(raw: Any, where: str) -> list[str]:
    """Return a list of texts.

    Raises:
        ConfigError: If it is something else.
    """
    if not isinstance(raw, list) or not all(isinstance(v, str) for v in raw):
        raise ConfigError(f"{where}: expected a list of texts")
    return list(raw)


_PACKAGE = Path(__file__).resolve().parent.parent


def packaged_folder(installed: str, checkout: str) -> Path:
    """Return the folder of the definitions that come with the package.

    Args:
        installed: Its name inside an installed package, such as `_tasks`. The build copies it there.
        checkout: Its name at the top of the repository, which an editable install reads, such as `tasks`.
    """
    folder = _PACKAGE / installed
    is_checkout = (_PACKAGE.parent / "pyproject.toml").is_file()
    return _PACKAGE.parent / checkout if is_checkout and not folder.is_dir() else folder


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
