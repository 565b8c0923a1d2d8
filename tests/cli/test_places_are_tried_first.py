"""A place that cannot be written to is told before any work, whatever the command."""

from pathlib import Path

import pytest

from rmbench.cli.main import run

PAIRS = Path(__file__).resolve().parents[2] / "docs" / "example" / "pairs.jsonl"


@pytest.mark.parametrize(
    ("option", "command"),
    [
        ("--results", "eval -m length -t bon --results file/x"),
        ("--store", "eval -m length -t bon --store file/x"),
        ("--results", "compare length shortest --data PAIRS --results file/x"),
        ("--store", "compare length shortest --data PAIRS --store file/x"),
        ("--html", "compare length shortest --data PAIRS --html file/page.html"),
        ("--html", "check --model length --bias --html file/page.html"),
        ("--out", "report length --out file/page.html"),
        ("--out", "export --task preference --out file/rows.jsonl"),
        ("--out", "train --base builtin:tiny --data preference:train --out file/x"),
    ],
)
def test_a_place_that_cannot_be_written_to_is_told_before_any_work(
    option: str,
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("worked before the place was tried")

    if command.startswith("train"):
        pytest.importorskip("accelerate", reason="needs the extra train")
    for work in ("rmbench.scoring.run.score_items", "rmbench.train.pairs.read_training_data"):
        monkeypatch.setattr(work, never)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    assert run(command.replace("PAIRS", str(PAIRS)).split()) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {option} file")
    assert "no file can be written there (Not a directory)" in line
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
