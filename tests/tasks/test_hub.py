"""Data sets on the hub, served by a real server on loopback."""

import gzip
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from rmbench.cli.main import run
from rmbench.tasks.spec import load_task

COMMIT = "0123456789abcdef0123456789abcdef01234567"
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


class Hub(BaseHTTPRequestHandler):
    """Answers what the hub's client asks of the data sets at one commit."""

    def do_GET(self) -> None:
        self._answer(body=True)

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _answer(self, *, body: bool) -> None:
        path = self.path.partition("?")[0]
        content = b""
        for name, files in SETS.items():
            if path == f"/api/datasets/{name}/revision/{COMMIT}":
                siblings = [{"rfilename": file} for file in files]
                content = json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode()
            elif path == f"/api/datasets/{name}/tree/{COMMIT}":
                tree = [{"type": "file", "path": n, "size": len(c), "oid": "0"} for n, c in files.items()]
                content = json.dumps(tree).encode()
            elif path.startswith(prefix := f"/datasets/{name}/resolve/{COMMIT}/"):
                content = files.get(path.removeprefix(prefix), b"")
        self.send_response(200 if content else 404)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("ETag", f'"{sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if body:
            self.wfile.write(content)


@pytest.fixture
def hub() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


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


@pytest.mark.parametrize("data", ["org/name", "org/name@main", f"org/name@{COMMIT[1:]}"])
def test_only_a_whole_commit_means_the_hub(data: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--task", "hh-harmless", "--data", data]) == 2
    assert f"{data}: there is no such file or folder" in capsys.readouterr().err


def test_offline_never_asks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["export", "--task", "judgebench", "--data", f"org/name@{COMMIT}", "--offline"]) == 2
    assert "its data is on the hub and --offline is set" in capsys.readouterr().err
