"""Folders of YAML definitions, of tasks and of boards: where the package keeps its own, what a folder has."""

from collections.abc import Sequence
from pathlib import Path

from rmbench.errors import ConfigError

_PACKAGE = Path(__file__).resolve().parent


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
