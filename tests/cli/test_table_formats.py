"""Tables of commands as CSV, Markdown and LaTeX: the numbers of the record, whatever names say."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from strict_latex import ReadTable, read_latex
from synthetic_boards import HOSTILE

from rmbench.cli.main import run
from rmbench.core.escape import for_csv, one_line
from rmbench.models.resolve import list_models
from rmbench.tasks.spec import list_tasks

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    rows = [
        {
            "id": f"i{k}",
            "prompt": f"question {k}",
            "responses": ["a" * (1 + k % 5), "b" * (1 + (k * 3) % 7)],
            "gold": [k % 2, (k + 1) % 2],
            "strata": {"family": HOSTILE[k % 2]},
        }
        for k in range(24)
    ]
    rows += [{"id": "one", "prompt": "p", "responses": ["x", "y"], "gold": [1, 1]}]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def said(capsys: Capture, *arguments: str) -> str:
    capsys.readouterr()
    assert run(list(arguments)) == 0
    return capsys.readouterr().out


def evaluation(data: Path, *more: str) -> list[str]:
    folder = data.parent
    scores = folder / "scores.jsonl"
    rewards = [{"id": f"i{k}", "rewards": [k % 3, 1]} for k in range(24)] + [{"id": "one", "rewards": [0, 1]}]
    scores.write_text("".join(json.dumps(row) + "\n" for row in rewards))
    base = ["--data", str(data), "--results", str(folder / "results"), "--store", str(folder / "store"), "-q"]
    return ["eval", "-m", f"scores:{scores}", "-M", f"name={HOSTILE[3]}", "-t", "preference", *base, *more]


def by_number(text: str, *keys: str) -> dict[tuple[str, ...], dict[str, str]]:
    rows = list(csv.DictReader(io.StringIO(text)))
    found = {tuple(row[key] for key in keys): row for row in rows}
    assert len(found) == len(rows)
    return found


def test_eval_as_csv_has_the_numbers_of_the_record(data: Path, capsys: Capture) -> None:
    command = evaluation(data, "-t", "calibration")
    records = json.loads(said(capsys, *command, "--json"))
    rows = by_number(said(capsys, *command, "--csv"), "task", "kind", "model", "metric")
    compared = 0
    for record in records:
        task = record["identity"]["task"]
        assert task["name"] in {name for name, *_ in rows}
        for (name, _, model, metric), row in rows.items():
            if name != task["name"]:
                continue
            assert model == for_csv(HOSTILE[3])
            found = record["metrics"].get(metric)
            if found is None:
                assert row["value"] == ""
                assert row["undefined"] == record["undefined"][metric]
                continue
            ends = found["ci95"] or [None, None]
            shown = [row["value"], row["value_low"], row["value_high"], row["unit"], row["n"], row["prompts"]]
            expected = [found["value"], *ends, found["unit"], found["n"], found["n_clusters"]]
            assert shown == [
                "" if v is None else f"{v:.6g}" if isinstance(v, float) else str(v) for v in expected
            ]
            compared += 1
    assert compared > 6


def test_eval_as_latex_and_markdown(data: Path, capsys: Capture) -> None:
    (record,) = json.loads(said(capsys, *evaluation(data, "--json")))
    tables = read_latex(said(capsys, *evaluation(data, "--latex")))
    assert [t.label for t in tables] == ["preference-preference", "preference-calibration"]
    table = tables[0]
    assert table.caption.startswith("preference, task preference (version 1): 25 items")
    accuracy = record["metrics"]["accuracy"]
    value, (low, high) = accuracy["value"], accuracy["ci95"]
    assert table.rows[0][:2] == ["model", "accuracy"]
    assert table.rows[1][:2] == [one_line(HOSTILE[3], 40), f"${value:.3f}_{{{low:.3f}}}^{{{high:.3f}}}$"]
    text = said(capsys, *evaluation(data, "--markdown"))
    rows = [line for line in text.splitlines() if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)\|", line)) for line in rows]
    assert widths == [len(t.layout) + 1 for t in tables for _ in range(3)]
    assert f"{value:.3f} [{low:.3f}, {high:.3f}]" in rows[2]


def test_what_was_left_out_is_said_below_the_last_table_of_a_task(data: Path, capsys: Capture) -> None:
    data.write_text(data.read_text() + '{"id": "bad", "prompt": "p", "responses": ["x"], "gold": [1]}\n')
    tables = read_latex(said(capsys, *evaluation(data, "-t", "calibration", "--on-bad", "skip", "--latex")))
    assert len({t.label for t in tables}) == len(tables) > 1
    noted = [bool(re.search("left out of the data: 1 for", t.notes)) for t in tables]
    assert noted == [False, True]


def test_two_formats_at_once_are_refused_before_anything_is_done(data: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert run(evaluation(data, "--csv", "--json")) == 2
    assert "--json and --csv: give one of them" in capsys.readouterr().err.replace(
        "--csv and --json", "--json and --csv"
    )
    assert not (data.parent / "results").exists()


def test_contamination(data: Path, tmp_path: Path, capsys: Capture) -> None:
    train = tmp_path / "train.jsonl"
    train.write_text(json.dumps({"prompt": "question 3", "chosen": "aaaa", "rejected": "bbb"}) + "\n")
    command = ["contamination", "--train", str(train), "-t", "preference", "--data", str(data), "-q"]
    told: dict[str, Any] = json.loads(said(capsys, *command, "--json"))
    rows = by_number(said(capsys, *command, "--csv"), "stratum", "value", "measure")
    for (stratum, value, measure), row in rows.items():
        names = {for_csv(v): v for v in told["strata"].get(stratum, {})}
        found = told["strata"][stratum][names[value]] if stratum else told["overall"]
        assert row["found"] == str(found[measure]["found"])
        assert row["share"] == f"{found[measure]['value']:.6g}"
    assert {value for stratum, value, _ in rows if stratum == "family"} >= {for_csv(v) for v in HOSTILE[:2]}
    tables: list[ReadTable] = read_latex(said(capsys, *command, "--latex"))
    assert tables[0].label == "preference-contamination"
    seen = next(row for row in tables[0].rows if row[0] == "prompt seen whole")
    assert seen[1:3] == [str(told["items"]), "1"]
    assert "|:---|---:|---:|---:|" in said(capsys, *command, "--markdown")


def test_lists_of_names(capsys: Capture) -> None:
    (tasks,) = read_latex(said(capsys, "tasks", "--latex"))
    assert [row[0] for row in tasks.rows[1:]] == list_tasks()
    rows = list(csv.DictReader(io.StringIO(said(capsys, "models", "--csv"))))
    assert [row["model"] for row in rows] == [for_csv(row.name) for row in list_models()]
    assert run(["tasks", "bon", "--csv"]) == 2
    assert "--csv is for the list of tasks" in capsys.readouterr().err
    assert run(["models", "length", "--latex"]) == 2
    assert "--latex is for the list of models" in capsys.readouterr().err
