"""Every command that reads records, on records and rewards that somebody changed: refused, or measured anew.

A command either ends with one line and writes nothing, or gives what it gives of the records as they were.
"""

import gzip
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from rmbench.cli.main import run
from rmbench.results.read import find_records
from rmbench.results.record import sealed
from rmbench.results.run import Run

ROOT = Path(__file__).resolve().parents[2]
Contents: TypeAlias = dict[str, bytes]
BOARD = """
name: test
title: Test
summary: All columns.
columns:
  - {id: accuracy, task: preference, metric: accuracy, label: accuracy}
  - {id: win, task: bon, metric: win_rate@max, label: win rate}
rank_by: [accuracy, win]
"""
TASKS = ("preference", "bon", "rewardbench2")

COMMANDS: Mapping[str, list[str]] = {
    "leaderboard": ["leaderboard", "--boards-dir", "boards", "--results", "results", "--out", "out"],
    "compare": ["compare", "length", "random", "-t", "TASK", "--json"],
    "compare-page": ["compare", "length", "random", "-t", "TASK", "--html", "out/page.html"],
    "power": ["power", "length", "random", "-t", "TASK", "--json"],
    "power-of-one": ["power", "length", "-t", "TASK", "--csv"],
    "report": ["report", "length", "-t", "TASK", "--out", "out/page.html"],
    "report-figures": ["report", "length", "-t", "TASK", "--items", "0", "--figures", "out"],
    "curve": ["curve", "results", "--out", "out", "--lines", "model", "--json"],
    "export": ["export", "rewardbench", "results", "--out", "out"],
    "eval": ["eval", "-m", "length", "-m", "random", "-t", "TASK", "--data", "DATA", "--json", "-q"],
}
"""Command -> its arguments in the folder of the records."""
QUICK = ("leaderboard", "compare", "power-of-one", "report-figures", "curve", "export", "eval")
READS = {
    "leaderboard": ("preference", "bon"),
    "export": ("rewardbench2",),
}
"""Commands that do not read records of all tasks."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with records of two models on three tasks."""
    folder = tmp_path_factory.mktemp("place")
    rows = [
        {
            "id": f"i{k}",
            "prompt": f"question {k}",
            "responses": [f"{'word ' * ((k * 7 + n * 5) % 11)}end {n}" for n in range(4)],
            "gold": [float((k + n * n) % 4) for n in range(4)],
            "gold_kind": "graded",
        }
        for k in range(12)
    ]
    (folder / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "boards").mkdir()
    (folder / "boards" / "test.yaml").write_text(BOARD)
    for task in TASKS:
        models = ["-m", "length", "-m", "random", "-t", task, "--data", str(data_of(folder, task))]
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("RMBENCH_STORE", str(folder / "store"))
            assert run(["eval", *models, "--results", str(folder / "results"), "-q"]) == 0
    return folder


def data_of(folder: Path, task: str) -> Path:
    own = ROOT / "tests" / "fixtures" / task / "test.jsonl"
    return own if task == "rewardbench2" else folder / "items.jsonl"


def contents(folder: Path) -> Contents:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def edited(change: Callable[[dict[str, Any]], object], *, seal: bool = False) -> Callable[[Run], None]:
    """Return the damage that `change` does to a record's values; with `seal`, its hash is made again."""

    def damage(stored: Run) -> None:
        values = json.loads(stored.path.read_text())
        change(values)
        stored.path.write_text(json.dumps(sealed(values) if seal else values, indent=1))

    return damage


def flipped(which: Callable[[Run], Path], at: float) -> Callable[[Run], None]:
    """Return the damage of one flipped bit, at a share of the file's length."""

    def damage(stored: Run) -> None:
        raw = bytearray(which(stored).read_bytes())
        raw[int(at * (len(raw) - 1))] ^= 16
        which(stored).write_bytes(raw)

    return damage


def replaced(which: Callable[[Run], Path], content: Callable[[Run], bytes | None]) -> Callable[[Run], None]:
    """Return the damage of other content of a file; None for no file."""

    def damage(stored: Run) -> None:
        raw = content(stored)
        which(stored).unlink() if raw is None else which(stored).write_bytes(raw)

    return damage


def record_of(stored: Run) -> Path:
    return stored.path


def rewards_of(stored: Run) -> Path:
    return stored.rewards_path


def influence_of(stored: Run) -> Path:
    return stored.influence_path


def of_the_other(which: Callable[[Run], Path]) -> Callable[[Run], bytes]:
    """Return what reads the other model's file on the same task."""

    def read(stored: Run) -> bytes:
        others = find_records(stored.path.parents[2])
        return which(
            next(o for o in others if o.task == stored.task and o.model != stored.model)
        ).read_bytes()

    return read


