"""Sdist, wheel and an environment with the wheel, built once for all tests, far from the repository.

The worker processes of one run of pytest share them: the first that asks builds, under a lock.
"""

import os
import shutil
import site
import subprocess
import sys
import tarfile
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

ROOT = Path(__file__).resolve().parent.parent
BESIDE_THE_CODE = ("CHANGELOG.md", "LICENSE", "MANIFEST.in", "README.md", "pyproject.toml", "setup.py")
BUILD = "import sys, setuptools.build_meta as build; getattr(build, 'build_' + sys.argv[1])(sys.argv[2])"
LONGEST_S = 300


def finished(command: list[str], folder: Path, **environment: str) -> str:
    """Return what a command printed; it knows nothing of the repository."""
    ours = {k: v for k, v in os.environ.items() if not k.startswith(("RMBENCH_", "PYTHON"))}
    done = subprocess.run(
        command, cwd=folder, env={**ours, **environment}, capture_output=True, text=True, timeout=LONGEST_S
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def built(what: str, source: Path, out: Path) -> Path:
    """Return the `sdist` or `wheel` of a source tree, made offline by the installed setuptools."""
    out.mkdir(exist_ok=True)
    finished([sys.executable, "-c", BUILD, what, str(out)], source)
    (made,) = out.iterdir()
    return made


@dataclass(frozen=True)
class Built:
    """What was built, all in one folder."""

    folder: Path

    @property
    def source(self) -> Path:
        """A copy of the checkout: a build leaves things behind, and takes along what an earlier one left."""
        return self.folder / "source"

    @property
    def sdist(self) -> Path:
        (made,) = (self.folder / "sdist").iterdir()
        return made

    @property
    def wheel(self) -> Path:
        """The wheel that pip makes where it gets the sdist."""
        (made,) = (self.folder / "from-sdist").iterdir()
        return made

    @property
    def programs(self) -> Path:
        """The programs of an environment with the wheel, and all else from the one that runs the tests."""
        return self.folder / "env" / ("Scripts" if os.name == "nt" else "bin")


@pytest.fixture(scope="session")
def built_once(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """The wheel, installed: built by the first worker process that asks."""
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own
    made, done = Built(shared / "built"), shared / "built" / "done"
    with FileLock(shared / "built.lock"):
        if not done.exists():
            _build(made)
            done.touch()
    return made


def _build(made: Built) -> None:
    made.source.mkdir(parents=True)
    for name in BESIDE_THE_CODE:
        shutil.copy(ROOT / name, made.source)
    for name in ("rmbench", "tasks", "leaderboards", "tests"):
        shutil.copytree(ROOT / name, made.source / name, ignore=shutil.ignore_patterns("__pycache__"))
    with tarfile.open(built("sdist", made.source, made.folder / "sdist")) as archive:
        archive.extractall(made.folder / "unpacked", filter="data")
    (unpacked,) = (made.folder / "unpacked").iterdir()
    built("wheel", unpacked, made.folder / "from-sdist")
    _install(made)


def _install(made: Built) -> None:
    venv.create(made.folder / "env", symlinks=os.name != "nt")
    python = str(made.programs / "python")
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    finished([*pip, "install", "--no-deps", "--no-index", "--no-compile", str(made.wheel)], made.folder)
    asked = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(finished([python, "-c", asked], made.folder).strip())
    # Only folders on the path, after the wheel: an editable install's finder, which is a .pth there, stays off.
    theirs = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    (packages / "dependencies.pth").write_text("\n".join(theirs) + "\n", encoding="utf-8")
