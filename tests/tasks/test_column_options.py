"""`columns=` and `winner=` of each command that reads preference data, and what its errors tell one to type."""

import json
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run

ROWS = [{"ask": f"What is {k}+{k}?", "nice": f"It is {2 * k}.", "nasty": "No idea."} for k in range(20)]
NAMED = "columns=prompt:ask,chosen:nice,rejected:nasty"


def write(path: Path, rows: Any) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_training_takes_columns(tmp_path: Path) -> None:
    from rmbench.train.pairs import read_training_data

    path = write(tmp_path / "x.jsonl", ROWS)
    named = NAMED.partition("=")[2]
    found = read_training_data(path, params={"columns": named})
    assert len(found.train) + len(found.held_out) == 20
    renamed = [{"prompt": r["ask"], "chosen": r["nice"], "rejected": r["nasty"]} for r in ROWS]
    assert found.data_hash == read_training_data(write(tmp_path / "x.jsonl", renamed)).data_hash


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ([], "Say which is which: -T columns=prompt:COLUMN"),
        (["-T", "colums=a:b"], "unknown option 'colums'. Did you mean 'columns'?"),
        (["-T", NAMED, "--reader", "pairs"], "reader 'pairs': unknown option 'columns'"),
        (["-T", "threshold=1"], "unknown option 'threshold'"),
    ],
)
def test_what_training_says(
    options: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "x.jsonl", ROWS)
    out = ["--out", str(tmp_path / "o"), "--base", "builtin:tiny"]
    assert run(["train", "--data", path, *out, *options]) == 2
    assert says in capsys.readouterr().err


def test_a_tasks_split_has_no_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = ["--out", str(tmp_path / "o"), "--base", "builtin:tiny"]
    assert run(["train", "--data", "preference:train", *out, "-T", NAMED]) == 2
    assert "--data preference:train: -T is for files" in capsys.readouterr().err


def contamination(tmp_path: Path, rows: Any, *options: str) -> list[str]:
    task = write(tmp_path / "task.jsonl", [{"prompt": "What is 3+3?", "chosen": "It is 6.", "rejected": "5"}])
    train = write(tmp_path / "x.jsonl", rows)
    return [
        "contamination",
        "--train",
        train,
        "--task",
        "preference",
        "--data",
        task,
        "-q",
        "--json",
        *options,
    ]


def test_contamination_takes_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(contamination(tmp_path, ROWS, "--train-option", NAMED)) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["training"]["rows"] == 20
    assert len(told["examples"]) == 1


def test_contamination_takes_winners(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": "Q", "output_1": "a", "output_2": "b", "winner": 0}]
    assert run(contamination(tmp_path, rows)) == 2
    assert "such as --train-option winner=0:first" in capsys.readouterr().err
    assert run(contamination(tmp_path, rows, "--train-option", "winner=0:first,1:second")) == 0


def test_what_contamination_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(contamination(tmp_path, ROWS)) == 2
    assert "Say which is which: --train-option columns=prompt:COLUMN" in capsys.readouterr().err
    assert run(contamination(tmp_path, ROWS, "--train-option", "colums=a:b")) == 2
    assert "--train-option: unknown option 'colums'. Did you mean 'columns'?" in capsys.readouterr().err


def evaluate(tmp_path: Path, task: str, rows: Any) -> list[str]:
    where = ["--results", str(tmp_path / "r"), "--store", str(tmp_path / "s")]
    path = write(tmp_path / "x.jsonl", rows)
    return ["eval", "--model", "length", "--task", task, "--data", path, *where]


def test_what_a_task_makes_of_pairs_and_of_pools_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [{"prompt": f"Q{k}", "chosen": "yes, so", "rejected": "no"} for k in range(4)]
    pools = [{"prompt": f"Q{k}", "responses": ["a", "bb", "ccc"], "scores": [1, 2, 3]} for k in range(4)]
    assert run(evaluate(tmp_path, "bon", pairs)) == 0
    assert "bon: the items are pairs, so best-of-N is measured at N = 2 alone" in capsys.readouterr().err
    assert run(evaluate(tmp_path, "preference", pools)) == 0
    assert "preference: items have up to 3 replies; any two of different gold" in capsys.readouterr().err
    assert run(evaluate(tmp_path, "bon", pools)) == 0
    assert "pairs, so best-of-N" not in capsys.readouterr().err
    assert run(evaluate(tmp_path, "preference", pairs)) == 0
    assert "any two of different gold" not in capsys.readouterr().err
