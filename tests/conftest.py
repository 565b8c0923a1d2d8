"""Shared fixtures."""

import compileall
import gc
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings
from installed_wheel import built_once  # noqa: F401  (a fixture for all folders)
from tiny_models import make_checkpoint, tokenizers_by_kind  # noqa: F401  (fixtures for all folders)

# Before anything imports the hub client, which reads them once: no test reaches a hub.
os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}

# No test is timed: machines are shared and noisy.
settings.register_profile("rmbench", deadline=None)
settings.load_profile("rmbench")

REPO = Path(__file__).resolve().parent.parent


def pytest_configure(config: pytest.Config) -> None:
    """Compile the package once where Python may not: else each of a hundred processes compiles it again."""
    if sys.dont_write_bytecode and not hasattr(config, "workerinput"):
        compileall.compile_dir(REPO / "rmbench", quiet=2)


def pytest_collection_finish() -> None:
    """Let the collector of garbage pass over what stays to the end, and come less often: a tenth of the time."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real evaluation data in its upstream layout; it is not part of the project."""
    folder = REPO.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"real evaluation data is not at {folder.relative_to(REPO.parent.parent)}")
    return folder


@pytest.fixture(autouse=True)
def _isolated_environment(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test reads or writes a user's score store, and no table is fitted to the tester's terminal."""
    monkeypatch.setenv("RMBENCH_STORE", str(tmp_path_factory.mktemp("store")))
    monkeypatch.delenv("COLUMNS", raising=False)
