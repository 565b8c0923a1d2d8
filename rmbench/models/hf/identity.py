"""Which bytes a checkpoint is: a hash over a folder's files, or a commit of the Hub; and whose code it runs.

A folder's hash is over every file that a load may read, through links. It leaves out a short list: cards,
licences, logs, states of a training, checkpoints in between. A file of that list counts all the same if an
option, a config or an index names it. Other GGUF files than the chosen one are left out too.

Both are taken before a model is loaded, and the hash is compared with one taken after it. There is no cache
of hashes by size and time: a file can change within one tick of the file system's clock.
"""

import json
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rmbench.core.files import digest, sha256_file
from rmbench.errors import ConfigError, first_line
from rmbench.models.hf.checkpoint import Checkpoint, cache_alone, on_hub
from rmbench.models.hf.weights.adapter import CONFIG as ADAPTER_CONFIG
from rmbench.models.hf.weights.adapter import Adapter, find_adapter, leftover
from rmbench.models.runtime import Runtime, is_commit

NOT_READ_FOLDERS = (
    ".git", ".cache", ".huggingface", ".ipynb_checkpoints", ".training", "__pycache__", "checkpoint-*",
    "logs", "runs",
)  # fmt: skip
"""Names of folders that no load reads: version control, downloads, logs, checkpoints of a training."""
NOT_READ_FILES = (
    "*.md", "README", "README.txt", "README.rst", "LICENSE", "LICENSE.txt", "NOTICE", ".gitattributes",
    ".gitignore", ".DS_Store", "*.log", "events.out.tfevents.*", "optimizer.pt", "optimizer.bin",
    "scheduler.pt", "scaler.pt", "rng_state*.pth", "trainer_state.json", "training_args.bin",
    "rmbench.json", "training_prompts.npz", ".*.partial", ".nfs*",
)  # fmt: skip
"""Names of files that no load reads: cards, licences, logs, states and records of a training."""
_CONFIGS = (
    "config.json", "tokenizer_config.json", "processor_config.json", "preprocessor_config.json",
    "image_processor_config.json", "video_preprocessor_config.json", "generation_config.json",
)  # fmt: skip
"""Files of a Hub repository that may name code."""
_THREADS = 4


@dataclass(frozen=True, slots=True)
class Pin:
    """The identity of a checkpoint before it is loaded."""

    checkpoint: Checkpoint
    """What transformers loads: of an adapter, its base."""
    weights: str
    """`sha256:` and a hash, or `org/name@commit`; then the GGUF file, the commit of other code it runs, and
    the same of an adapter."""
    source: Mapping[str, Any]
    """Arguments of `from_pretrained` that say where it is."""
    files: Mapping[str, str]
    """Path in the folder -> SHA-256; empty for the Hub."""
    remarks: tuple[str, ...] = ()
    adapter: Adapter | None = None
    """To be merged into it."""
    adapter_pin: "Pin | None" = None

    def check(self) -> None:
        """Raise ConfigError if the folder has changed since; call it after the load."""
        now = hashes(self.checkpoint) if self.checkpoint.is_folder else {}
        if now != self.files:
            changed = sorted(name for name in {**now, **self.files} if now.get(name) != self.files.get(name))
            raise ConfigError(
                f"{self.checkpoint.location}: {changed[0]} changed while it was being loaded; load it again"
                " when nothing writes to the folder"
            )
        if self.adapter_pin is not None:
            self.adapter_pin.check()


def pin_of(checkpoint: Checkpoint, runtime: Runtime) -> Pin:
    """Return the identity of a checkpoint, and where to load it from.

    Raises:
        ConfigError: If the folder cannot be read as a whole, has an adapter that cannot be read or that may
            not be merged, or would run code that is not pinned.
        OSError: If the Hub does not have it.
    """
    check_revision(checkpoint, runtime)
    if not checkpoint.is_folder:
        checkpoint = replace(checkpoint, revision=_commit(checkpoint, runtime))
    adapter = find_adapter(checkpoint, runtime)
    if adapter is None:
        pin, told = _own_pin(checkpoint, runtime), leftover(checkpoint, runtime)
        return pin if told is None else replace(pin, remarks=(told,))
    own = _own_pin(checkpoint, replace(runtime, trust_remote_code=False, code_revision=None))
    try:
        pin = _own_pin(adapter.base, runtime)
    except OSError as error:
        raise ConfigError(
            f"{checkpoint.location}: its base {adapter.base.location} cannot be read ({first_line(error)});"
            " pass -M base=FOLDER"
        ) from None
    merged = f"the adapter is merged into its base {adapter.base.location}"
    weights = f"{pin.weights} adapter {own.weights}"
    return replace(pin, weights=weights, remarks=(merged,), adapter=adapter, adapter_pin=own)