def first_estimate(values: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = next(iter(values["metrics"].values()))
    return found


REFUSED: Mapping[str, Callable[[Run], None]] = {
    "a metric's value": edited(lambda v: first_estimate(v).update(value=0.999)),
    "every metric's value": edited(lambda v: [e.update(value=0.999) for e in v["metrics"].values()]),
    "an interval": edited(lambda v: first_estimate(v).update(ci95=[0.99, 0.999])),
    "the model's name": edited(lambda v: v.update(model="best-of-all")),
    "curves": edited(lambda v: v["curves"].update(made_up=[1])),
    "counts": edited(lambda v: v["counts"].update(items=10_000)),
    "the rewards' hash": edited(lambda v: v["files"]["rewards"].update(sha256="0" * 64)),
    "the seed, sealed again": edited(lambda v: v["identity"].update(seed=7), seal=True),
    "record: a bit at its start": flipped(record_of, 0.0),
    "record: a bit in its middle": flipped(record_of, 0.5),
    "record: cut off": replaced(record_of, lambda r: r.path.read_bytes()[:-40]),
    "record: empty": replaced(record_of, lambda _: b""),
    "rewards: a bit at their start": flipped(rewards_of, 0.0),
    "rewards: a bit in their middle": flipped(rewards_of, 0.5),
    "rewards: a bit at their end": flipped(rewards_of, 1.0),
    "rewards: cut off": replaced(rewards_of, lambda r: r.rewards_path.read_bytes()[:-8]),
    "rewards: empty": replaced(rewards_of, lambda _: b""),
    "rewards: missing": replaced(rewards_of, lambda _: None),
    "rewards: another run's": replaced(rewards_of, of_the_other(rewards_of)),
    "rewards: the same, packed again": replaced(
        rewards_of, lambda r: gzip.compress(gzip.decompress(r.rewards_path.read_bytes()), mtime=1)
    ),
}
"""What is done to the record of `length`, or to what is beside it -> how. No command believes any of it."""
MEASURED_ANEW: Mapping[str, Callable[[Run], None]] = {
    "influence: a bit at its start": flipped(influence_of, 0.0),
    "influence: a bit in its middle": flipped(influence_of, 0.5),
    "influence: a bit at its end": flipped(influence_of, 0.95),
    "influence: missing": replaced(influence_of, lambda _: None),
    "influence: empty": replaced(influence_of, lambda _: b""),
    "influence: another run's": replaced(influence_of, of_the_other(influence_of)),
}
"""Damage that costs time and changes nothing: influence is a cache."""
_TWO = (
    "a metric's value",
    "rewards: a bit in their middle",
    "rewards: missing",
    "influence: a bit in its middle",
)


def cases() -> list[Any]:
    """Return (command, task, damage): a handful for the default suite, all of them marked slow."""
    found = []
    for command in COMMANDS:
        for task in READS.get(command, ("preference", "bon")):
            for damage in {**REFUSED, **MEASURED_ANEW}:
                is_quick = command in QUICK and damage in _TWO and task != "bon"
                marks = () if is_quick else (pytest.mark.slow,)
                found.append(
                    pytest.param(command, task, damage, marks=marks, id=f"{command}, {task}, {damage}")
                )
    return found


@pytest.fixture(scope="module")
def whole(place: Path) -> dict[tuple[str, str], tuple[str, Contents]]:
    """What each command gives of the records as they were, by command and task; filled as they are asked."""
    return {}


def given(
    command: str, task: str, folder: Path, patch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> tuple[int, str, str, Contents]:
    """Return exit code, output, errors and files of a command in a folder."""
    patch.chdir(folder)
    words = {"TASK": task, "DATA": str(data_of(folder, task))}
    capsys.readouterr()
    code = run([words.get(word, word) for word in COMMANDS[command]])
    said = capsys.readouterr()
    return code, said.out, said.err, contents(folder / "out") if (folder / "out").exists() else {}


@pytest.mark.parametrize(("command", "task", "damage"), cases())
def test_no_command_believes_what_was_changed(
    command: str, task: str, damage: str, place: Path, tmp_path: Path,
    whole: dict[tuple[str, str], tuple[str, Contents]], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("RMBENCH_STORE", str(place / "store"))
    folders = {name: tmp_path / name / "place" for name in ("whole", "changed")}
    for folder in folders.values():
        shutil.copytree(place, folder)
    if (command, task) not in whole:
        code, out, error, files = given(command, task, folders["whole"], monkeypatch, capsys)
        assert code == 0, error
        assert out or files
        whole[command, task] = out.replace(str(folders["whole"]), ""), files
    folder = folders["changed"]
    stored = next(r for r in find_records(folder / "results") if (r.model, r.task) == ("length", task))
    {**REFUSED, **MEASURED_ANEW}[damage](stored)
    before = contents(folder / "results")
    code, out, error, files = given(command, task, folder, monkeypatch, capsys)
    if damage in REFUSED:
        assert code in (1, 2), (out, error)
        assert error.startswith("error: ")
        assert error.count("\n") == 1, error
        assert stored.record.run_id in error, "it says which record"
        assert not files, "nothing is written"
        assert contents(folder / "results") == before
    else:
        assert code == 0, error
        assert (out.replace(str(folder), ""), files) == whole[command, task]


@pytest.mark.parametrize("damage", list(REFUSED))
def test_remeasuring_mends_numbers_and_refuses_rewards_that_are_not_its_own(
    damage: str, place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = tmp_path / "results"
    shutil.copytree(place / "results", results)
    before = contents(results)
    stored = next(r for r in find_records(results) if (r.model, r.task) == ("length", "preference"))
    REFUSED[damage](stored)
    changed = contents(results)
    capsys.readouterr()
    code = run(["remeasure", str(stored.path.parent)])
    said = capsys.readouterr()
    if damage in ("a metric's value", "every metric's value", "an interval", "curves"):
        assert code == 0, said.err
        assert contents(results) == before, "its bytes are those that it had"
        assert "it was not as it was written" in said.out
    elif damage in ("counts", "the model's name") or (code == 0 and damage == "record: a bit in its middle"):
        assert code == 0, "these cannot be measured, and it says so"
        assert "its name, counts and provenance are as they were found" in said.out
    else:
        assert code in (1, 2), said.out
        assert said.err.startswith("error: ")
        assert contents(results) == changed
