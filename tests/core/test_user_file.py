"""A user's file: the bytes that run are the bytes that were hashed, with the modules of its folder."""

import importlib
import inspect
import os
import py_compile
import subprocess
import sys
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

from rmbench.core.registry import Registry
from rmbench.core.user_file import import_file, module_at, place_of
from rmbench.errors import ConfigError

REPO = Path(__file__).resolve().parents[2]


def load(path: Path) -> tuple[Any, str]:
    return import_file(path, "--model")


def save(path: Path, text: str, *, like: Path | None = None) -> None:
    """Write a file; with the times of `like` where that is given, as two saves in one second have them."""
    times = like.stat() if like is not None else None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    if times is not None:
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))


def in_a_new_process(code: str, *path: Path, here: Path | None = None) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, [*path, REPO]))}
    prelude = (
        "from pathlib import Path; import os, sys\n"
        "from rmbench.core.user_file import import_file\n"
        "from rmbench.errors import ConfigError\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", prelude + code],
        capture_output=True,
        text=True,
        env=environment,
        cwd=here,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def caches(folder: Path) -> list[Path]:
    return list(folder.rglob("__pycache__"))


def test_a_file_of_the_same_size_and_time_is_not_run_from_old_bytecode(tmp_path: Path) -> None:
    path = tmp_path / "my_rm.py"
    save(path, "reward = 1.0\n")
    old = Path(py_compile.compile(str(path), doraise=True) or "")
    assert old.is_file()
    save(path, "reward = 2.0\n", like=path)
    module, source = load(path)
    assert module.reward == 2.0
    assert source == sha256(path.read_bytes()).hexdigest()
    save(path, "reward = 3.0\n", like=path)
    assert load(path)[0].reward == 3.0
    assert module.reward == 2.0, "two versions live side by side"


def test_a_helper_of_the_same_size_and_time_is_not_run_from_old_bytecode(tmp_path: Path) -> None:
    path, helper = tmp_path / "my_rm.py", tmp_path / "helper.py"
    save(path, "from helper import reward\n")
    save(helper, "reward = 1.0\n")
    py_compile.compile(str(helper), doraise=True)
    save(helper, "reward = 2.0\n", like=helper)
    assert load(path)[0].reward == 2.0


def test_no_bytecode_is_left_beside_users_files(tmp_path: Path) -> None:
    save(tmp_path / "my_rm.py", "import helper, pack.part\n")
    save(tmp_path / "helper.py", "")
    save(tmp_path / "pack" / "__init__.py", "")
    save(tmp_path / "pack" / "part.py", "")
    prelude = f"import sys; from pathlib import Path; sys.path.insert(0, {str(REPO)!r})\n"
    prelude += "from rmbench.core.user_file import import_file\n"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-c", prelude + "import_file(Path('my_rm.py'), ''); print(sys.dont_write_bytecode)"],
        cwd=tmp_path, capture_output=True, text=True, check=True, env=environment,
    )  # fmt: skip
    assert done.stdout.strip() == "False"
    assert caches(tmp_path) == []


def test_the_source_that_ran_is_shown_after_the_file_changed(tmp_path: Path) -> None:
    path = tmp_path / "my_rm.py"
    save(path, "def score():\n    return 'first'\n")
    module, _ = load(path)
    save(path, "# longer\n\n\ndef score():\n    return 'other text'\n")
    assert inspect.getsource(module.score) == "def score():\n    return 'first'\n"
    assert inspect.getsource(module) == "def score():\n    return 'first'\n"