def _own_pin(checkpoint: Checkpoint, runtime: Runtime) -> Pin:
    check_revision(checkpoint, runtime)
    if not checkpoint.is_folder:
        checkpoint = replace(checkpoint, revision=_commit(checkpoint, runtime))
    repository = check_code(checkpoint, runtime)
    files = hashes(checkpoint) if checkpoint.is_folder else {}
    weights = weights_of(files) if checkpoint.is_folder else f"{checkpoint.location}@{checkpoint.revision}"
    source: dict[str, Any] = {
        "revision": checkpoint.revision,
        "local_files_only": cache_alone(checkpoint, runtime),
        "trust_remote_code": runtime.trust_remote_code,
    }
    if repository is not None:
        weights += f" code {repository}@{runtime.code_revision}"
        source["code_revision"] = runtime.code_revision
    if checkpoint.gguf_file is not None:
        weights += f" gguf {Path(checkpoint.gguf_file).as_posix()}"
        source["gguf_file"] = _gguf_source(checkpoint)
    return Pin(checkpoint, weights, source, files)


def hashes(checkpoint: Checkpoint) -> dict[str, str]:
    """Return path in the folder -> SHA-256 of each file that a load may read, in the order of the paths.

    Raises:
        ConfigError: If a file cannot be read, or is no file: a broken link, a loop of links, a pipe.
    """
    folder = Path(checkpoint.location).resolve()
    found = set(_walk(folder, folder, (folder,)))
    if checkpoint.gguf_file is not None:
        chosen = folder / checkpoint.gguf_file
        found = {p for p in found if p.suffix != ".gguf"} | {chosen}
    found |= _named(folder, found)
    paths = sorted(found)
    with ThreadPoolExecutor(_THREADS) as pool:  # hashing leaves Python's lock
        return dict(zip((_within(p, folder) for p in paths), pool.map(_sha256, paths), strict=True))


def weights_of(files: Mapping[str, str]) -> str:
    """Return the identity of a folder from its hashes."""
    return f"sha256:{digest([[name, sha256] for name, sha256 in files.items()])}"


