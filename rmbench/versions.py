"""Versions of the packages that a run has loaded."""

import platform
import sys
from importlib.metadata import PackageNotFoundError, version


def package_versions() -> dict[str, str]:
    """Return the versions of what this run has loaded, for its provenance."""
    found = {"python": platform.python_version()}
    for name in ("rmbench", "numpy", "scipy", "torch", "transformers"):
        # Only what this run has loaded: a version that played no part would mislead.
        if name in sys.modules:
            try:
                found[name] = version(name)
            except PackageNotFoundError:
                continue
    return found
