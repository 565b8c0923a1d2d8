"""Two models of one name in one results folder: the run says so, and nothing mixes them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import rmbench
from rmbench.cli.main import run

MODEL = """
class Rater:
    def fingerprint(self):
        return {"kind": "rater"}

    def score(self, batch):
        return [SIGN * float(len(turns[-1]["content"])) for turns in batch]
"""
Say = Callable[..., str]


@pytest.fixture
def say(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Return a function that runs a command and returns what it printed; models a/m.py and b/m.py are there."""
    monkeypatch.chdir(tmp_path)
    for folder, sign in (("a", "1"), ("b", "-1")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "m.py").write_text(MODEL.replace("SIGN", sign))

    def told(*arguments: str, code: int = 0) -> str:
        capsys.readouterr()
        assert run(list(arguments)) == code
        both = capsys.readouterr()
        return both.out + both.err

    return told


def evaluated(say: Say, *more: str) -> list[str]:
    command = ("eval", "--task", "preference", "--limit", "40", "--store", "s", *more)
    return [say(*command, "--model", f"{folder}/m.py:Rater") for folder in ("a", "b")]


def names(text: str) -> set[str]:
    return set(re.findall(r"m:Rater \([0-9a-f]{6}\)", text))


def test_the_run_says_that_another_model_has_the_name(say: Say) -> None:
    first, second = evaluated(say)
    assert "another model" not in first
    (note,) = [line for line in second.splitlines() if "another model of this name" in line]
    assert re.fullmatch(
        r"note: m:Rater: results has records of another model of this name \([0-9a-f]{6}; other source_sha256\)\."
        r" Where both are shown, this one is m:Rater \([0-9a-f]{6}\); -M name=NAME gives it its own name",
        note,
    )
    assert "another model" not in "".join(evaluated(say, "-q"))
    assert "another model" not in "".join(evaluated(say, "--results", "r", "-M", "name=x")[:1])


def test_a_record_that_cannot_be_read_is_no_obstacle(say: Say) -> None:
    evaluated(say)
    for path in Path("results").rglob("*.json"):
        path.write_text("{")
    assert "another model" not in say("eval", "--task", "preference", "--limit", "30", "--store", "s",
                                      "--model", "b/m.py:Rater")  # fmt: skip


@pytest.mark.long
def test_every_table_tells_them_apart(say: Say) -> None:
    evaluated(say)
    say("eval", "--task", "preference", "--limit", "40", "--store", "s", "--model", "length")
    assert "2 models on 1 task" in say("report", "m:Rater", "--out", "r.html")
    shown = names(Path("r.html").read_text())
    assert len(shown) == 2
    records = rmbench.load_records("results")
    assert set(records.models) == {"length", *shown}
    assert names(str(records)) == shown
    assert {row["model"] for row in records.to_rows()} == {"length", *shown}
    assert len(records.filter(model="m:Rater")) == 2
    for name in shown:
        (one,) = records.filter(model=name)
        assert records.filter(model="m:Rater").one(name, "preference") == one
    paths = [str(one.path) for one in records.filter(model="m:Rater")]
    assert names(say("compare", *paths, "--task", "preference")) == shown
    table = json.loads(say("compare", *paths, "--task", "preference", "--json"))
    assert {table["first"], table["second"]} == shown


def test_a_name_that_means_two_is_refused_and_its_hash_means_one(say: Say) -> None:
    evaluated(say)
    say("eval", "--task", "preference", "--limit", "40", "--store", "s", "--model", "length")
    for command in (["compare", "m:Rater", "length"], ["power", "m:Rater"]):
        told = say(*command, "--task", "preference", code=2)
        assert (
            "2 records of 'm:Rater' on 'preference': name one by its path, or by its name in brackets" in told
        )
        assert len(names(told)) == 2
        assert len(set(re.findall(r"results/\S+\.json", told))) == 2
        for name in names(told):
            say(*(name if word == "m:Rater" else word for word in command), "--task", "preference")


def test_one_model_keeps_its_plain_name(say: Say) -> None:
    say("eval", "--task", "preference", "--limit", "40", "--store", "s", "--model", "a/m.py:Rater")
    again = say("eval", "--task", "preference", "--limit", "30", "--store", "s", "--model", "a/m.py:Rater")
    assert "another model" not in again
    assert rmbench.load_records("results").models == ["m:Rater"]
