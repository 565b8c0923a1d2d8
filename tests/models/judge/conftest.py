"""A judge's server, data for it, and the command line."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from judge_server import Evaluate, JudgeServer, write

from rmbench.cli.main import run


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def server() -> Iterator[JudgeServer]:
    made = JudgeServer()
    yield made
    made.end()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    rng = random.Random(7)
    rows = [
        {
            "id": f"i{n}",
            "prompt": f"question {n}",
            "responses": [f"{k}{n:02d}" + "x" * rng.randint(0, 9) * 10 for k in range(2)],
            "gold": [1, 0],
        }
        for n in range(20)
    ]
    return write(tmp_path / "items.jsonl", rows)


@pytest.fixture
def evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Evaluate:
    """Return a function that runs `rmbench eval` on a file and returns (exit code, stdout, stderr)."""

    def go(model: str, data: Path, *options: str, task: str = "preference") -> tuple[int, str, str]:
        folders = ["--results", str(tmp_path / "results"), "--store", str(tmp_path / "store")]
        judge = ["-M", "model=longer", "-M", "backoff=0.001"] if model.startswith("judge:") else []
        capsys.readouterr()
        code = run(
            ["eval", "-m", model, *judge, "-t", task, "--data", str(data), "--json", *folders, *options]
        )
        told = capsys.readouterr()
        return code, told.out, told.err

    return go