def test_a_changed_helper_is_another_identity_and_the_old_object_keeps_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "my_rm.py"
    save(path, "import helper\n\ndef score():\n    return helper.reward\n\n"
               "def late():\n    from pack import part\n    return part.reward\n")  # fmt: skip
    save(tmp_path / "helper.py", "reward = 1\n")
    save(tmp_path / "pack" / "__init__.py", "")
    save(tmp_path / "pack" / "part.py", "reward = 10\n")
    first, hash_of_first = load(path)
    assert hash_of_first != sha256(path.read_bytes()).hexdigest()
    save(tmp_path / "helper.py", "reward = 2\n")
    second, hash_of_second = load(path)
    save(tmp_path / "pack" / "part.py", "reward = 20\n")
    third, hash_of_third = load(path)
    assert [m.score() for m in (first, second, third)] == [1, 2, 2]
    assert [m.late() for m in (third, second, first)] == [20, 10, 10], "a late import runs what was hashed"
    assert len({hash_of_first, hash_of_second, hash_of_third}) == 3
    save(tmp_path / "helper.py", "reward = 1\n")
    save(tmp_path / "pack" / "part.py", "reward = 10\n")
    again, hash_of_again = load(path)
    assert (again, hash_of_again) == (first, hash_of_first)
    assert not {"helper", "pack"} & sys.modules.keys()


def test_helpers_of_helpers_count(tmp_path: Path) -> None:
    path = tmp_path / "my_rm.py"
    save(path, "import one\n")
    save(tmp_path / "one.py", "def f():\n    import two\n    return two.x\n")
    save(tmp_path / "two.py", "x = 1\n")
    module, first = load(path)
    save(tmp_path / "two.py", "x = 2\n")
    changed, second = load(path)
    assert first != second
    assert (module.one.f(), changed.one.f()) == (1, 2)


def test_files_of_two_folders_have_their_own_helpers(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save(tmp_path / name / "my_rm.py", "from common import word\n")
        save(tmp_path / name / "common.py", f"word = {name!r}\n")
    assert [load(tmp_path / name / "my_rm.py")[0].word for name in ("a", "b")] == ["a", "b"]


def test_relative_imports_and_packages(tmp_path: Path) -> None:
    path = tmp_path / "my_rm.py"
    save(path, "from . import helper\nfrom .pack import part as p\nimport pack.part as q, pack.deep.low\n"
               "import bare.leaf\nfrom pack import *\n")  # fmt: skip
    save(tmp_path / "helper.py", "reward = 1\n")
    save(tmp_path / "pack" / "__init__.py", "from .part import value as starred\n")
    save(tmp_path / "pack" / "part.py", "from .. import helper\nfrom .deep.low import value\n")
    save(tmp_path / "pack" / "deep" / "__init__.py", "")
    save(tmp_path / "pack" / "deep" / "low.py", "value = 7\n")
    save(tmp_path / "bare" / "leaf.py", "value = 9\n")
    module, first = load(path)
    assert module.p is module.q
    assert module.p.helper is module.helper
    assert (module.pack.deep.low.value, module.starred, module.bare.leaf.value) == (7, 7, 9)
    found = {first}
    for changed in ("helper.py", "pack/deep/low.py", "bare/leaf.py", "pack/new.py"):
        save(tmp_path / changed, "value = reward = 8  # changed\n")
        found.add(load(path)[1])
    assert len(found) == 5


def test_modules_that_a_package_picks_at_run_time_belong_to_it(tmp_path: Path) -> None:
    path = tmp_path / "my_rm.py"
    save(path, "import pack\n\nfound = pack.found\n")
    save(tmp_path / "pack" / "__init__.py", "import importlib, pkgutil\nfound = [importlib.import_module("
         "f'{__name__}.{m.name}').x for m in pkgutil.iter_modules(__path__)]\n")  # fmt: skip
    save(tmp_path / "pack" / "a.py", "x = 1\n")
    module, first = load(path)
    assert module.found == [1]
    save(tmp_path / "pack" / "a.py", "x = 2\n")
    module, second = load(path)
    assert module.found == [2]
    assert first != second


def test_a_helper_that_the_program_imported_earlier_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    save(tmp_path / "helper_of_two.py", "reward = 1\n")
    earlier = importlib.import_module("helper_of_two")
    save(tmp_path / "my_rm.py", "import helper_of_two\n\nreward = helper_of_two.reward\n")
    save(tmp_path / "helper_of_two.py", "reward = 2\n")
    assert load(tmp_path / "my_rm.py")[0].reward == 2
    assert sys.modules["helper_of_two"] is earlier
    assert earlier.reward == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import importlib\nx = importlib.import_module('helper')\n",
            "line 2: 'helper' lies beside the file",
        ),
        ("from importlib import import_module as i\nx = i('hel' + 'per')\n", r"helper lies beside my_rm\.py"),
        ("x = __import__('hel' + 'per')\n", r"write `import helper` in my_rm\.py"),
    ],
)
def test_an_import_that_the_text_does_not_show_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    save(tmp_path / "helper.py", "")
    save(tmp_path / "my_rm.py", text)
    try:
        with pytest.raises(ConfigError, match=message):
            load(tmp_path / "my_rm.py")
    finally:
        sys.modules.pop("helper", None)


