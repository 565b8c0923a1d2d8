"""`rmbench models MODEL`: what one model is, and which options it takes."""

import json
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run

OWN = '''
class Mine:
    """Reward: how often a word is in the reply.

    Args:
        word: What is looked for,
            in any case.
        depth: How far.
    """

    def __init__(self, word, depth: int | None = 3, *, runtime=None):
        self.word = word

    def fingerprint(self):
        return {"kind": "mine", "word": self.word}

    def score(self, batch):
        return [float(turns[-1]["content"].lower().count(self.word)) for turns in batch]
'''


def shown(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(["models", *arguments]) == 0
    return capsys.readouterr().out


def test_a_class_in_a_file_is_shown_with_its_options(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my_rm.py").write_text(OWN)
    told: dict[str, Any] = json.loads(shown(capsys, f"{tmp_path}/my_rm.py:Mine", "--json"))
    assert told["summary"] == "Reward: how often a word is in the reply."
    assert told["options"] == [
        {"name": "word", "type": "text", "default": "", "summary": "What is looked for, in any case."},
        {"name": "depth", "type": "whole number", "default": "3", "summary": "How far."},
    ]
    text = shown(capsys, f"{tmp_path}/my_rm.py:Mine")
    assert "word   text (required)" in text
    assert "depth  whole number (default: 3)" in text


def test_every_option_of_a_hugging_face_model_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    told = json.loads(shown(capsys, "hf", "--json"))["options"]
    assert {"label", "share_prompts", "torch_compile", "gguf_file"} <= {option["name"] for option in told}
    assert all(option["summary"] for option in told)
    assert "auto|eager|sdpa|flash_attention_2 (default: auto)" in shown(capsys, "hf:any/folder")


@pytest.mark.parametrize(
    ("scheme", "options"),
    [
        ("dpo", {"beta", "reference", "average", "chat_template"}),
        ("ensemble", {"how", "k", "shift", "scale", "N.OPTION"}),
        ("process", {"label", "reduce", "step_token", "value"}),
        ("hf", {"label", "weights"}),
    ],
)
def test_every_option_of_a_scheme_is_explained(
    capsys: pytest.CaptureFixture[str], scheme: str, options: set[str]
) -> None:
    told = json.loads(shown(capsys, scheme, "--json"))
    assert options <= {option["name"] for option in told["options"]}
    assert all(option["summary"] for option in told["options"])
    assert told["summary"]


def test_models_without_options_and_unknown_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert "none" in shown(capsys, "builtin:tiny")
    assert "a small transformer" in shown(capsys, "builtin:tiny")
    assert run(["models", "lenght"]) == 2
    assert "Did you mean 'length'?" in capsys.readouterr().err
