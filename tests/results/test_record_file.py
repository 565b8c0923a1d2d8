"""A record carries a hash over itself and its task file; one without either is read as before."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from report_records import make_old

from rmbench.cli.main import run
from rmbench.errors import ConfigError, DataError
from rmbench.results.read import find_records, read_record
from rmbench.results.record import sealed
from rmbench.results.run import Run

Capture = pytest.CaptureFixture[str]

TASK = """\
name: mine
version: 1
kinds: [preference]
summary: Pairs of my own.
source: made up
license: none
data: {reader: pairs}
primary: accuracy
strata: [category]
"""


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> Path:
    """Records of two models on a task that is only a file; then the file goes."""
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(TASK)
    rows = [
        {
            "id": str(k),
            "prompt": f"question {k}",
            "chosen": "good " * (k % 5 + 1),
            "rejected": "bad " * (k % 3 + 2),
        }
        for k in range(40)
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    models = ["-m", "length", "-m", "shortest", "-m", "random"]
    assert run(["eval", *models, "-t", "mine.yaml", "--data", "pairs.jsonl", "--results", "out", "-q"]) == 0
    capsys.readouterr()
    return tmp_path / "out"


def length_run(results: Path) -> Run:
    return next(stored for stored in find_records(results) if stored.model == "length")


def change(path: Path, edit: Callable[[dict[str, Any]], None], *, seal: bool = False) -> None:
    values = json.loads(path.read_text())
    edit(values)
    path.write_text(json.dumps(sealed(values) if seal else values))


def test_a_record_that_was_edited_is_refused(results: Path) -> None:
    path = length_run(results).path
    change(path, lambda values: values["metrics"]["accuracy"].update(value=0.999))
    with pytest.raises(DataError, match="edited or damaged"):
        read_record(path)


@pytest.mark.parametrize("key", ["model", "provenance", "counts", "task_file"])
def test_every_part_is_covered(results: Path, key: str) -> None:
    path = length_run(results).path
    before = json.loads(path.read_text())[key]
    change(
        path,
        lambda values: values.update({key: f"{before} " if isinstance(before, str) else {**before, "x": 1}}),
    )
    with pytest.raises(ConfigError):
        read_record(path)


def test_a_record_without_a_hash_is_refused_and_remeasured(results: Path) -> None:
    """Else whoever deletes the hash could write any number."""
    stored = length_run(results)

    def old(values: dict[str, Any]) -> None:
        del values["sha256"], values["task_file"]

    change(stored.path, old)
    with pytest.raises(DataError, match=r"it has no hash.*rmbench remeasure"):
        read_record(stored.path)
    assert run(["remeasure", str(stored.path)]) == 0
    read = read_record(stored.path)
    assert read.task_file is None
    assert read.metrics == stored.metrics
    assert read.run_id == stored.record.run_id


def test_remeasuring_gives_an_old_record_its_hash(results: Path) -> None:
    path = length_run(results).path
    whole = path.read_text()
    change(path, lambda values: values.pop("sha256"))
    assert run(["remeasure", str(path)]) == 0
    assert path.read_text() == whole


def test_layout_does_not_matter_to_the_hash(results: Path) -> None:
    path = length_run(results).path
    values = json.loads(path.read_text())
    path.write_text(json.dumps(dict(reversed(values.items())), indent=4))
    assert read_record(path).model == "length"


def test_a_task_that_is_only_a_file_is_served_after_it_has_gone(results: Path, capsys: Capture) -> None:
    Path("mine.yaml").unlink()
    where = ["--results", str(results)]
    for task in ("mine.yaml", "mine"):
        assert run(["compare", "length", "shortest", "-t", task, "--data", "pairs.jsonl", *where]) == 0
        assert "question" in capsys.readouterr().out
        page = Path(f"{task}.html")
        assert run(["report", "length", "-t", task, "-o", str(page), "--data", "pairs.jsonl", *where]) == 0
        assert "question" in page.read_text()
        assert "not at hand" not in capsys.readouterr().err
    assert run(["remeasure", str(results)]) == 0


def test_a_board_of_a_task_that_is_only_a_file(results: Path, capsys: Capture) -> None:
    Path("mine.yaml").unlink()
    Path("boards").mkdir()
    Path("boards/own.yaml").write_text(
        "name: own\ntitle: Own\nsummary: Of my own task.\nrank_by: [acc]\n"
        "columns:\n- {id: acc, task: mine, metric: accuracy, label: Accuracy}\n"
    )
    assert (
        run(["leaderboard", "own", "--boards-dir", "boards", "--out", "made", "--results", str(results)]) == 0
    )
    rows = json.loads(Path("made/own.json").read_text())["rows"]
    assert [row["model"] for row in rows if row["rank"]]


def test_the_task_file_in_a_record_is_not_trusted(results: Path, tmp_path: Path, capsys: Capture) -> None:
    Path("mine.yaml").unlink()
    Path("evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\ndef read(*_): return []\n")
    path = length_run(results).path
    for text, why in [
        (TASK.replace("reader: pairs", 'reader: "evil.py:read"'), "Python file"),
        (TASK.replace("[preference]", '["evil.py:read"]'), "Python file"),
        (TASK.replace("version: 1", "version: 2"), "not what was measured"),
        ("a: [1", "not valid YAML"),
        ("[" * 5000, "mine.yaml"),
    ]:
        change(path, lambda values, text=text: values.update(task_file=text), seal=True)  # type: ignore[misc]
        with pytest.raises(ConfigError, match=why):
            length_run(results).spec()
        out = ["-o", "page.html", "--results", str(results)]
        assert run(["report", "length", *out]) == 0
    assert not (tmp_path / "ran").exists()


def test_identities_know_nothing_of_either(results: Path) -> None:
    record = length_run(results).record
    assert not {"task_file", "sha256"} & (record.identity.keys() | record.identity["task"].keys())
    assert record.to_json()["task_file"] == TASK


def test_a_record_that_is_replaced_is_removed_whole_whenever_a_kill_comes(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = length_run(results)
    folder = stored.path.parent
    after = sorted(path.name for path in folder.iterdir())
    old = make_old(stored)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    n_calls = 0

    def counted(name: str) -> Callable[..., Any]:
        original = getattr(Path, name)

        def call(path: Path, *args: Any, **options: Any) -> Any:
            nonlocal n_calls
            if path.parent == folder and old in path.name:
                n_calls += 1
                if n_calls == stop:
                    raise KeyboardInterrupt  # nothing in the package catches it
            return original(path, *args, **options)

        return call

    for stop in range(1, 6):
        for path in folder.iterdir():
            path.unlink()
        for name, content in before.items():
            (folder / name).write_bytes(content)
        n_calls = 0
        with monkeypatch.context() as patch:
            for name in ("replace", "unlink"):
                patch.setattr(Path, name, counted(name))
            assert run(["remeasure", str(results)]) == (0 if stop == 5 else 130)
        assert run(["remeasure", str(results)]) == 0
        assert sorted(path.name for path in folder.iterdir()) == after