def test_a_late_import_that_the_text_does_not_show_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "my_rm.py", "def f(name):\n    return __import__(name)\n")
    module, _ = load(tmp_path / "my_rm.py")
    assert module.f("json").__name__ == "json"
    save(tmp_path / "newer.py", "")
    with pytest.raises(ImportError, match=r"newer lies beside my_rm\.py"):
        module.f("newer")
    save(tmp_path / "other.py", "from importlib import import_module as f\n")
    assert load(tmp_path / "other.py")[0].f("json").__name__ == "json"
    save(
        tmp_path / "third.py", "import importlib\n\ndef f(name):\n    return importlib.import_module(name)\n"
    )
    module, _ = load(tmp_path / "third.py")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ImportError, match=r"newer lies beside third\.py"):
        module.f("newer")
    assert importlib.import_module("newer"), "others may"
    del sys.modules["newer"]


def test_names_of_python_of_rmbench_and_of_installed_packages_keep_their_meaning(tmp_path: Path) -> None:
    for name in ("json.py", "rmbench.py"):
        save(tmp_path / name, "raise RuntimeError\n")
    save(tmp_path / "numpy" / "notes.py", "raise RuntimeError\n")
    path = tmp_path / "my_rm.py"
    save(path, "import json, numpy, rmbench.types\n")
    module, source = load(path)
    assert module.numpy is sys.modules["numpy"]
    assert module.rmbench is sys.modules["rmbench"]
    assert source == sha256(path.read_bytes()).hexdigest()


def test_what_pip_installed_beside_the_file_is_not_the_files_own(tmp_path: Path) -> None:
    save(tmp_path / "vendored.py", "x = 1\n")
    save(
        tmp_path / "vendored-1.dist-info" / "METADATA", "Metadata-Version: 2.1\nName: vendored\nVersion: 1\n"
    )
    save(tmp_path / "vendored-1.dist-info" / "RECORD", "vendored.py,,\nvendored-1.dist-info/RECORD,,\n")
    save(tmp_path / "my_rm.py", "import vendored\n")
    code = "module, source = import_file(Path('my_rm.py'), ''); print(module.vendored.__name__, source)"
    expected = f"vendored {sha256(b'import vendored' + bytes([10])).hexdigest()}"
    assert in_a_new_process(code, tmp_path, here=tmp_path) == expected


