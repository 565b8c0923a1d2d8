"""RM-Bench's results become records: a model's files are one run."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from layouts import importer

from rmbench.cli.main import run

Capture = pytest.CaptureFixture[str]
FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "rm-bench"
NAMES = ("chat", "code", "math", "safety-refuse", "safety-response")


def results_of(
    root: Path, model: str, reward: Any, time: str = "20250101_000000", nested: bool = False
) -> Path:
    """Write the results of a model that scores by `reward(text)` on the fixture's rows."""
    folder = root / "Seq_Classifier" / model
    folder.mkdir(parents=True, exist_ok=True)
    for name in NAMES:
        rows = json.loads((FIXTURES / f"{name}_filtered.json").read_text(encoding="utf-8"))
        for row in rows:
            for key in ("chosen", "rejected"):
                values = [reward(text) for text in row[key]]
                row[f"score_{key}"] = [[v] for v in values] if nested else values
        last = model.rpartition("/")[2]
        (folder / f"{name}_filtered_{last}_REWORD_MODEL_{time}.json").write_text(json.dumps(rows))
    return folder


bring = importer("rm-bench")


def test_is_what_evaluating_the_same_model_gives(tmp_path: Path, capsys: Capture) -> None:
    results_of(tmp_path / "in", "org/length", lambda text: float(len(text)))
    results_of(tmp_path / "in", "org/nested", lambda text: float(len(text)), nested=True)
    found = bring(capsys, tmp_path / "in", tmp_path / "r", "-q")
    assert [r["model"] for r in found] == ["org/length", "org/nested"]
    command = [
        "eval",
        "-m",
        "length",
        "-t",
        "rm-bench",
        "--data",
        str(FIXTURES),
        "--results",
        str(tmp_path / "r"),
    ]
    assert run([*command, "--json", "-q"]) == 0
    (own,) = json.loads(capsys.readouterr().out)
    for record in found:
        assert record["identity"]["data"] == own["identity"]["data"]
        assert record["metrics"] == own["metrics"]
        assert record["curves"] == own["curves"]
    assert run(["compare", "org/length", "length", "-t", "rm-bench", "--results", str(tmp_path / "r")]) == 0


def test_of_several_runs_the_last_is_taken_and_said(tmp_path: Path, capsys: Capture) -> None:
    results_of(tmp_path / "in", "org/m", lambda text: -float(len(text)), "20240101_000000")
    folder = results_of(tmp_path / "in", "org/m", lambda text: float(len(text)), "20250101_000000")
    assert run(["import", "rm-bench", str(folder), "--results", str(tmp_path / "r"), "--json"]) == 0
    said = capsys.readouterr()
    assert "chat_filtered: the run of 20250101_000000 is taken, 20240101_000000 is not" in said.err
    (record,) = json.loads(said.out)
    assert (record["model"], record["metrics"]["official_easy"]["value"]) == ("org/m", 1.0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score_chosen": [1.0, 2.0]}, "line 1, key 'score_chosen': expected 3 scores: concise"),
        ({"score_rejected": [1.0, "x", 2.0]}, r"key 'score_rejected\[1\]': x; expected one number"),
        ({"score_rejected": [1.0, [2.0, 3.0], 2.0]}, r"key 'score_rejected\[1\]': \[2.0, 3.0\]; expected one number"),
        ({"score_rejected": [1.0, None, 2.0]}, "1 of 1 items have a score that is null"),
        ({"chosen": ["a"]}, "key 'chosen': expected 3 responses"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(tmp_path: Path, capsys: Capture, change: Any, said: str) -> None:
    folder = results_of(tmp_path / "in", "m", lambda text: float(len(text)))
    path = folder / "chat_filtered_m_REWORD_MODEL_20250101_000000.json"
    (row,) = json.loads(path.read_text())
    path.write_text(json.dumps([{**row, **change}]))
    assert run(["import", "rm-bench", str(path), "--results", str(tmp_path / "r")]) == 2
    found = capsys.readouterr().err
    assert re.search(said, found), found
    assert not (tmp_path / "r").exists()


def test_a_folder_without_results_is_named(tmp_path: Path, capsys: Capture) -> None:
    assert run(["import", "rm-bench", str(tmp_path), "--results", str(tmp_path / "r")]) == 2
    assert "looked for <file>_<model>_REWORD_MODEL_<time>.json" in capsys.readouterr().err
