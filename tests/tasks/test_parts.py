"""Parts: a split by prompt that is the same in every file, for training and for evaluation."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rmbench.cli.main import run
from rmbench.core.files import in_part
from rmbench.train.pairs import read_training_data


@given(st.text(min_size=1), st.floats(0.01, 0.99))
def test_two_parts_share_nothing_and_leave_nothing_out(cluster: str, cut: float) -> None:
    assert in_part(cluster, (0.0, cut)) + in_part(cluster, (cut, 1.0)) == 1
    assert in_part(cluster, None)


def test_a_part_holds_its_share() -> None:
    held = sum(in_part(f"prompt {k}", (0.2, 0.5)) for k in range(4000))
    assert abs(held / 4000 - 0.3) < 0.03


def test_evaluation_and_training_on_two_parts(tmp_path: Path) -> None:
    files = []
    for name, start in (("a", 0), ("b", 30)):
        rows = [
            {"id": f"{name}{k}", "prompt": f"Say {k}", "chosen": f"yes {k} {name}", "rejected": "no"}
            for k in range(start, start + 60)
        ]
        files.append(tmp_path / f"{name}.jsonl")
        files[-1].write_text("".join(json.dumps(r) + "\n" for r in rows))
    sources = [str(f) for f in files]
    low = read_training_data(sources, part=(0.0, 0.5))
    high = read_training_data(sources, part=(0.5, 1.0))
    both = read_training_data(sources)
    prompts = [{p.prompt[-1]["content"] for p in (*d.train, *d.held_out)} for d in (low, high, both)]
    assert not prompts[0] & prompts[1]
    assert prompts[0] | prompts[1] == prompts[2] == {f"Say {k}" for k in range(90)}
    assert both.source == "a.jsonl + b.jsonl"
    assert len(both.train) + len(both.held_out) == 120, "the same prompt in both files stays on one side"
    command = ["eval", "-m", "length", "-t", "preference", "-q", "--results", str(tmp_path / "results"),
               "--store", str(tmp_path / "s")]  # fmt: skip
    rows = [{"id": str(k), "prompt": f"Say {k}", "responses": ["a", "bb"], "gold": [0, 1]} for k in range(90)]
    (tmp_path / "pools.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
    counts = []
    for part in ("0:0.5", "0.5:1"):
        assert run([*command, "--data", str(tmp_path / "pools.jsonl"), "--part", part]) == 0
    records = [json.loads(p.read_text()) for p in (tmp_path / "results").rglob("*.json")]
    counts = [r["counts"]["items"] for r in records]
    assert len(records) == 2, "two parts are two records"
    assert sorted(counts) == sorted(len(p) for p in prompts[:2])
    assert any("prompts 0 to 0.5" in r["provenance"]["data"] for r in records)


@pytest.mark.parametrize("part", ["0.5", "a:b", "0.5:0.5", "0.6:0.2", "-1:1", "0:1.5", "nan:1"])
def test_a_part_that_is_none_is_one_line(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["eval", "-m", "length", "-t", "bon", f"--part={part}"]) == 2
    message = capsys.readouterr().err.strip()
    assert "LOW:HIGH" in message
    assert "\n" not in message


def test_a_file_is_read_as_a_task_reads_it(tmp_path: Path) -> None:
    for model, preference in (("good", 1.9), ("bad", 1.2)):
        folder = tmp_path / "results" / model / "weighted_alpaca_eval_gpt4_turbo"
        folder.mkdir(parents=True)
        rows = [
            {"instruction": f"Say {k}", "output_1": "reference", "generator_1": "ref", "output_2": f"{model} {k}",
             "generator_2": model, "preference": preference, "dataset": "d"}
            for k in range(20)
        ]  # fmt: skip
        (folder / "annotations.json").write_text(json.dumps(rows))
    data = read_training_data(str(tmp_path), like="alpacaeval-bon")
    assert {(p.chosen.split()[0], p.rejected.split()[0]) for p in data.train} == {("good", "bad")}
    assert data.train[0].strength == pytest.approx(0.7)
