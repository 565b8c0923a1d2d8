"""`builtin:NAME`: models that come with the package."""

from importlib.resources import files
from pathlib import Path

from rmbench.errors import UnknownNameError
from rmbench.models.linear import LinearReward

LINEAR_FILE = Path(str(files("rmbench"))) / "_data" / "builtin" / "linear.npz"


def load_builtin(name: str) -> LinearReward:
    """Return the shipped model called `name`."""
    if name != "linear":
        raise UnknownNameError("builtin model", name, ["linear"])
    return LinearReward(LINEAR_FILE)
