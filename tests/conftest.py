"""Shared fixtures."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from tiny_models import make_checkpoint, tokenizers_by_kind  # noqa: F401  (fixtures for all folders)

from rmbench.core.registry import Registry

# Before anything imports the hub client, which reads them once: no test reaches a hub.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

# No test is timed: machines are shared and noisy.
settings.register_profile("rmbench", deadline=None)
settings.load_profile("rmbench")

REPO = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real evaluation data in its upstream layout; it is not part of the project."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real evaluation data is not at {folder.relative_to(REPO.parent.parent)}")
    return folder


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes a user's score store."""
    monkeypatch.setenv("RMBENCH_STORE", str(tmp_path_factory.mktemp("store")))


@pytest.fixture
def forgetful() -> Iterator[None]:
    """What files register in a test is forgotten after it: the next one may use the same names."""
    yield
    ours = [module for name, module in sys.modules.items() if name.partition(".")[0] == "rmbench"]
    for registry in [x for module in ours for x in vars(module).values() if isinstance(x, Registry)]:
        for name in [n for n, source in registry._sources.items() if source.startswith("_rmbench_file_")]:
            registry._entries.pop(name, None)
            registry._sources.pop(name, None)
