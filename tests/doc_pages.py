"""The code that runs pages (`scripts/docs/pages.py`), for the tests of the README and of the documentation."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

DOCS_SCRIPTS = Path(__file__).resolve().parent.parent / "scripts" / "docs"


def script(name: str) -> Any:
    """Return a module of `scripts/docs`, which is no package."""
    found = importlib.util.spec_from_file_location(f"docs_{name}", DOCS_SCRIPTS / f"{name}.py")
    assert found is not None
    assert found.loader is not None
    module: ModuleType = importlib.util.module_from_spec(found)
    sys.modules[module.__name__] = module  # dataclasses look their module up
    found.loader.exec_module(module)
    return module


pages = script("pages")
