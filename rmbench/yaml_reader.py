"""YAML as plain values; a key given twice is an error, as every other mistake is."""

from collections.abc import Mapping
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
    try:
        # _Strict is a SafeLoader: it makes plain values only.
        value = yaml.load(path.read_text(encoding="utf-8"), Loader=_Strict)  # noqa: S506
    except ConfigError as error:
        raise ConfigError(f"{path}, {error}") from None
    except yaml.MarkedYAMLError as error:
        line = f", line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: not valid YAML: {error.problem}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
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
