"""A Hub cache in a folder, filled by hand: what transformers finds there needs no network."""

import shutil
from pathlib import Path

import pytest


def use_cache(monkeypatch: pytest.MonkeyPatch, cache: Path) -> Path:
    """Let Hub repositories be looked up in `cache` alone."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(cache / "modules"))
    return cache


def put(cache: Path, repository: str, commit: str, folder: Path, branch: str = "main") -> Path:
    """Put a copy of a folder into the cache, as a commit that a branch points to; return the copy."""
    place = cache / f"models--{repository.replace('/', '--')}"
    (place / "refs").mkdir(parents=True, exist_ok=True)
    (place / "refs" / branch).write_text(commit)
    return Path(shutil.copytree(folder, place / "snapshots" / commit))