def test_own_modules_elsewhere_on_the_path_count(tmp_path: Path) -> None:
    save(tmp_path / "project" / "my_rm.py", "def f():\n    import mylib.deep\n    return mylib.deep.x\n")
    save(tmp_path / "lib" / "mylib" / "__init__.py", "")
    deep = tmp_path / "lib" / "mylib" / "deep.py"
    save(deep, "x = 1\n")
    code = "module, source = import_file(Path('project/my_rm.py'), ''); print(source, module.f())"
    first = in_a_new_process(code, tmp_path / "lib", here=tmp_path).split()
    save(deep, "x = 2\n")
    second = in_a_new_process(code, tmp_path / "lib", here=tmp_path).split()
    assert (first[1], second[1]) == ("1", "2")
    assert first[0] != second[0]
    edited = code + (
        "\nPath('lib/mylib/deep.py').write_text('x = 3')\n"
        "try:\n    import_file(Path('project/my_rm.py'), '--model x')\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    told = in_a_new_process(edited, tmp_path / "lib", here=tmp_path)
    assert "deep.py may have changed since it was imported; start Python again" in told


def test_own_modules_elsewhere_that_python_ran_from_old_bytecode_are_refused(tmp_path: Path) -> None:
    save(tmp_path / "project" / "my_rm.py", "import elsewhere\n")
    other = tmp_path / "lib" / "elsewhere.py"
    save(other, "x = 1\n")
    py_compile.compile(str(other), doraise=True)
    code = (
        "try:\n    print(import_file(Path('project/my_rm.py'), '--model x')[0].elsewhere.x)\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    assert in_a_new_process(code, tmp_path / "lib", here=tmp_path) == "1"
    save(other, "x = 2\n", like=other)
    told = in_a_new_process(code, tmp_path / "lib", here=tmp_path)
    assert "which is older than" in told
    assert "delete it and start again" in told
    for cache in caches(tmp_path):
        for file in cache.iterdir():
            file.unlink()
    assert in_a_new_process(code, tmp_path / "lib", here=tmp_path) == "2"


def test_an_extension_module_counts(tmp_path: Path) -> None:
    native = tmp_path / f"native{EXTENSION_SUFFIXES[0]}"
    native.write_bytes(b"no library")
    path = tmp_path / "my_rm.py"
    save(path, "def f():\n    import native\n")
    first = load(path)[1]
    native.write_bytes(b"another one")
    assert load(path)[1] != first
    with pytest.raises(ImportError):
        load(path)[0].f()


def test_another_process_finds_the_same_code_or_says_that_it_changed(tmp_path: Path) -> None:
    save(tmp_path / "my_rm.py", "import helper\n")
    save(tmp_path / "helper.py", "def f():\n    return 1\n")
    module, _ = load(tmp_path / "my_rm.py")
    place = place_of(module.helper.f.__module__)
    assert module_at(*place).f() == 1
    code = f"from rmbench.core.user_file import module_at; print(module_at(*{place!r}).f())"
    assert in_a_new_process(code) == "1"
    save(tmp_path / "helper.py", "def f():\n    return 2\n")
    told = in_a_new_process(
        f"from rmbench.core.user_file import module_at\ntry:\n    module_at(*{place!r})\n"
        "except ConfigError as error:\n    print(error)\n"
    )
    assert "it changed, or a module that it imports; run the command again" in told


def test_a_file_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "my_rm.py"
    save(path, "import helper\nraise RuntimeError('stop')\n")
    save(tmp_path / "helper.py", "")
    before = set(sys.modules)
    with pytest.raises(ConfigError, match="importing it raised RuntimeError: stop"):
        load(path)
    assert set(sys.modules) == before
    save(path, "x = (\n")
    with pytest.raises(ConfigError, match="importing it raised SyntaxError"):
        load(path)


def test_what_a_helper_registers_is_found_by_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry: Registry[Any] = Registry("thing")
    monkeypatch.setattr("rmbench.errors.things", registry, raising=False)
    save(tmp_path / "helper.py", "from rmbench.errors import things\n\n@things.register('deep')\n"
         "def deep():\n    return 1\n")  # fmt: skip
    save(tmp_path / "my_rm.py", "import helper\n")
    found, first = registry.find(f"{tmp_path}/my_rm.py:deep", "--x")
    assert found() == 1
    save(tmp_path / "helper.py", (tmp_path / "helper.py").read_text().replace("1", "2"))
    found, second = registry.find(f"{tmp_path}/my_rm.py:deep", "--x")
    assert found() == 2
    assert first != second


def test_names_of_files_need_not_be_names_of_modules(tmp_path: Path) -> None:
    save(tmp_path / "my-rm.v2.py", "from . import helper\nx = helper.x\n")
    save(tmp_path / "helper.py", "x = 3\n")
    assert load(tmp_path / "my-rm.v2.py")[0].x == 3
