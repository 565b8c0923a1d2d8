"""Identity of models made in Python: that of the code that is loaded, whatever its file says by now."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from rmbench.core.files import digest
from rmbench.core.loaded import code_of

REPO = Path(__file__).resolve().parents[2]
MODEL = """\
import helper
{globals}

class Mine:
    def fingerprint(self):
        return {{"kind": "mine"}}

    def score(self, batch):
        return [{reward} for turns in batch]
"""


def write(folder: Path, reward: str = "1.0", values: str = "") -> Path:
    path = folder / "my_models.py"
    path.write_text(MODEL.format(reward=reward, globals=values))
    (folder / "helper.py").write_text("x = 1\n")
    return path


def told(code: str, folder: Path) -> list[str]:
    """Return what `code` prints, by line, in a new Python that `given` and `write` models in `folder`."""
    prelude = (
        "import sys; from pathlib import Path\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from rmbench.errors import ConfigError\n"
        "from rmbench.models.resolve import given_model\n"
        "from test_loaded import write\n"
        "here = Path()\n"
        "def given(model):\n"
        "    try:\n"
        "        return dict(given_model(model).identity)\n"
        "    except ConfigError as error:\n"
        "        return str(error)\n"
    )
    where = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), str(REPO)])}
    done = subprocess.run(
        [sys.executable, "-P", "-c", prelude + code], capture_output=True, text=True, env=where, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def source_of(folder: Path) -> str:
    names = ("helper.py", "my_models.py")
    hashes = {name: sha256((folder / name).read_bytes()).hexdigest() for name in names}
    return str({"source_sha256": digest(["files", hashes])})


def test_a_module_that_did_not_change_has_the_identity_of_its_file(tmp_path: Path) -> None:
    write(tmp_path)
    assert told("import my_models; print(given(my_models.Mine()))", tmp_path) == [source_of(tmp_path)]


def test_a_file_that_was_edited_after_its_import_is_not_what_counts(tmp_path: Path) -> None:
    write(tmp_path)
    code = (
        "import my_models\n"
        "model = my_models.Mine()\n"
        "print(given(model))\n"
        "write(here, '2.0')\n"
        "print(given(model))\n"
        "write(here, '3.0')\n"
        "print(given(model))\n"
        "del sys.modules['my_models']\n"
        "import my_models\n"
        "print(given(my_models.Mine()))\n"
    )
    first, edited, again, imported = told(code, tmp_path)
    assert edited == again, "what is loaded is the same"
    assert len({first, edited, imported, source_of(tmp_path)}) == 4
    assert all("bytecode_sha256" in each for each in (edited, imported))


def test_a_helper_that_was_edited_after_its_import_is_not_what_counts(tmp_path: Path) -> None:
    write(tmp_path, "helper.x")
    code = (
        "import my_models, helper\n"
        "print(given(my_models.Mine()))\n"
        "Path('helper.py').write_text('x = 2')\n"
        "print(given(my_models.Mine()))\n"
        "helper.x = 2\n"
        "print(given(my_models.Mine()))\n"
    )
    first, edited, other = told(code, tmp_path)
    assert len({first, edited, other, source_of(tmp_path)}) == 4


def test_a_forked_process_has_modules_of_its_parents_age(tmp_path: Path) -> None:
    """The file changes between the import and the fork: the child is younger than the change."""
    write(tmp_path)
    code = (
        "import multiprocessing, os, sys, time, my_models\n"
        "with open('my_models.py', 'a') as file:\n    file.write('# changed')\n"
        "time.sleep(0.1)\n"
        "def child():\n"
        "    from rmbench.models.resolve import given_model\n"
        "    print(given_model(my_models.Mine()).identity, flush=True)\n"
        "process = multiprocessing.get_context('fork').Process(target=child)\n"
        "process.start()\n"
        "process.join()\n"
    )
    where = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(REPO)])}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        capture_output=True,
        text=True,
        env=where,
        cwd=tmp_path,
        check=True,
    )
    assert "bytecode_sha256" in done.stdout, done.stderr


@pytest.mark.parametrize(
    "values",
    ["import re\nused = re.compile('{}')", "import numpy as np\nused = np.arange(float('{}'))",
     "used = ['{}']", "def used():\n    return '{}'", "class used:\n    x = '{}'",
     "import functools\nused = functools.partial(len, '{}')",
     "from dataclasses import dataclass\n@dataclass\nclass C:\n    x: str\nused = C('{}')"],
    ids=["pattern", "array", "list", "function", "class", "partial", "dataclass"],
)  # fmt: skip
def test_values_and_functions_that_the_code_uses_count(tmp_path: Path, values: str) -> None:
    code = (
        f"texts = [{values!r}.format(n) for n in (1, 1, 2)]\n"
        "for text in texts:\n"
        "    write(here, 'used', text)\n"
        "    sys.modules.pop('my_models', None); sys.dont_write_bytecode = True\n"
        "    import my_models, importlib; importlib.invalidate_caches()\n"
        "    print(given(my_models.Mine()))\n"
    )
    first, same, other = told(code, tmp_path)
    assert "bytecode_sha256" in first
    assert first == same != other


def test_what_cannot_be_known_is_refused_in_one_line(tmp_path: Path) -> None:
    write(tmp_path, "used", "import random\nused = random.Random(1)")
    code = (
        "import my_models\n"
        "print('source' in str(given(my_models.Mine())))\n"
        "write(here, 'used', 'import random')\n"
        "print(given(my_models.Mine()))\n"
        "Path('my_models.py').unlink()\n"
        "print(given(my_models.Mine()))\n"
    )
    known, edited, gone = told(code, tmp_path)
    assert known == "True"
    assert "my_models.py may have changed since it was imported; start Python again ('used'" in edited
    assert "my_models.py is gone; start Python again ('used'" in gone


def test_a_registered_model_has_the_identity_of_its_code(tmp_path: Path) -> None:
    path = write(tmp_path)
    text = "from rmbench import register_reward_model\n" + path.read_text()
    path.write_text(text.replace("class Mine", "@register_reward_model('mine')\nclass Mine"))
    code = (
        "import my_models\n"
        "from rmbench.models.resolve import fingerprint_of, load_model\n"
        "print(sorted(fingerprint_of(load_model('mine')).items()))\n"
    )
    first = told(code, tmp_path)
    assert "'source', 'my_models:Mine'" in first[0]
    path.write_text(path.read_text().replace("1.0", "2.0"))
    assert told(code, tmp_path) != first
    (tmp_path / "helper.py").write_text("x = 5\n")
    assert len({*told(code, tmp_path), *first}) == 2


def identity(text: str, **values: Any) -> dict[str, str]:
    """Return the identity of `Cell`, typed into a notebook."""
    namespace: dict[str, Any] = {"__name__": "__main__", **values}
    exec(compile(text, "<cell>", "exec"), namespace)  # noqa: S102
    return code_of(namespace["Cell"], "__main__", "model Cell")


CELL = """
WORDS = {"a": 1}
SHAPE = (1, 2)

