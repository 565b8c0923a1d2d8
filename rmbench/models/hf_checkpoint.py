"""Where a Hugging Face model is, and what pins it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from rmbench.canon import digest
from rmbench.errors import ConfigError
from rmbench.files import sha256_file
from rmbench.models.builtin import shipped_checkpoint
from rmbench.models.runtime import Runtime

_HASHED_SUFFIXES = (".safetensors", ".gguf", ".jinja", ".py", ".model")
_HASHED_NAMES = frozenset(
    {
        "adapter_config.json", "added_tokens.json", "chat_template.json", "config.json", "merges.txt",
        "special_tokens_map.json", "tokenizer.json", "tokenizer_config.json", "vocab.json", "vocab.txt",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a model is."""

    location: str
    """A folder, or `org/name`."""
    revision: str | None
    is_folder: bool
    gguf_file: str | None = None
    """A quantised file inside it, read instead of safetensors."""
    given_name: str | None = None
    """The name in tables, where it is not that of the folder."""

    @property
    def name(self) -> str:
        """The name in tables."""
        if self.given_name is not None:
            return self.given_name
        return Path(self.location).resolve().name if self.is_folder else self.location


def find_checkpoint(argument: str, gguf_file: str | None) -> Checkpoint:
    """Return the checkpoint that `FOLDER`, `org/name[@revision]` or `builtin:NAME` means.

    Raises:
        ConfigError: If it is none of them, or the folder has no weights that can be read safely.
    """
    if argument.startswith("builtin:") and gguf_file is None:
        shipped = shipped_checkpoint(argument.removeprefix("builtin:"))
        return Checkpoint(str(shipped), None, is_folder=True, given_name=argument)
    folder = Path(argument).expanduser()
    if not folder.is_dir():
        name, _, revision = argument.partition("@")
        if name.count("/") != 1 or name.startswith((".", "/", "~")):
            raise ConfigError(
                f"hf:{argument}: there is no such folder; on the Hub it would be org/name[@revision]"
            )
        if not revision and Path(name).parent.is_dir():
            # Most likely a mistyped path: asking the Hub first would cost half a minute of retries.
            near = [p.name for p in Path(name).parent.iterdir() if p.is_dir()]
            close = get_close_matches(Path(name).name, near, n=1)
            hint = f" Did you mean {Path(name).parent / close[0]}?" if close else ""
            raise ConfigError(
                f"hf:{argument}: there is no such folder.{hint} To take it from the Hub, say {name}@main"
            )
        return Checkpoint(name, revision or None, is_folder=False, gguf_file=gguf_file)
    checkpoint = Checkpoint(str(folder), None, is_folder=True, gguf_file=gguf_file)
    if gguf_file is not None:
        if not (folder / gguf_file).is_file():
            raise ConfigError(f"{folder}: there is no file {gguf_file}")
    elif not any(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.glob("*.bin"))
        why = (
            f"only {pickles[0]}, a pickle that could run code; save it again as safetensors"
            if pickles
            else "none"
        )
        raise ConfigError(f"{folder}: expected weights as *.safetensors; found {why}")
    return checkpoint


def source_of(checkpoint: Checkpoint, runtime: Runtime) -> dict[str, Any]:
    """Return what every `from_pretrained` is told of where a checkpoint is.

    Raises:
        ConfigError: If its code may be run and is not pinned.
    """
    pinned = checkpoint.is_folder or re.fullmatch(r"[0-9a-f]{40}", checkpoint.revision or "")
    if runtime.trust_remote_code and not pinned:
        raise ConfigError(
            f"{checkpoint.location}: trust_remote_code needs a pinned revision, so that the code that runs is"
            " the code that was read: pass org/name@<40-hex commit>"
        )
    source: dict[str, Any] = {
        "revision": checkpoint.revision,
        "local_files_only": runtime.offline,
        "trust_remote_code": runtime.trust_remote_code,
    }
    return source | ({"gguf_file": checkpoint.gguf_file} if checkpoint.gguf_file is not None else {})


def weights_identity(checkpoint: Checkpoint, config: Any) -> Mapping[str, str]:
    """Return what pins the weights: a Hub commit, or a hash of a folder's weights, config and tokenizer."""
    commit = None if checkpoint.is_folder else getattr(config, "_commit_hash", None)
    if not checkpoint.is_folder and commit:
        return {"weights": f"{checkpoint.location}@{commit}"}
    if not checkpoint.is_folder:
        raise ConfigError(
            f"{checkpoint.location}: its commit is unknown; pass {checkpoint.location}@<40-hex commit>"
        )
    folder = Path(checkpoint.location)
    wanted = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (path.name in _HASHED_NAMES or path.suffix in _HASHED_SUFFIXES)
        and not any(part.startswith((".", "checkpoint-")) for part in path.relative_to(folder).parts)
    ]  # fmt: skip
    if checkpoint.gguf_file is not None:
        wanted = [path for path in wanted if path.suffix != ".gguf" or path.name == checkpoint.gguf_file]
    rows = [[path.relative_to(folder).as_posix(), sha256_file(path)] for path in wanted]
    return {"weights": f"sha256:{digest(rows)}"}
