"""`builtin:NAME`: models that come with the package."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from rmbench.errors import UnknownNameError
from rmbench.models.linear import LinearReward
from rmbench.models.runtime import Runtime

_FOLDER = Path(str(files("rmbench"))) / "_data" / "builtin"
LINEAR_FILE = _FOLDER / "linear.npz"
TINY_FOLDER = _FOLDER / "tiny"


def load_builtin(name: str, *, runtime: Runtime) -> Any:
    """Return the shipped model called `name`.

    Raises:
        UnknownNameError: If none is called that.
        ConfigError: If `tiny` is asked for without torch and transformers.
    """
    if name == "linear":
        return LinearReward(LINEAR_FILE)
    if name != "tiny":
        raise UnknownNameError("builtin model", name, ["linear", "tiny"])
    # Only here: it imports torch, which `linear` does without.
    from rmbench.models import SCHEMES

    return SCHEMES.get("hf")(f"builtin:{name}", runtime=runtime)


def shipped_checkpoint(name: str) -> Path:
    """Return the folder of the shipped Hugging Face model called `name`.

    Raises:
        UnknownNameError: If none is called that.
    """
    if name != "tiny":
        raise UnknownNameError("transformer of the package", name, ["tiny"], f"builtin:{name}")
    return TINY_FOLDER
