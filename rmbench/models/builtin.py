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

    model = SCHEMES.get("hf")(str(TINY_FOLDER), runtime=runtime)
    model.display_name = f"builtin:{name}"
    return model
