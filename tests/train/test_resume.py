"""Killed at any moment: the same weights, and nothing half-written is believed."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import arguments, kill_after_a_checkpoint, largest_difference, scores_of_the_folder, weights

from rmbench.cli.main import run
from rmbench.train.fit import last_complete_checkpoint

Make = Callable[..., Path]


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "tokenizer"), [("llama", "bos"), ("bert", "pair")])
def test_adapters_resume_and_the_merged_folder_scores_as_plain_transformers_does(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, arch: str, tokenizer: str
) -> None:
    base = make_checkpoint(arch, tokenizer=tokenizer, head=False, initializer_range=0.05)
    options: dict[str, Any] = {"epochs": 8, "eval_every": 5, "lora": 4, "learning_rate": 0.01}
    assert run(arguments(base, pairs, tmp_path / "straight", **options)) == 0
    out = tmp_path / "killed"
    command = arguments(base, pairs, out, **options)
    kill_after_a_checkpoint([sys.executable, "-m", "rmbench", *command], out)
    assert run(command) == 0
    assert largest_difference(tmp_path / "straight", out) == 0.0
    assert not [name for name in weights(out) if "lora" in name]
    ours, plain = scores_of_the_folder(out, ["Paris Paris", "9 9", "the fox"])
    assert ours == pytest.approx(plain, abs=1e-5)
    assert ours[0] > ours[1], "it has learned"


def test_a_checkpoint_half_written_or_half_removed_is_not_taken(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    remove = shutil.rmtree

    def watch(path: Any, *args: Any, **options: Any) -> None:
        if Path(path).name.startswith("checkpoint-"):
            # What a kill during the removal would leave: the newest whole checkpoint is another one.
            whole = [p.parent for p in Path(path).parent.glob("checkpoint-*/complete")]
            seen.append((Path(path) in whole, len(whole)))
        remove(path, *args, **options)

    monkeypatch.setattr(shutil, "rmtree", watch)
    base = make_checkpoint("llama", head=False)
    assert run(arguments(base, pairs, tmp_path / "out", epochs=4, eval_every=3)) == 0
    assert seen
    assert all(not marked and n_whole >= 1 for marked, n_whole in seen)
    work = tmp_path / "work"
    for name, whole in (("checkpoint-5", True), ("checkpoint-10", True), ("checkpoint-15", False)):
        (work / name).mkdir(parents=True)
        if whole:
            (work / name / "complete").touch()
    assert last_complete_checkpoint(work) == str(work / "checkpoint-10")
    assert not (work / "checkpoint-15").exists()


def test_a_kill_between_record_and_removal_leaves_a_finished_model(
    make_checkpoint: Make, pairs: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    command = arguments(make_checkpoint("llama", head=False), pairs, out, max_steps=2)
    assert run(command) == 0
    before = (out / "rmbench.json").read_bytes()
    (out / ".training" / "checkpoint-2").mkdir(parents=True)
    assert run(command) == 0
    assert (out / "rmbench.json").read_bytes() == before
    assert not (out / ".training").exists()


def test_steps_beyond_the_last_evaluation_are_judged_too(
    make_checkpoint: Make, pairs: Path, tmp_path: Path
) -> None:
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    assert run(arguments(base, pairs, out, max_steps=7, eval_every=4, method="fixed-margin")) == 0
    record = json.loads((out / "rmbench.json").read_text())
    judged = {p["step"]: p["eval_nll"] for p in record["curve"] if "eval_nll" in p}
    assert list(judged) == [4, 7]
    assert record["held_out"]["nll"] == pytest.approx(min(judged.values()), abs=1e-6), (
        "the best by NLL is kept"
    )
