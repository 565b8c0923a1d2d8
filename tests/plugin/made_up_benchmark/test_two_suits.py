"""The made-up benchmark: its official number by hand, through the command line, as a board shows it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rmbench.cli.main import run

HERE = Path(__file__).resolve().parent
ROWS = [
    ("1", "Hearts", "a long good reply", "short"),
    ("2", "Hearts", "good", "a long bad reply"),
    ("3", "Hearts", "a long good reply", "short"),
    ("4", "Spades", "good", "same"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("two_suits.py", "two-suits.yaml"):
        shutil.copy(HERE / name, tmp_path / name)
    keys = ("id", "suit", "good", "bad")
    rows = [dict(zip(keys, row, strict=True)) | {"prompt": f"Question {row[0]}?"} for row in ROWS]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def evaluate(*more: str) -> int:
    data = ["--task", "two-suits.yaml", "--data", "rows.jsonl", "--quiet", "--store", "store"]
    return run(["eval", "--model", "length", *data, *more])


def test_the_official_number_is_the_mean_of_the_suits(here: Path) -> None:
    assert evaluate() == 0
    (path,) = here.glob("results/length/two-suits@1/*.json")
    record = json.loads(path.read_text())
    found = {
        name: record["metrics"][name]["value"] for name in ("official_hearts", "official_spades", "official")
    }
    assert found == pytest.approx(
        {"official_hearts": 2 / 3, "official_spades": 0.0, "official": 1 / 3}, abs=1e-9
    ), "a tie is 0"
    assert record["metrics"]["accuracy"]["value"] == pytest.approx(2.5 / 4), "the clean one gives half"


def test_its_records_are_measured_again_and_shown_where_its_folder_is_named(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RMBENCH_TASKS_DIR", str(here))
    assert evaluate("--model", "shortest", "--convention", "official") == 0
    assert "official_spades" in capsys.readouterr().out
    assert run(["remeasure", "results"]) == 0
    assert run(["compare", "length", "shortest", "--task", "two-suits", "--convention", "official"]) == 0
    assert "official_hearts" in capsys.readouterr().out
    assert run(["tasks", "two-suits"]) == 0
    assert "two_suits.py:two-suits, preference, calibration" in capsys.readouterr().out


def test_a_changed_definition_is_another_task_and_old_records_are_not_measured_by_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert evaluate() == 0
    source = (here / "two_suits.py").read_text()
    (here / "two_suits.py").write_text(source.replace("strict_pairs(panel)", "strict_pairs(panel, 0.5)"))
    assert evaluate() == 0
    assert len(list(here.glob("results/length/two-suits@1/*.json"))) == 2, "both records stay, apart"
    capsys.readouterr()
    assert run(["remeasure", "results"]) == 2
    told = capsys.readouterr().err
    assert "two_suits.py:two-suits has changed since" in told
    assert "RMBENCH_TASKS_DIR" in told


def test_two_files_of_one_name_are_not_taken_for_each_other(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = here / "other"
    other.mkdir()
    source = (here / "two_suits.py").read_text()
    (other / "two_suits.py").write_text(source.replace("strict_pairs(panel)", "strict_pairs(panel, 0.5)"))
    (other / "suits-two.yaml").write_text((here / "two-suits.yaml").read_text().replace(
        "name: two-suits", "name: suits-two"))  # fmt: skip
    assert evaluate("--task", "other/suits-two.yaml") == 2
    assert "two_suits.py:two-suits has become that of another file" in capsys.readouterr().err
    assert not list(here.glob("results/**/*.json"))


def test_an_unknown_suit_stops_with_file_line_and_key(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (here / "rows.jsonl").write_text('{"id": "1", "suit": "Heart", "prompt": "?", "good": "a", "bad": "b"}\n')
    assert evaluate() == 2
    assert "rows.jsonl, line 1, key 'suit'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command",
    [
        ["report", "length", "--out", "page.html"],
        ["compare", "length", "length (ours)", "--task", "two-suits"],
        ["remeasure", "results"],
    ],
    ids=lambda command: command[0],
)
def test_no_file_is_run_because_a_record_names_it(here: Path, command: list[str]) -> None:
    """A results folder may come from anybody; a new process knows none of the files that it names."""
    assert evaluate() == 0
    assert evaluate("-M", "name=length (ours)", "-T", "bins=14") == 0
    (here / "two_suits.py").write_text("import pathlib\npathlib.Path('ran').touch()\n")
    (here / "two-suits.yaml").unlink()
    path = str(HERE.parents[2])
    subprocess.run(
        [sys.executable, "-m", "rmbench", *command],
        check=False,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    assert not (here / "ran").exists()
