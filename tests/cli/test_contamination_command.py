"""`rmbench contamination` as a user meets it."""

import gzip
import json
import lzma
import random
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.contamination_command import FORMATS
from rmbench.cli.main import run
from rmbench.tasks.training import LAYOUTS

WORDS = ["".join(random.Random(k).choices("abcdefghij", k=6)) for k in range(2000)]


def sentence(k: int) -> str:
    return " ".join(random.Random(k).choices(WORDS, k=20))


def pair(k: int) -> dict[str, Any]:
    return {"prompt": sentence(k), "chosen": sentence(k + 10_000), "rejected": sentence(k + 20_000)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    rows = [
        {
            "id": f"i{k}",
            "prompt": pair(k)["prompt"],
            "responses": [pair(k)["chosen"], pair(k)["rejected"]],
            "gold": [1, 0],
            "strata": {"family": "even" if k % 2 == 0 else "odd"},
        }
        for k in range(8)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


TRAIN = [pair(k) for k in (900, 2, 901, 3, 902)]


def lines(rows: list[Any]) -> bytes:
    return "".join(json.dumps(r) + "\n" for r in rows).encode()


def put(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def look(data: Path, *train: Path, code: int = 0, more: tuple[str, ...] = ()) -> None:
    given = [argument for path in train for argument in ("--train", str(path))]
    assert run(["contamination", *given, "-t", "preference", "--data", str(data), *more]) == code


def told(capsys: pytest.CaptureFixture[str], data: Path, *train: Path, more: tuple[str, ...] = ()) -> Any:
    capsys.readouterr()
    look(data, *train, more=("--json", *more))
    return json.loads(capsys.readouterr().out)


def test_the_report(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    look(data, put(tmp_path / "t.jsonl", lines([*TRAIN, {**pair(950), "prompt": None}])))
    shown = capsys.readouterr().out
    assert shown.startswith("preference (version 1), 8 items, against 6 training rows: whole texts, 13 words")
    row = next(
        line for line in shown.splitlines() if line.startswith("chosen response seen as chosen (label")
    )
    assert row.split("  ")[-1].strip().startswith("0.250 [0.05")
    assert "1 of 6 training rows have no prompt" in shown
    assert [line.split()[:3] for line in shown.splitlines() if line.startswith(("even", "odd"))] == [
        ["even", "4", "0.250"], ["odd", "4", "0.250"],
    ]  # fmt: skip
    worst = [line.split() for line in shown.splitlines() if line.startswith(("i2 ", "i3 "))]
    assert [w[:3] for w in worst] == [
        ["i2", "whole", f"{tmp_path}/t.jsonl:2"],
        ["i3", "whole", f"{tmp_path}/t.jsonl:4"],
    ]


def test_json_and_the_list_of_items(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "deep" / "found.jsonl"
    train = put(tmp_path / "t.jsonl", lines(TRAIN))
    report = told(capsys, data, train, more=("-o", str(out), "--examples", "1"))
    assert report["overall"]["contaminated"]["found"] == 2
    assert report["overall"]["contaminated"]["value"] == 0.25
    assert report["strata"]["family"]["odd"]["prompt_exact"]["found"] == 1
    assert report["training"] == {"rows": 5, "without_prompt": 0, "dropped": {}}
    assert [e["id"] for e in report["examples"]] == ["i2"]
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == ["i2", "i3"]
    before = out.read_bytes()
    assert told(capsys, data, train, more=("-o", str(out), "--examples", "1")) == report
    assert out.read_bytes() == before


def test_a_clean_set_writes_an_empty_list(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "found.jsonl"
    look(data, put(tmp_path / "t.jsonl", lines([pair(900)])), more=("-o", str(out), "-q"))
    assert out.read_bytes() == b""


def test_every_container_says_the_same(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    pa_path = tmp_path / "t.parquet"
    parquet.write_table(pa.Table.from_pylist(TRAIN), pa_path)
    array = json.dumps(TRAIN, indent=1).encode()
    files = [
        put(tmp_path / "t.jsonl", lines(TRAIN)),
        put(tmp_path / "t.jsonl.gz", gzip.compress(lines(TRAIN))),
        put(tmp_path / "t.jsonl.xz", lzma.compress(lines(TRAIN))),
        put(tmp_path / "t.json", array),
        put(tmp_path / "t.json.gz", gzip.compress(array)),
        pa_path,
    ]
    reports = [told(capsys, data, file, more=("--examples", "0")) for file in files]
    assert reports[0]["overall"]["chosen_as_chosen_to_its_prompt"]["found"] == 2
    assert all(r == reports[0] for r in reports)
    parts = [put(tmp_path / f"part{k}.jsonl", lines(TRAIN[k::2])) for k in range(2)]
    assert told(capsys, data, *parts[::-1], more=("--examples", "0")) == reports[0]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "t.jsonl.gz",
            gzip.compress(lines(TRAIN * 50))[:-40],
            "t.jsonl.gz: cannot be read: Compressed file ended",
        ),
        (
            "t.jsonl.xz",
            lzma.compress(lines(TRAIN * 50))[:-40],
            "t.jsonl.xz: cannot be read: Compressed file ended",
        ),
        ("t.jsonl", lines(TRAIN)[:-40], "t.jsonl, line 5: not valid JSON"),
        ("t.json", json.dumps(TRAIN).encode()[:-40], "t.json: not valid JSON (row 5: "),
        ("t.parquet", b"PAR1 nothing", "t.parquet: not a Parquet file"),
        ("t.jsonl", b"", "t.jsonl: the file is empty"),
        (
            "t.jsonl",
            lines([{"question": "x\x1b[31m"}]),
            "t.jsonl: no columns that are known as training data",
        ),
        ("t.jsonl", lines([TRAIN[0], {"prompt": "x"}]), "line 2, key 'chosen': the key is missing"),
    ],
)
def test_bad_files_are_one_line_and_write_nothing(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, content: bytes, said: str
) -> None:
    out = tmp_path / "found.jsonl"
    look(data, put(tmp_path / name, content), code=2, more=("-o", str(out)))
    captured = capsys.readouterr()
    assert said in captured.err
    assert len(captured.err.splitlines()) == 1
    assert captured.out == ""
    assert not out.exists()


def test_rows_that_are_left_out_are_counted(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = put(tmp_path / "t.jsonl", lines([*TRAIN, {"prompt": "x"}]) + b"[1]\n{oops\n")
    report = told(capsys, data, train, more=("--on-bad", "skip"))
    assert report["training"]["dropped"] == {
        "line is not JSON": 1, "missing key": 1, "row is not an object": 1,
    }  # fmt: skip
    look(data, train, more=("--on-bad", "skip"))
    assert (
        "left out of the training data: 1 for line is not JSON, 1 for missing key" in capsys.readouterr().out
    )


def test_text_of_others_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    row = {
        "id": "\x1b[31mred",
        "prompt": "\x1b]0;x\x07 \ud800 \u202e wer",
        "responses": ["a", "b"],
        "gold": [1, 0],
    }
    data = put(tmp_path / "items.jsonl", lines([{**row, "strata": {"family": "\x1b[2J"}}]))
    train = put(
        tmp_path / "t.jsonl", lines([{"prompt": row["prompt"], "chosen": "a", "rejected": "b\ud800"}])
    )
    out = tmp_path / "found.jsonl"
    look(data, train, more=("-o", str(out)))
    shown = capsys.readouterr().out
    assert not [c for c in shown if c != "\n" and (not c.isprintable() or c == "\u202e")]
    assert "\\u001b[31mred" in shown
    assert json.loads(out.read_text())["id"] == "\x1b[31mred"
    assert told(capsys, data, train)["overall"]["chosen_as_chosen_to_its_prompt"]["found"] == 1


def test_a_task_without_gold_says_what_it_cannot_tell(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"id": "a", "prompt": sentence(1), "responses": [sentence(2), sentence(3)]}
    data = put(tmp_path / "items.jsonl", lines([row]))
    look(data, put(tmp_path / "t.jsonl", lines([{"text": sentence(2)}])))
    shown = capsys.readouterr().out
    assert "no numbers for chosen, rejected: no item has responses of different gold" in shown
    assert "any response seen as unlabelled  " in shown


def test_the_help_names_every_format_and_every_key(capsys: pytest.CaptureFixture[str]) -> None:
    assert set(FORMATS) == {"auto", *LAYOUTS}
    assert run(["contamination", "--help"]) == 0
    shown = capsys.readouterr().out.splitlines()
    for name, layout in LAYOUTS.items():
        line = next(text for text in shown if text.split()[:1] == [name])
        assert all(key in line for key in layout.keys), name


def test_an_unknown_task_or_split_is_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    look(data, Path("preferences:train"), code=2)
    assert "Did you mean 'preference'?" in capsys.readouterr().err
    assert run(["contamination", "--train", "x", "-t", "preferenc"]) == 2
    assert "'preference'" in capsys.readouterr().err
