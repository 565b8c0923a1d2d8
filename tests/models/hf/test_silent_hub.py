"""A Hub that does not answer is asked once, and told in one line."""

import socket

import pytest

pytest.importorskip("torch", reason="needs the extra hf")

from rmbench.cli.main import run


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a Hub whose port nobody listens at."""
    from huggingface_hub import constants

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    return address


@pytest.mark.parametrize(
    "command",
    [
        ["eval", "--model", "org/none", "--task", "bon"],
        ["check", "--model", "org/none"],
        ["train", "--base", "org/none", "--data", "preference:train", "--out", "x"],
        ["eval", "--model", "length", "--task", "helpsteer3"],
    ],
)
def test_a_hub_that_does_not_answer_is_asked_once(
    command: list[str], closed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert f"{closed} does not answer" in line
    assert "not in the local cache" in line
