"""Damaged, older and unwritable stores under `rmbench eval`: the same record, or one line that says what is wrong."""

import json
import os
import random
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from rmbench.cli.main import run

MODEL = '''
"""Rewards that depend on the text alone; every text that is asked for is written down."""
import os


class Logged:
    def fingerprint(self):
        return {"kind": "logged", "version": "1"}

    def score(self, batch):
        with open(os.environ["ASKED"], "a") as log:
            log.writelines(turns[-1]["content"] + "\\n" for turns in batch)
        return [hash_of(turns[-1]["content"]) for turns in batch]


def hash_of(text):
    return sum(ord(c) * (k % 13 + 1) for k, c in enumerate(text)) % 997 / 7
'''
N_ITEMS = 30


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "logged.py").write_text(MODEL)
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    write_items(tmp_path, N_ITEMS)
    return tmp_path


def write_items(workplace: Path, n_items: int) -> None:
    rng = random.Random(0)
    rows = [
        {
            "id": f"i{n}",
            "prompt": f"question {n}",
            "responses": [f"answer {n} {k} {rng.random()}" for k in range(2)],
            "gold": [1.0, 0.0],
        }
        for n in range(n_items)
    ]
    (workplace / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def arguments(workplace: Path, *more: str, results: str = "results") -> list[str]:
    return [
        "eval", "--model", f"{workplace}/logged.py:Logged", "--task", "preference",
        "--data", f"{workplace}/items.jsonl", "--results", f"{workplace}/{results}",
        "--store", f"{workplace}/store", "--json", *more,
    ]  # fmt: skip


def evaluate(
    workplace: Path, capsys: pytest.CaptureFixture[str], *more: str, results: str = "results"
) -> tuple[dict[str, Any], list[str]]:
    """Return the record, and the notes on standard error."""
    capsys.readouterr()
    assert run(arguments(workplace, *more, results=results)) == 0
    out, err = capsys.readouterr()
    return json.loads(out)[0], [line for line in err.splitlines() if line.startswith("note:")]


def n_asked(workplace: Path) -> int:
    return len((workplace / "asked").read_text().splitlines())


def same_numbers(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return all(one[key] == other[key] for key in one if key not in ("provenance", "sha256"))


def change_store(workplace: Path, statement: str, kind: str = "logged") -> None:
    (path,) = (workplace / "store").glob(f"{kind}-*.sqlite")
    db = sqlite3.connect(path)
    db.execute(statement)
    db.commit()
    db.close()


def test_damaged_rewards_are_told_and_computed_again(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, notes = evaluate(workplace, capsys)
    assert notes == []
    assert "damaged" not in first["provenance"]
    change_store(workplace, "UPDATE scores SET reward = -reward WHERE key > 'c'")
    again, notes = evaluate(workplace, capsys, results="again")
    assert same_numbers(first, again)
    n = n_asked(workplace) - 2 * N_ITEMS
    assert 0 < n < 2 * N_ITEMS
    assert again["provenance"]["damaged"] == again["provenance"]["computed"] == n
    (note,) = notes
    assert note.startswith(
        f"note: logged:Logged on preference: {n} stored rewards were damaged and are computed again ("
    )
    assert "/store/logged-" in note
    third, notes = evaluate(workplace, capsys, results="third")
    assert same_numbers(first, third)
    assert notes == []
    assert n_asked(workplace) == 2 * N_ITEMS + n
    rewards = [(workplace / r).rglob("*.rewards.jsonl.gz") for r in ("results", "again", "third")]
    assert len({next(paths).read_bytes() for paths in rewards}) == 1


def test_damaged_gold_is_told(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    gold = ["--gold", f"{workplace}/logged.py:Logged", "--self-gold"]
    evaluate(workplace, capsys, *gold)
    change_store(workplace, "UPDATE scores SET reward = 0.5")
    _, notes = evaluate(workplace, capsys, *gold, results="again")
    assert notes[0].startswith(f"note: gold of preference: {2 * N_ITEMS} stored rewards were damaged")


def test_a_store_that_cannot_be_read_stops_with_one_line(
    workplace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(workplace, capsys)
    (path,) = (workplace / "store").glob("*.sqlite")
    path.write_bytes(path.read_bytes()[:3000])
    assert run(arguments(workplace, results="again")) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {path}: the score store is damaged and cannot be used (")
    assert not list((workplace / "again").rglob("*.json"))
    for file in path.parent.glob(f"{path.name}*"):
        file.unlink()
    evaluate(workplace, capsys, results="again")


OLD = {"tokenizers": "0.21.4"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of installed packages, for the test to change; of the libraries, tokenizers is loaded."""
    found = dict(OLD)
    for name in ("torch", "transformers"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "tokenizers", ModuleType("tokenizers"))
    monkeypatch.setattr("rmbench.core.versions.installed_version", found.get)
    return found


def test_rewards_and_records_of_other_versions_are_told(
    workplace: Path, capsys: pytest.CaptureFixture[str], installed: dict[str, str]
) -> None:
    first, notes = evaluate(workplace, capsys)
    assert notes == []
    assert first["provenance"]["versions"]["tokenizers"] == "0.21.4"
    installed["tokenizers"] = "0.22.1"
    _, notes = evaluate(workplace, capsys)
    said = "of tokenizers 0.21 are reused under 0.22; --fresh computes them again"
    assert notes == [f"note: logged:Logged on preference: a complete record's rewards {said}"]
    again, notes = evaluate(workplace, capsys, results="again")
    assert notes == [f"note: logged:Logged on preference: {2 * N_ITEMS} stored rewards {said}"]
    assert again["provenance"]["reused_from"] == [{"rewards": 2 * N_ITEMS, "versions": OLD}]
    assert again["provenance"]["versions"]["tokenizers"] == "0.22.1"
    assert same_numbers(first, again)
    installed["tokenizers"] = "0.21.9"  # a patch version is recorded, and told to nobody
    third, notes = evaluate(workplace, capsys, results="third")
    assert notes == []
    assert third["provenance"]["reused_from"] == again["provenance"]["reused_from"]


def test_a_model_of_rmbench_without_libraries_names_none(
    workplace: Path, capsys: pytest.CaptureFixture[str], installed: dict[str, str]
) -> None:
    capsys.readouterr()
    for results, version in (("results", "0.21.4"), ("results", "0.22.1"), ("again", "0.23.0")):
        installed["tokenizers"] = version
        command = [
            "length" if word.endswith("Logged") else word for word in arguments(workplace, results=results)
        ]
        assert run(command) == 0
        assert "note" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("option", "place"), [("--results", "there/deeper"), ("--store", "there/deeper"), (None, "there/deeper")]
)
def test_folders_are_tried_before_a_model_is_loaded(
    workplace: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    option: str | None,
    place: str,
) -> None:
    (workplace / "there").write_text("a file")
    words = arguments(workplace)
    if option is None:
        monkeypatch.setenv("RMBENCH_STORE", f"{workplace}/{place}")
        at = words.index("--store")
        words = words[:at] + words[at + 2 :]
    else:
        words += [option, f"{workplace}/{place}"]
    assert run(words) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {option or '--store'} {workplace}/{place}")
    assert line.endswith("no file can be written there (Not a directory); name another folder")
    assert not (workplace / "asked").exists()
    assert not (workplace / "results").exists()


def mounted(workplace: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script in which `small`, a folder, is a file system of its own; skip where that is not allowed."""
    unshare = shutil.which("unshare")
    trial = [unshare or "false", "-r", "-m", "mount", "-t", "tmpfs", "tmpfs", str(workplace)]
    if subprocess.run(trial, capture_output=True, check=False).returncode != 0:
        pytest.skip("no file system can be mounted here")
    (workplace / "small").mkdir()
    words = [sys.executable, "-m", "rmbench", *arguments(workplace, "--quiet", results="small/results")]
    words[words.index("--store") + 1] = str(workplace / "small" / "store")
    start = (
        f"small={shlex.quote(str(workplace / 'small'))}\nevaluate() {{ {shlex.join(words)} >/dev/null; }}\n"
    )
    return subprocess.run(
        [trial[0], "-r", "-m", "sh", "-c", start + script],
        capture_output=True, text=True, timeout=300, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip


def test_a_disk_that_fills_up_is_called_full_and_the_same_command_continues(workplace: Path) -> None:
    write_items(workplace, 3000)
    done = mounted(
        workplace,
        "mount -t tmpfs -o size=700k tmpfs $small\n"
        "evaluate; echo exit $?\n"
        "ls $small/results 2>/dev/null\n"
        "mount -o remount,size=20m $small\n"
        "evaluate; echo exit $?\n",
    )
    assert done.stdout.split() == ["exit", "1", "exit", "0"], done.stderr
    (line,) = done.stderr.splitlines()
    assert "/small/store/logged-" in line
    assert "no space is left for the score store" in line
    assert "--store" in line
    assert "damaged" not in line
    assert 6000 <= n_asked(workplace) < 6000 + 2 * 512  # all texts, and at most the batches in flight


@pytest.mark.parametrize(
    ("preparation", "reason"),
    [
        ("mount -t tmpfs -o ro tmpfs $small", "Read-only file system"),
        (
            "mount -t tmpfs -o size=64k tmpfs $small; head -c 64k /dev/zero >$small/big",
            "No space left on device",
        ),
    ],
    ids=["read-only", "full"],
)
def test_file_systems_that_take_no_file_are_found_first(
    workplace: Path, preparation: str, reason: str
) -> None:
    done = mounted(workplace, f"{preparation}\nevaluate; echo exit $?\n")
    assert done.stdout.split() == ["exit", "2"], done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(
        f"error: --results {workplace}/small/results: no file can be written there ({reason})"
    )
    assert not (workplace / "asked").exists()


def test_a_store_on_a_file_system_that_becomes_read_only(workplace: Path) -> None:
    done = mounted(
        workplace,
        "mount -t tmpfs tmpfs $small; evaluate; mv $small/results $small/before\n"
        "mount -o bind $small/store $small/store; mount -o remount,bind,ro $small/store\n"
        "evaluate; echo exit $?\n",
    )
    assert done.stdout.split() == ["exit", "2"], done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: --store {workplace}/small/store: no file can be written there (Read-only")
