"""Texts that quote a control token of the model are counted, and said."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from rmbench.cli.main import run
from rmbench.results.read import find_records
from rmbench.results.record import caveats

ROWS = [
    {"prompt": "What ends a turn?", "chosen": "It is </s>, </s> always.", "rejected": "No."},
    {"prompt": "What is <s>?", "chosen": "It strikes through: <s>a</s>", "rejected": "< s>"},
    {"prompt": "What?", "chosen": "a", "rejected": "b"},
]


@pytest.mark.parametrize("spec", ["{}", "ensemble:{},length", "length"])
def test_texts_with_a_control_token_are_counted(
    make_checkpoint: Callable[..., Path], tmp_path: Path, spec: str
) -> None:
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    model = spec.format(make_checkpoint("llama"))
    assert run(["eval", "-t", "preference", "--data", f"{tmp_path}/pairs.jsonl", "--device", "cpu", "-q", "-m",
                model, "--results", f"{tmp_path}/r", "--store", f"{tmp_path}/s"]) == 0  # fmt: skip
    (found,) = find_records(tmp_path / "r")
    counted = found.record.counts.get("special_tokens")
    assert counted == (None if spec == "length" else {"</s>": 2, "<s>": 2})
    told = [caveat for caveat in caveats(found.record) if "special token" in caveat]
    assert len(told) == (spec != "length")
    assert all("'</s>' in 2, '<s>' in 2" in caveat for caveat in told)
