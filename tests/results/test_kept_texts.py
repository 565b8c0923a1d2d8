"""`--keep-texts`: pages show texts also where the data is gone; numbers and run ids do not change."""

import json
from pathlib import Path

import pytest

from rmbench.cli.main import run

ROWS = [
    {"prompt": f"Say {k}.", "chosen": f"{k} <b>it is</b>", "rejected": "No" * (1 + k % 3), "rubric": "short"}
    for k in range(12)
]


def test_texts_are_shown_after_the_data_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    data = tmp_path / "pairs.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    ask = [
        "eval",
        "-m",
        "length",
        "-m",
        "shortest",
        "-t",
        "preference",
        "--data",
        "pairs.jsonl",
        "-q",
        "--store",
        "store",
    ]
    assert run([*ask, "--results", "without"]) == 0
    assert run([*ask, "--results", "kept", "--keep-texts"]) == 0
    ids = [{p.name for p in Path(folder).rglob("*.json")} for folder in ("without", "kept")]
    assert ids[0] == ids[1]
    assert len(list(Path("kept/texts").iterdir())) == 1, "both models have the same data"
    data.unlink()
    for folder, shown in (("without", False), ("kept", True)):
        assert (
            run(
                [
                    "compare",
                    "length",
                    "shortest",
                    "--task",
                    "preference",
                    "--results",
                    folder,
                    "--html",
                    "a.html",
                    "-q",
                ]
            )
            == 0
        )
        assert (
            run(["report", "shortest", "--task", "preference", "--results", folder, "--out", "b.html"]) == 0
        )
        for page in ("a.html", "b.html"):
            text = Path(page).read_text()
            assert ("&lt;b&gt;it is&lt;/b&gt;" in text) == shown, (folder, page)
            assert shown or "eval --keep-texts" in text, (
                "where texts are missing, the page says how to keep them"
            )
    assert "<b>it is" not in text


def test_records_of_a_folder_with_texts_are_found_as_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ask = ["eval", "-m", "length", "-t", "bon", "--limit", "4", "-q", "--store", "store", "--keep-texts"]
    assert run(ask) == 0
    kept = next(Path("results/texts").iterdir())
    before = (kept.stat().st_mtime_ns, kept.read_bytes())
    assert run(ask) == 0
    assert (kept.stat().st_mtime_ns, kept.read_bytes()) == before
    capsys.readouterr()
    assert run(["records", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 1