def helped(text):
    def inner():
        return len(text)
    return inner()

def made(n):
    return lambda text: n

class Cell:
    scale = staticmethod(made(3))

    def score(self, batch):
        try:
            return [helped(t) * len(WORDS) * SHAPE[0] for t in batch]
        except ValueError:
            return []
"""


@pytest.mark.parametrize(
    "change",
    [('"a": 1', '"a": 2'), ("(1, 2)", "(1, 3)"), ("len(text)", "-len(text)"), ("made(3)", "made(4)"),
     ("except ValueError", "except KeyError"), ("for t in batch", "for t in batch if t"),
     ("return []", "return [0.0]")],
    ids=lambda change: change[1],
)  # fmt: skip
def test_what_a_notebooks_class_uses_in_other_cells_counts(change: tuple[str, str]) -> None:
    first = identity(CELL)
    assert list(first) == ["bytecode_sha256"]
    assert change[0] in CELL
    assert identity(CELL) == first
    assert identity("# a comment\n" + CELL) == first, "what does not run does not count"
    assert identity(CELL.replace(*change)) != first


def test_a_cell_is_the_same_in_every_process() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from test_loaded import CELL, identity; print(identity(CELL.replace('1, 2', '{\"x\", \"y\"}')))\n"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONPATH": str(REPO), "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2", "3")
    }  # fmt: skip
    assert len(found) == 1


def test_objects_that_a_notebook_made_are_left_to_the_fingerprint() -> None:
    text = "class Cell:\n    def score(self, batch):\n        return [weights for _ in batch]\n"
    assert identity(text, weights=object()) == identity(text, weights=object())
