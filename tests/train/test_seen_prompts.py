"""Prompts that a model was trained on: found exactly and by 13 words in a row, in the record and on the board."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import arguments

from rmbench.cli.main import run

Make = Callable[..., Path]

BOARD = """
name: seen
title: Seen
summary: What was trained on.
columns:
  - {id: accuracy, task: preference, metric: accuracy, label: accuracy}
rank_by: [accuracy]
"""
LONG = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen"


def test_they_are_in_the_record_and_on_the_board(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    # Long enough for 13-grams; every third is left as it is.
    rows = [{**r, "prompt": f"{LONG} number {k}"} if k % 3 else r for k, r in enumerate(rows)]
    pairs.write_text("".join(json.dumps(r) + "\n" for r in rows))
    out = tmp_path / "out"
    assert (
        run([*arguments(make_checkpoint("llama", head=False), pairs, out, max_steps=2), "--held-out", "0.05"])
        == 0
    )
    asked = [
        rows[3]["prompt"],
        rows[6]["prompt"],
        rows[9]["prompt"],
        f"{LONG} and something else",
        "never seen",
    ]
    items = tmp_path / "items.jsonl"
    items.write_text(
        "".join(
            json.dumps({"id": str(k), "prompt": p, "responses": ["yes", "no"], "gold": [1, 0]}) + "\n"
            for k, p in enumerate(asked)
        )
    )
    results, boards = tmp_path / "results", tmp_path / "boards"
    command = [
        "eval",
        "-m",
        str(out),
        "-t",
        "preference",
        "--data",
        str(items),
        "--results",
        str(results),
        "-q",
        "--json",
    ]
    capsys.readouterr()
    assert run(command) == 0
    found = json.loads(capsys.readouterr().out)[0]["counts"]["trained_on"]
    assert found["ngram"] == 1, "13 words in a row"
    assert 1 <= found["exact"] <= 3, "a few prompts are held out"
    boards.mkdir()
    (boards / "seen.yaml").write_text(BOARD)
    assert (
        run(["leaderboard", "--boards-dir", str(boards), "--results", str(results), "--out", str(boards)])
        == 0
    )
    seen = found["ngram"] + found["exact"]
    assert f"- out: {seen} prompts of preference" in (boards / "seen.md").read_text()
    assert f'"trained_on": {seen}' in (boards / "seen.json").read_text()

    # Without the file it is unknown, and nothing says 0; a model trained further has to know.
    (out / "training_prompts.npz").unlink()
    shutil.rmtree(results)
    capsys.readouterr()
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out)[0]["counts"]["trained_on"] is None
    again = ["leaderboard", "--boards-dir", str(boards), "--results", str(results), "--out", str(boards)]
    assert run(again) == 0
    assert '"trained_on": null' in (boards / "seen.json").read_text()
    report = ["report", str(results), "--out", str(tmp_path / "report.html")]
    assert run(report) == 0
    page = (tmp_path / "report.html").read_text()
    row = page[page.index("prompts that the model was trained on") :]
    assert row.index("not known") < row.index("</tr>")
    capsys.readouterr()
    assert run(arguments(out, pairs, tmp_path / "further", max_steps=2)) == 1
    assert "training_prompts.npz: missing, although rmbench trained this base" in capsys.readouterr().err
    assert not (tmp_path / "further").exists()