def _within(path: Path, folder: Path) -> str:
    # A shard of an index, or the file of an option, may lie outside.
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _sha256(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _walk(folder: Path, root: Path, above: tuple[Path, ...]) -> Iterator[Path]:
    """Yield the files below a folder that a load may read. `above`: the folders that it lies in, resolved."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be read: {error.strerror}") from None
    for path in entries:
        skipped = [
            any(fnmatchcase(path.name, p) for p in each) for each in (NOT_READ_FOLDERS, NOT_READ_FILES)
        ]
        if skipped[1]:
            continue
        try:
            mode = path.stat().st_mode
        except OSError as error:
            if skipped[0]:
                continue
            what = "a link that leads nowhere" if path.is_symlink() else f"cannot be read: {error.strerror}"
            raise ConfigError(f"{path}: {what}; expected a whole checkpoint in {root}") from None
        if stat.S_ISDIR(mode):
            if not skipped[0]:
                inner = path.resolve()
                if any(outer.is_relative_to(inner) for outer in above):
                    raise ConfigError(f"{path}: a link to a folder that it lies in; remove it from {root}")
                yield from _walk(path, root, (*above, inner))
        elif stat.S_ISREG(mode):
            yield path
        else:
            raise ConfigError(f"{path}: a pipe, device or socket; expected files and folders in {root}")


def _named(folder: Path, found: set[Path]) -> set[Path]:
    """Return the files that configs and indexes name and that are not among `found`."""
    more: set[Path] = set()
    queue = [p for p in found if _names_files(p)]
    while queue:
        path = queue.pop()
        for name, may_be_outside in _names_in(path):
            other = folder / name
            is_outside = ".." in other.parts or not other.is_relative_to(folder)
            if other in found or other in more or (is_outside and not may_be_outside):
                continue
            if _is_file(other):
                more.add(other)
                queue += [other] if _names_files(other) else []
    return more


def _names_files(path: Path) -> bool:
    return path.suffix == ".json" and ("config" in path.name or path.name.endswith(".index.json"))


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text that can be no name
        return False


def _names_in(path: Path) -> set[tuple[str, bool]]:
    """Return the texts in a JSON file, and whether a load opens a file of that name outside the folder."""
    found: set[tuple[str, bool]] = set()
    for key, text in _texts(_json(path)):
        if 0 < len(text) < 1000 and "\0" not in text:
            found.add((text, key in ("weight_map", "fast_tokenizer_files")))
    return found


def _json(path: Path) -> Any:
    """Return the value of a JSON file; None for one that transformers will refuse too."""
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return None
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None


def _texts(value: Any) -> Iterator[tuple[str, str]]:
    """Yield (key, text) for each text of a JSON value; below `weight_map` and `auto_map` that is the key."""
    stack = [("", value)]
    while stack:
        key, inner = stack.pop()
        if isinstance(inner, str):
            yield key, inner
        elif isinstance(inner, dict):
            kept = key if key in ("weight_map", "auto_map") else ""
            stack += reversed([(kept or str(name), each) for name, each in inner.items()])
        elif isinstance(inner, list):
            stack += reversed([(key, each) for each in inner])


def check_revision(checkpoint: Checkpoint, runtime: Runtime) -> None:
    """Raise ConfigError if code of a Hub repository may be run and its commit is not given."""
    if runtime.trust_remote_code and not checkpoint.is_folder and not is_commit(checkpoint.revision):
        raise ConfigError(
            f"{checkpoint.location}: trust_remote_code needs a pinned revision, so that the code that runs is"
            " the code that was read: pass org/name@<40-hex commit>"
        )


def check_code(checkpoint: Checkpoint, runtime: Runtime) -> str | None:
    """Return the other repository whose code a checkpoint runs, if it runs any.

    Raises:
        ConfigError: If that code is not pinned by `code_revision`, or comes from several repositories; if
            `code_revision` is given and there is none.
    """
    where, given = checkpoint.location, runtime.code_revision
    if given is not None and not runtime.trust_remote_code:
        raise ConfigError(
            f"{where}: option 'code_revision' pins code that runs; pass --trust-remote-code too"
        )
    found = other_code(checkpoint, runtime) if runtime.trust_remote_code else {}
    if not found:
        if given is not None:
            raise ConfigError(
                f"{where}: option 'code_revision': its configs name no code of another repository"
            )
        return None
    repositories = sorted(found)
    if len(repositories) > 1:
        raise ConfigError(
            f"{where}: it runs code of several repositories ({', '.join(repositories)}), which one commit"
            " does not pin; copy their files into a folder with it, and take `org/name--` out of its configs"
        )
    if given is None:
        raise ConfigError(
            f"{where}: {found[repositories[0]]} runs code of another repository, which may change: pass"
            f" -M code_revision=<40-hex commit of {repositories[0]}> (hf:, dpo:, process:), or copy the file"
            " into the folder"
        )
    return repositories[0]


def runtimes_for(checkpoints: Sequence[Checkpoint], runtime: Runtime) -> list[Runtime]:
    """Return how each of several checkpoints is run; `code_revision` is for those that run such code.

    What is refused is refused here, before any of their code runs.

    Raises:
        ConfigError: As `pin_of` does.
    """
    found = []
    for checkpoint in checkpoints:
        check_revision(checkpoint, runtime)
    is_run = runtime.trust_remote_code
    adapters = [find_adapter(checkpoint, runtime) if is_run else None for checkpoint in checkpoints]
    run = [c if a is None else a.base for c, a in zip(checkpoints, adapters, strict=True)]
    needs = [is_run and bool(other_code(c, runtime)) for c in run]
    for checkpoint, needed in zip(run, needs, strict=True):
        own = replace(runtime, code_revision=None) if any(needs) and not needed else runtime
        check_code(checkpoint, own)
        found.append(own)
    return found


def other_code(checkpoint: Checkpoint, runtime: Runtime) -> dict[str, str]:
    """Return repository -> the first entry that names its code, over the configs of a checkpoint.

    On the Hub, code of the checkpoint's own repository counts beside that of another: one `code_revision`
    would be asked of both.
    """
    found: dict[str, str] = {}
    is_mixed = False
    for path in _configs(checkpoint, runtime):
        for text in (text for key, text in _texts(_json(path)) if key == "auto_map"):
            repository, dashes, _ = text.partition("--")
            if dashes and (checkpoint.is_folder or repository != checkpoint.location):
                found.setdefault(repository, f"{path.name} ({text})")
            elif not checkpoint.is_folder:
                is_mixed = True
    if found and is_mixed:
        found[checkpoint.location] = "its own"
    return found


def _configs(checkpoint: Checkpoint, runtime: Runtime) -> list[Path]:
    """Return the files of a checkpoint that may name code."""
    if checkpoint.is_folder:
        return [
            p for p in sorted(Path(checkpoint.location).glob("*.json")) if p.is_file() and "config" in p.name
        ]
    return [path for name in _CONFIGS if (path := on_hub(checkpoint, name, runtime)) is not None]


def _commit(checkpoint: Checkpoint, runtime: Runtime) -> str:
    """Return the commit that a revision means now; all files are then read at this one."""
    if is_commit(checkpoint.revision):
        return str(checkpoint.revision)
    name = checkpoint.gguf_file or "config.json"
    found_in = (on_hub(checkpoint, each, runtime) for each in (name, ADAPTER_CONFIG))
    path = next((p for p in found_in if p is not None), None) or on_hub(checkpoint, name, runtime, must=True)
    found = re.search(r"/snapshots/([0-9a-f]{40})/", path.as_posix() if path else "")
    if found is None:
        raise ConfigError(
            f"{checkpoint.location}: its commit is unknown; pass {checkpoint.location}@<40-hex commit>"
        )
    return found[1]


def _gguf_source(checkpoint: Checkpoint) -> str:
    """Return what names the GGUF file for transformers, which would take one of the current folder first."""
    name = str(checkpoint.gguf_file)
    if checkpoint.is_folder:
        return str((Path(checkpoint.location) / name).resolve())
    if Path(name).is_file():
        raise ConfigError(
            f"{checkpoint.location}: there is a file {name} in the current folder; run it elsewhere"
        )
    return name
