"""Data sets on the hub, served by a real server on loopback."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hub_server import COMMIT, Served

from rmbench.cli.main import run
from rmbench.tasks.spec import load_task

TRANSCRIPTS = {
    "chosen": "\n\nHuman: Q\n\nAssistant: yes",
    "rejected": "\n\nHuman: Q\n\nAssistant: no no",
}
FILES = {
    "README.md": b"not asked for",
    "data/raw.jsonl": b"not this one",
    "other/test.jsonl.gz": b"neither this one",
    "harmless-base/test.jsonl.gz": gzip.compress(json.dumps(TRANSCRIPTS).encode(), mtime=0),
}
MORE = {"chosen": "\n\nHuman: P\n\nAssistant: sure", "rejected": "\n\nHuman: P\n\nAssistant: no"}
SETS = {
    "org/name": FILES,
    "org/other": {"harmless-base/more.jsonl.gz": gzip.compress(json.dumps(MORE).encode(), mtime=0)},
}


@pytest.fixture
def hub() -> Iterator[str]:
    server = Served(SETS)
    yield server.address
    server.stop()


def export(hub: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_OFFLINE": "0"}
    command = [sys.executable, "-m", "rmbench", "export", "--task", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_data_of_a_commit_on_the_hub(hub: str, tmp_path: Path) -> None:
    done = export(hub, tmp_path, "hh-harmless", "--data", f"org/name@{COMMIT}")
    assert done.returncode == 0, done.stderr
    (item,) = map(json.loads, done.stdout.splitlines())
    assert item["responses"] == ["yes", "no no"]
    there = {p.name for p in tmp_path.rglob("*") if p.is_file() or p.is_symlink()}
    assert "test.jsonl.gz" in there
    assert not {"raw.jsonl", "README.md"} & there  # only the task's own files are fetched


def test_a_task_may_fetch_fewer_files_than_it_reads_from_a_folder(hub: str, tmp_path: Path) -> None:
    task = tmp_path / "mine.yaml"
    text = load_task("hh-harmless").path.read_text().replace("name: hh-harmless", "name: mine")
    text = text.replace(
        "files: harmless-base/test.jsonl.gz", 'files: "**/*.jsonl.gz"\n  hub_files: "harmless-base/*"'
    )
    task.write_text(re.sub("hub: .*", f"hub: org/name@{COMMIT}", text))
    done = export(hub, tmp_path, str(task))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1


def test_a_task_may_lie_in_several_data_sets_read_in_their_order(hub: str, tmp_path: Path) -> None:
    task = tmp_path / "mine.yaml"
    text = load_task("hh-harmless").path.read_text().replace("name: hh-harmless", "name: mine")
    both = f"hub: [org/other@{COMMIT}, org/name@{COMMIT}]"
    text = re.sub("files: .*", 'files: "harmless-base/*.jsonl.gz"', text)
    task.write_text(re.sub("hub: .*", both, text))
    done = export(hub, tmp_path, str(task))
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["responses"][0] for line in done.stdout.splitlines()] == ["sure", "yes"]


def test_a_commit_that_is_not_there_is_one_line(hub: str, tmp_path: Path) -> None:
    done = export(hub, tmp_path, "hh-harmless", "--data", f"org/name@{COMMIT[::-1]}")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"org/name@{COMMIT[::-1]} cannot be fetched" in done.stderr


def row(prompt: str, chosen: str = "yes", rejected: str = "no") -> bytes:
    return json.dumps({"prompt": prompt, "chosen": chosen, "rejected": rejected}).encode()


CARD = b"""---
license: mit
configs:
- config_name: easy
  data_files:
  - split: train_prefs
    path: data/train_prefs-*
  - split: test_prefs
    path: [data/test_prefs-*]
- config_name: hard
  data_files: hard/**/*.jsonl
