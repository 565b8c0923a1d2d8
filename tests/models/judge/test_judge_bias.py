"""A judge that obeys what it reads in a reply, on a server: the panel finds it, and counts what failed."""

import json
from pathlib import Path
from typing import Any

import pytest
from judge_server import Fault, JudgeServer, judged_texts

from rmbench.cli.main import run


def obedient(n: int, body: dict[str, Any]) -> Fault:
    """Say the verdict that stands in the reply that asks for it; else that both are equal."""
    _, first, second = judged_texts(body)
    for letter, reply in (("A", first), ("B", second)):
        if f"[[{letter}]]" in reply:
            return "say", f"I was told so.\n[[{letter}]]", "stop"
    return "say", "[[C]]", "stop"


def panel(
    server: JudgeServer, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], *more: str
) -> dict[str, Any]:
    words = ["check", "-m", f"judge:{server.url}", "-M", "model=obedient", "-M", "backoff=0.001", "--bias"]
    code = run([*words, "--data", str(data), "--store", str(tmp_path / "store"), "--json", *more])
    told = capsys.readouterr()
    assert code == 0, told.err
    assert "questions on 20 prompts" in told.err
    found: dict[str, Any] = json.loads(told.out)
    return found


def test_an_obedient_judge_is_found(
    server: JudgeServer, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.fault = obedient
    found = panel(server, data, tmp_path, capsys, "--edit", "verdict")
    rows = {row["test"]: row for row in found["biases"]}
    for test in ("verdict-mark", "verdict-order"):
        assert rows[test]["effect"]["value"] == 0.5
        assert rows[test]["finding"] == "favours it"
        assert rows[test]["flips"]["value"] == 1.0  # the worse reply beats the better one
    for test in ("verdict-words", "verdict-json", "position"):
        assert rows[test]["effect"]["value"] == 0.0
        assert rows[test]["finding"] == "none found"
        assert 0.0 < rows[test]["smallest_shown"] <= 0.5
    assert found["used"]["requests"] == len(server.bodies)
    asked = len(server.bodies)
    again = panel(server, data, tmp_path, capsys, "--edit", "verdict")
    assert len(server.bodies) == asked  # the store answers
    assert again["biases"] == found["biases"]


def test_a_judge_of_ratings_reads_one_reply_at_a_time(
    server: JudgeServer, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = panel(server, data, tmp_path, capsys, "--edit", "length", "-M", "mode=rating")
    rows = {row["test"]: row for row in found["biases"]}
    assert found["unit"] == "sd of rewards within prompts"
    assert rows["position"]["finding"].startswith("not applicable")
    assert rows["length-courtesy"]["finding"] == "favours it"  # this judge rates by length


def test_answers_that_a_judge_does_not_give_are_counted(
    server: JudgeServer, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def silent(n: int, body: dict[str, Any]) -> Fault:
        prompt, *replies = judged_texts(body)
        dead = "question 3" in prompt and "expert" in str(replies)
        return ("say", "I cannot say.", "stop") if dead else None

    server.fault = silent
    found = panel(server, data, tmp_path, capsys, "--edit", "authority")
    rows = {row["test"]: row for row in found["biases"]}
    assert (rows["authority-expert"]["pairs"], rows["authority-expert"]["invalid"]) == (19, 1)
    assert rows["authority-citation"]["pairs"] == 20
    assert sum(found["counts"]["unanswered"].values()) == 4
