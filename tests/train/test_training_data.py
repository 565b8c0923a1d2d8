"""What becomes training pairs: joined sources, pools, caps, and what is counted."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import arguments

from rmbench.cli.main import run
from rmbench.study.run import pairs_of, settings_of
from rmbench.study.spec import load_study
from rmbench.train.pairs import BEYOND_EVAL_LIMIT, read_training_data

Make = Callable[..., Path]


@pytest.fixture
def pools(tmp_path: Path) -> Path:
    """Thirty prompts with three replies each, graded."""
    path = tmp_path / "pools.jsonl"
    rows = [
        {
            "id": f"q{k}",
            "prompt": f"Pool {k}?",
            "responses": ["best", "middle", "worst"],
            "gold": [0.9, 0.5, 0.2],
            "gold_kind": "graded",
        }
        for k in range(30)
    ]
    path.write_text("".join(json.dumps(r) + "\n" for r in rows))
    return path


def test_pools_give_all_pairs_or_k_per_prompt_with_the_gold_difference_as_strength(pools: Path) -> None:
    found = read_training_data(str(pools))
    everything = [*found.train, *found.held_out]
    assert len(everything) == 90
    told = {(p.chosen, p.rejected): p.strength for p in everything}
    expected = {("best", "middle"): 0.4, ("middle", "worst"): 0.3, ("best", "worst"): 0.7}
    assert told == pytest.approx(expected)
    some = read_training_data(str(pools), pairs_per_prompt=2)
    per_prompt = [p.cluster for p in (*some.train, *some.held_out)]
    assert {per_prompt.count(c) for c in per_prompt} == {2}
    assert some == read_training_data(str(pools), pairs_per_prompt=2)


def test_the_command_line_joins_sources_and_prints_what_is_left_out(
    make_checkpoint: Make, pairs: Path, pools: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    command = arguments(base, pairs, out, max_steps=2, eval_limit=4, max_length=8)
    capsys.readouterr()
    assert run([*command, "--data", str(pools), "--data", str(pairs)]) == 0
    shown = capsys.readouterr().out
    record = json.loads((out / "rmbench.json").read_text())
    assert record["source"] == "pairs.jsonl + pools.jsonl + pairs.jsonl"
    assert record["counts"]["dropped"]["duplicate pairs"] == 60
    assert record["counts"]["held_out_pairs"] == 4
    n_beyond = record["counts"]["dropped"][BEYOND_EVAL_LIMIT]
    assert record["counts"]["train_pairs"] + n_beyond + 4 == 150
    assert f"left out: {n_beyond} for held-out pairs beyond --eval-limit" in shown
    assert "held out (4 pairs)" in shown
    assert "60 for duplicate pairs" in shown
    assert record["counts"]["truncated_texts"] > 0
    assert f"{record['counts']['truncated_texts']} texts truncated" in shown


def test_an_evaluation_limit_draws_by_seed_and_leaves_the_training_pairs_alone(pools: Path) -> None:
    free, wide, capped = (read_training_data(str(pools), eval_limit=n) for n in (None, 1000, 4))
    assert free == wide, "where it does not bite, nothing changes"
    assert capped.train == free.train
    assert {p.id for p in capped.held_out} < {p.id for p in free.held_out}
    assert len(capped.held_out) == 4
    assert capped.data_hash != free.data_hash
    assert capped.dropped[BEYOND_EVAL_LIMIT] == len(free.held_out) - 4
    assert capped == read_training_data(str(pools), eval_limit=4)


def test_a_study_caps_its_held_out_pairs(pools: Path, tmp_path: Path) -> None:
    text = """
name: small
summary: A cap.
bases: {{tiny: somewhere}}
data: [{{name: pools, source: {pools}}}]
methods: [{{name: bradley-terry}}]
seeds: 1
train: {{freeze_backbone: true{more}}}
evaluate: [{{task: preference}}]
reference: bradley-terry
"""
    sizes: dict[str, Any] = {}
    for more in ("", ", eval_limit: 4"):
        path = tmp_path / "study.yaml"
        path.write_text(text.format(pools=pools, more=more))
        spec = load_study(path, {})
        settings_of(spec, "tiny", spec.methods[0], 0)
        sizes[more] = len(pairs_of(spec.data[0], 0, spec.train.eval_limit, True).held_out)
    assert sizes == {"": 9, ", eval_limit: 4": 4}


def test_a_training_split_of_a_task(make_checkpoint: Make, tmp_path: Path) -> None:
    found = read_training_data("preference:train", limit=40)
    assert found.source == "preference:train"
    assert len(found.train) + len(found.held_out) == 40
    assert not {p.cluster for p in found.train} & {p.cluster for p in found.held_out}