---
# A data set
"""
SETS |= {
    "org/carded": {
        "README.md": CARD,
        "data/train_prefs-00000-of-00001.jsonl": row("in training"),
        "data/test_prefs-00000-of-00002.jsonl": row("first shard"),
        "data/test_prefs-00001-of-00002.jsonl": row("second shard"),
        "hard/deep/x.jsonl": row("hard"),
    },
    "org/names": {
        "data/train_sft-00000-of-00001.jsonl": row("sft"),
        "data/train_prefs-00000-of-00001.jsonl": row("prefs"),
        "extra/test.jsonl": row("extra"),
    },
    "org/single": {"README.md": b"no head", "pairs.jsonl": row("one") + b"\n" + row("two")},
    "org/nothing": {"README.md": b"a picture", "picture.png": b"x"},
}


@pytest.mark.parametrize(
    ("data", "prompts"),
    [
        ("org/single", ["one", "two"]),
        ("hf:org/single", ["one", "two"]),
        ("org/single@main", ["one", "two"]),
        (f"org/single@{COMMIT}", ["one", "two"]),
        ("org/carded/easy:test_prefs", ["first shard", "second shard"]),
        (f"org/carded/easy:train_prefs@{COMMIT}", ["in training"]),
        ("org/carded/hard", ["hard"]),
        ("org/names:train_prefs", ["prefs"]),
        ("org/names/extra", ["extra"]),
    ],
)
def test_a_split_of_a_data_set(data: str, prompts: list[str], hub: str, tmp_path: Path) -> None:
    done = export(hub, tmp_path, "preference", "--data", data)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["prompt"][0]["content"] for line in done.stdout.splitlines()] == prompts


@pytest.mark.parametrize(
    ("data", "says"),
    [
        ("org/carded", "several configurations: easy, hard; name one, such as org/carded/easy"),
        ("org/carded/easy", f"several splits: train_prefs, test_prefs; name one of them, such as org/carded/easy:test_prefs@{COMMIT}"),
        ("org/names", "several splits: train_prefs, train_sft, test; name one of them"),
        ("org/carded/easy:valid", "it has no split 'valid'; it has train_prefs, test_prefs"),
        ("org/carded/medium", "it has no configuration or folder 'medium'; it has easy, hard, data"),
        ("org/nothing", "no files that can be read"),
        ("org/missing", "there is no such file or folder, and it cannot be fetched from the Hub"),
    ],
)  # fmt: skip
def test_what_is_to_be_named_is_said_in_one_line(data: str, says: str, hub: str, tmp_path: Path) -> None:
    done = export(hub, tmp_path, "preference", "--data", data)
    assert done.returncode == 2
    assert says in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_the_commit_is_said_and_recorded(hub: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    where = ["--results", str(tmp_path / "r"), "--store", str(tmp_path / "s"), "--json"]
    asked = ["eval", "--model", "length", "--task", "preference", "--data", "org/single", *where]
    done = subprocess.run(
        [sys.executable, "-m", "rmbench", *asked],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    remark = f"org/single is now at commit {COMMIT}; --data org/single@{COMMIT} reads the same again"
    assert remark in done.stderr
    (record,) = json.loads(done.stdout)
    assert record["provenance"]["data"] == f"hub: org/single@{COMMIT}"
    assert record["provenance"]["read_as"][0] == remark


@pytest.mark.long
def test_training_and_contamination_read_the_same(hub: str, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    task = tmp_path / "pairs.jsonl"
    task.write_bytes(row("in training"))
    asked = [
        "contamination",
        "--train",
        "org/carded/easy:train_prefs",
        "--task",
        "preference",
        "--data",
        str(task),
    ]
    done = subprocess.run(
        [sys.executable, "-m", "rmbench", *asked, "--json"], env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["training"]["rows"] == 1
    code = (
        "from rmbench.train.pairs import read_training_data as read\n"
        "found = read('org/single', held_out=0.5)\n"
        "print(found.source, len(found.train) + len(found.held_out))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.stdout == f"org/single@{COMMIT} 2\n", done.stderr


@pytest.mark.parametrize("command", [["--offline"], []])
def test_offline_is_one_line_at_once(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", not command)
    assert run(["export", "--task", "preference", "--data", "org/name:test", *command]) == 2
    name = command[0] if command else "HF_HUB_OFFLINE"
    assert f"--data org/name:test is on the Hub and {name} is set" in capsys.readouterr().err


def test_a_path_with_a_typo_is_not_asked_for_on_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for name in ("data/pairs", "nowhere/pairs.jsonl", "pairs"):
        assert run(["export", "--task", "preference", "--data", name]) == 2
        said = capsys.readouterr().err
        assert f"{name}: there is no such file or folder" in said
        assert ("--data hf:data/pairs" in said) == (name == "data/pairs")


def test_a_task_with_files_of_its_own_takes_whole_data_sets(hub: str, tmp_path: Path) -> None:
    done = export(hub, tmp_path, "hh-harmless", "--data", "org/name")
    assert done.returncode == 0, done.stderr
    done = export(hub, tmp_path, "hh-harmless", "--data", "org/name:test")
    assert done.returncode == 2
    assert "reads its own files of a data set" in done.stderr


def test_offline_never_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--task", "judgebench", "--data", f"org/name@{COMMIT}", "--offline"]) == 2
    assert "its data is on the hub and --offline is set" in capsys.readouterr().err
