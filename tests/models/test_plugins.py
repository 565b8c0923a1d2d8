"""Plug-ins that are really built and installed, seen from a fresh interpreter."""

import json
import os
import py_compile
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rmbench.models.resolve import load_model

PLUGINS = Path(__file__).resolve().parent.parent / "plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Install each set of plug-ins into a folder of its own, offline."""
    root = tmp_path_factory.mktemp("plugins")
    targets = {}
    for name, members in {"good": ["third_party", "broken"], "bad": ["colliding"]}.items():
        sources = [shutil.copytree(PLUGINS / member, root / "source" / member) for member in members]
        targets[name] = root / name
        subprocess.run(
            [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-build-isolation",
             "--disable-pip-version-check", "--target", str(targets[name]), *map(str, sources)],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    return targets


def run(code: str, plugins: Path) -> list[str]:
    """Run `code` where the plug-ins are installed; return what it prints, by line."""
    environment = os.environ | {"PYTHONPATH": str(plugins)}
    prelude = (
        "from rmbench.errors import ConfigError\n"
        "from rmbench.models.resolve import list_models\n"
        "from rmbench.models.resolve import fingerprint_of, load_model\n"
        "def told(spec, **options):\n"
        "    try:\n"
        "        return load_model(spec, options)\n"
        "    except ConfigError as error:\n"
        "        return str(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", prelude + code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_an_installed_plugin_is_found_by_name(installed: dict[str, Path]) -> None:
    lines = run(
        "loaded = load_model('exclamations', {'weight': '2'})\n"
        "print(loaded.model.score([[{'role': 'assistant', 'content': 'a!b!'}]]))\n"
        "found = fingerprint_of(loaded)\n"
        "print(len(found.pop('source_sha256')), sorted(found.items()))\n"
        "print(load_model('prefers-short').name)\n"
        "rows = {row.name: row for row in list_models()}\n"
        "print(rows['exclamations'].kind, rows['exclamations'].source, rows['exclamations'].summary)\n"
        "print(told('exclamation'))\n"
        "print(told('exclamations', wait='1'))\n",
        installed["good"],
    )
    assert lines == [
        "[4.0]",
        "64 "
        + str(
            [
                ("distribution", "rmbench-third-party 1.2.3"),
                ("kind", "exclamations"),
                ("option:weight", "2"),
                ("source", "rmbench_third_party:Exclamations"),
                ("version", "1"),
                ("weight", "2.0"),
            ]
        ),
        "prefers-short",
        "reward rmbench_third_party:Exclamations Likes exclamation marks.",
        lines[4],
        "--model exclamations: unknown option 'wait'. Did you mean 'weight'? Known: weight.",
    ]
    assert "Did you mean 'exclamations'?" in lines[4]


def rmbench(arguments: list[str], plugins: Path, here: Path) -> str:
    """Run a command of rmbench where the plug-ins are installed; return what it prints."""
    path = os.pathsep.join([str(plugins), str(Path(__file__).resolve().parents[2])])
    done = subprocess.run(
        [sys.executable, "-m", "rmbench", *arguments], capture_output=True, text=True, check=False, cwd=here,
        env=os.environ | {"PYTHONPATH": path, "RMBENCH_TASKS_DIR": str(here)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


TASK = """\
name: tastes
version: 1
kinds: [top-gap, best_of_n]
summary: Answers of several flavours.
source: https://example.org
license: CC0-1.0
data: {reader: flavours, options: {flavour: sour}}
primary: top_gap
"""
ROWS = [
    {"id": "a", "prompt": "One?", "answers": {"x!!!": "sour", "Y!": "sweet"}},
    {"id": "b", "prompt": "Two?", "answers": {"x": "sweet", "y!!": "sour", "Z": "salty"}},
    {"id": "c", "prompt": "Three?", "answers": {"x!": "sour", "Y": "sweet"}},
]


def test_one_of_each_works_from_a_package(installed: dict[str, Path], tmp_path: Path) -> None:
    """A kind, a reader with options, a scheme and a verifier: in eval, tasks, compare, report and a board."""
    (tmp_path / "tastes.yaml").write_text(TASK)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    told = rmbench(["tasks", "tastes"], installed["good"], tmp_path)
    assert "flavour = sour (text): which answers are gold" in told
    assert "scale = 1.0 (number): what gaps are divided by" in told
    models = ["--model", "counts:!", "--model", "length"]
    common = ["--task", "tastes", "--data", "rows.jsonl", "-T", "scale=2", "--quiet", "--store", "store"]
    shown = rmbench(["eval", *models, *common], installed["good"], tmp_path)
    assert re.search(r"counts:! +0\.833 ", shown), shown
    (record,) = tmp_path.glob("results/counts*/tastes@1/*.json")
    stored = json.loads(record.read_text())
    assert stored["identity"]["model"]["source"] == "rmbench_third_party:load_counts"
    assert stored["identity"]["task"]["params"]["scale"] == 2.0
    assert stored["metrics"]["gold@2"]["value"] == pytest.approx(8 / 9), "two of three answers to `b`"
    sweet = ["--model", "counts:!", *common, "-T", "flavour=sweet", "--results", "sweet", "--json"]
    (other,) = json.loads(rmbench(["eval", *sweet], installed["good"], tmp_path))
    assert other["metrics"]["gold@2"]["value"] == pytest.approx(1 / 18)
    compared = rmbench(["compare", str(record), "length", "--task", "tastes"], installed["good"], tmp_path)
    assert "top_gap" in compared
    rmbench(["remeasure", str(record)], installed["good"], tmp_path)
    assert json.loads(record.read_text()) == stored
    rmbench(["report", str(record), "--out", "report.html"], installed["good"], tmp_path)
    assert "reward of the best response less that of the second" in (tmp_path / "report.html").read_text()
    gold = ["--gold", "verifier:shouts", "--convention", "clean"]
    assert "verifier:shouts" in rmbench(["eval", *models, *common, *gold], installed["good"], tmp_path)
    listed = rmbench(["models"], installed["good"], tmp_path)
    assert "how often a text occurs in the reply" in listed
    assert "counts:TEXT (how often a text occurs)" in listed


@pytest.mark.long
def test_a_loss_of_a_package_declares_what_it_needs(installed: dict[str, Path]) -> None:
    lines = run(
        "from rmbench.train.losses import LOSSES\n"
        "loss = LOSSES.get('near-pairs')\n"
        "print(loss.needs, loss.reads_batch, 'near-pairs' in LOSSES.names())\n",
        installed["good"],
    )
    assert lines == ["('distance',) True True"]


IDENTITIES = """
from rmbench.gold.verifier import find_verifier
from rmbench.metrics.kinds import KINDS
from rmbench.models.resolve import load_model
from rmbench.train.losses import find_loss
for what in (
    lambda: load_model("exclamations").identity, lambda: load_model("counts:!").identity,
    lambda: find_verifier("shouts")[1], lambda: KINDS.find("top-gap", "")[1], lambda: find_loss("near-pairs")[1],
    lambda: load_model("length").identity, lambda: KINDS.find("preference", "")[1],
    lambda: find_loss("bradley-terry")[1],
):
    try:
        print(what())
    except ConfigError as error:
        print("refused:", error)
"""
N_FOREIGN = 5


@pytest.fixture
def plugins(installed: dict[str, Path], tmp_path: Path) -> Path:
    """Return a copy of the good plug-ins, to be changed."""
    return shutil.copytree(installed["good"], tmp_path / "plugins")


@pytest.mark.long
def test_changed_code_of_a_package_is_another_identity(plugins: Path) -> None:
    """A model, a scheme, a verifier, a kind and a loss; the version stays 1.2.3, as in an editable install."""
    first = run(IDENTITIES, plugins)
    assert run(IDENTITIES, plugins) == first
    assert first[N_FOREIGN:] == ["{}", "None", "None"], "nothing joins the package's own"
    before = first
    for name in ("rmbench_third_party.py", "rmbench_third_party_loss.py"):
        with (plugins / name).open("a") as file:
            file.write("# changed\n")
        after = run(IDENTITIES, plugins)
        assert all(a != b for a, b in zip(before[:N_FOREIGN], after[:N_FOREIGN], strict=True))
        assert after[N_FOREIGN:] == before[N_FOREIGN:]
        before = after


@pytest.mark.long
def test_another_version_of_a_package_is_another_identity(plugins: Path) -> None:
    first = run(IDENTITIES, plugins)
    (metadata,) = plugins.glob("rmbench_third_party-*.dist-info/METADATA")
    metadata.write_text(metadata.read_text().replace("Version: 1.2.3", "Version: 1.2.4"))
    after = run(IDENTITIES, plugins)
    assert "rmbench-third-party 1.2.4" in after[0]
    assert all(a != b for a, b in zip(first[:N_FOREIGN], after[:N_FOREIGN], strict=True))


def test_a_package_that_python_runs_from_old_bytecode_is_refused(plugins: Path) -> None:
    module = plugins / "rmbench_third_party.py"
    py_compile.compile(str(module), doraise=True)
    times = module.stat()
    module.write_text(module.read_text().replace("self.weight * turns", "self.weight - turns"))
    os.utime(module, ns=(times.st_atime_ns, times.st_mtime_ns))
    found = run(IDENTITIES, plugins)[: N_FOREIGN - 1]
    assert all("which is older than" in line and "delete it and start again" in line for line in found)


def test_a_package_that_changed_after_its_import_has_the_identity_of_what_is_loaded(plugins: Path) -> None:
    module = plugins / "rmbench_third_party.py"
    code = (
        "from pathlib import Path\n"
        "first = load_model('exclamations').identity\n"
        f"file = Path({str(module)!r}); text = file.read_text()\n"
        "file.write_text(text + '# changed')\n"
        "print(*load_model('exclamations').identity.values())\n"
    )
    (first,) = run(code, plugins)
    module.write_text(module.read_text().replace("self.weight * turns", "self.weight - turns"))
    (other,) = run(code, plugins)
    assert first != other
    assert first.startswith("rmbench_third_party:Exclamations rmbench-third-party 1.2.3 ")


def test_a_package_in_development_counts_with_what_it_imports(tmp_path: Path) -> None:
    """As `pip install --editable` leaves it: the metadata names no module, and the version stays."""
    for name, text in {
        "dev-1.dist-info/METADATA": "Metadata-Version: 2.1\nName: dev\nVersion: 1\n",
        "dev-1.dist-info/entry_points.txt": "[rmbench.models]\ndev-model = dev.models:Mine\n",
        "dev-1.dist-info/RECORD": "dev-1.dist-info/METADATA,,\n__editable___dev_finder.py,,\n",
        "src/dev/__init__.py": "",
        "src/dev/models.py": "from dev_more import reward\n\nclass Mine:\n"
        "    def fingerprint(self):\n        return {'kind': 'mine'}\n\n"
        "    def score(self, batch):\n        return [reward for _ in batch]\n",
        "src/dev/late.py": "",
        "src/dev_more.py": "reward = 1.0\n",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    code = f"sys.path.insert(0, {str(tmp_path / 'src')!r})\nprint(load_model('dev-model').identity)\n"
    found = [run("import sys\n" + code, tmp_path)]
    assert "'distribution': 'dev 1', 'source_sha256'" in found[0][0]
    for name in ("src/dev/models.py", "src/dev/late.py", "src/dev_more.py"):
        with (tmp_path / name).open("a") as file:
            file.write("# changed\n")
        found.append(run("import sys\n" + code, tmp_path))
    assert len({line for (line,) in found}) == 4


def test_records_of_a_changed_kind_of_a_package_are_not_measured_by_it(plugins: Path, tmp_path: Path) -> None:
    (tmp_path / "tastes.yaml").write_text(TASK)
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    common = [
        "eval",
        "--model",
        "counts:!",
        "--task",
        "tastes",
        "--data",
        "rows.jsonl",
        "--quiet",
        "--store",
        "s",
    ]
    rmbench(common, plugins, tmp_path)
    with (plugins / "rmbench_third_party.py").open("a") as file:
        file.write("# changed\n")
    with pytest.raises(AssertionError, match="its task kind top-gap has changed since"):
        rmbench(["remeasure", "results"], plugins, tmp_path)
    rmbench(common, plugins, tmp_path)
    assert len(list(tmp_path.glob("results/counts*/tastes@1/*.json"))) == 2


def test_a_plugin_that_fails_to_import_shows_its_own_exception(installed: dict[str, Path]) -> None:
    told, row, other = run(
        "print(told('broken'))\n"
        "print({row.name: row for row in list_models()}['broken'].kind)\n"
        "print(told('length').name)\n",
        installed["good"],
    )
    assert "libreward.so.3: cannot open shared object file" in told
    assert (row, other) == ("broken", "length")


def test_a_taken_name_is_an_error_that_names_both_every_time(installed: dict[str, Path]) -> None:
    lines = run("print(told('length'))\nprint(told('length'))\nprint(told('random'))\n", installed["bad"])
    for line in lines:
        assert "'length' is registered twice" in line
        assert "rmbench.models.baselines:Length" in line
        assert "rmbench_colliding:Length" in line


def test_an_instance_in_a_file_is_a_model_as_it_is(tmp_path: Path) -> None:
    text = "class Mine:\n    def fingerprint(self):\n        return {'kind': 'mine'}\n"
    text += "    def score(self, batch):\n        return [1.0] * len(batch)\n\nready = Mine()\n"
    (tmp_path / "mine.py").write_text(text)
    loaded = load_model(f"{tmp_path}/mine.py:ready")
    assert loaded.model.score([[], []]) == [1.0, 1.0]  # type: ignore[union-attr]
    assert load_model(f"{tmp_path}/mine.py:ready", {"name": "called so"}).name == "called so"
