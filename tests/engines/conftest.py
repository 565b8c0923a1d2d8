"""Real engines: vLLM in this machine and behind servers. `make test-engines` makes their environment."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

TINY = Path(str(files("rmbench"))) / "_data" / "builtin" / "tiny"
"""A trained reward model that comes with the package; its heads are 32 wide, the least that vLLM takes."""
PATIENCE_S = 600


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.engines)


@pytest.fixture(autouse=True, scope="session")
def _vllm() -> None:
    pytest.importorskip("vllm", reason="vLLM is not installed: make test-engines")
    # By default it is a quarter of what is free, and the engines of a session live to its end.
    os.environ["VLLM_CPU_KVCACHE_SPACE"] = "1"


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(scope="session")
def language_model(tmp_path_factory: pytest.TempPathFactory, tokenizers_by_kind: dict[str, Any]) -> Path:
    """A policy: RMBENCH_ENGINES_LM, or a small one drawn at random, whose text is noise."""
    from tiny_models import checkpoint_maker

    if own := os.environ.get("RMBENCH_ENGINES_LM"):
        return Path(own)
    make = checkpoint_maker(tmp_path_factory.mktemp("lm"), tokenizers_by_kind)
    wide = {"hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 2, "num_key_value_heads": 2}
    return make("llama", task="CausalLM", max_position_embeddings=4096, initializer_range=0.2, **wide)


@contextmanager
def serving(model: Path, runner: str, log: Path) -> Iterator[str]:
    """A server of vLLM on a free port, as its makers start it; yields its address."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    environment = os.environ | {
        "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, sorted(os.sched_getaffinity(0)))),
    }  # fmt: skip
    command = [
        sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model), "--runner", runner,
        "--dtype", "float32", "--enforce-eager", "--host", "127.0.0.1", "--port", str(port),
        "--served-model-name", "served",
    ]  # fmt: skip
    with log.open("w") as out:
        process = subprocess.Popen(
            command, stdout=out, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
    try:
        url = f"http://127.0.0.1:{port}"
        _await(url, process, log)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()


def _await(url: str, process: "subprocess.Popen[bytes]", log: Path) -> None:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
        try:
            with opener.open(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(1)
    raise AssertionError(f"no server within {PATIENCE_S} s:\n{log.read_text()[-3000:]}")


@pytest.fixture
def rmbench(tmp_path: Path) -> Callable[..., "subprocess.CompletedProcess[str]"]:
    """Return a function that runs the command line as its user does: in a process of its own."""

    def go(*arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "rmbench", *arguments]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return go
