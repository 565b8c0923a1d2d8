"""Killed at any moment: the same weights, and nothing half-written is believed."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import (
    arguments,
    contents,
    kill_after_a_checkpoint,
    largest_difference,
    scores_of_the_folder,
    weights,
)

import rmbench.train.run as training
from rmbench.cli.main import run
from rmbench.train import trainer
from rmbench.train.fit import last_complete_checkpoint
from rmbench.train.trainer import MarginTrainer

pytestmark = pytest.mark.long

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
    assert last_complete_checkpoint(work) == work / "checkpoint-10"
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


def _moments(command: list[str], out: Path, copies: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Run `command`; return what a kill would leave of `out` at each moment: a copy of the folder."""
    found: dict[str, Path] = {}

    def copy_after(owner: Any, name: str, moment: Callable[..., str]) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **options: Any) -> Any:
            result = original(*args, **options)
            if (key := moment(*args)) not in found:
                found[key] = copies / str(len(found)) / out.name
                shutil.copytree(out, found[key])
            return result

        monkeypatch.setattr(owner, name, call)

    copy_after(MarginTrainer, "_save_checkpoint", lambda trainer, *_: f"step {trainer.state.global_step}")
    copy_after(trainer, "write_atomic", lambda path, *_: f"{path.name} of {path.parent.name}")
    copy_after(training, "write_atomic", lambda path, *_: path.name)
    copy_after(training.Base, "merged", lambda *_: "before the final files")
    copy_after(training.TrainingPrompts, "save", lambda *_: "training prompts")
    assert run(command) == 0
    monkeypatch.undo()
    return found


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"max_steps": 10, "eval_every": 4}, id="ends-amid-an-epoch"),
        pytest.param(
            {"epochs": 2, "eval_every": 3, "micro_batch": 2, "method": "confidence-margin"},
            id="micro-batches",
            marks=pytest.mark.slow,
        ),
        pytest.param({"epochs": 2, "eval_every": 50}, id="one-checkpoint", marks=pytest.mark.slow),
        pytest.param(
            {"max_steps": 15, "eval_every": 4, "lora": 4, "learning_rate": 0.3},
            id="adapters",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_killed_at_any_checkpoint_or_final_file_every_file_is_the_same(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
) -> None:  # fmt: skip
    base, out = make_checkpoint("llama", head=False, initializer_range=0.05), tmp_path / "out"
    moments = _moments(arguments(base, pairs, out, **options), out, tmp_path / "moments", monkeypatch)
    straight = contents(out)
    steps = [int(moment.removeprefix("step ")) for moment in moments if moment.startswith("step")]
    curve = json.loads(straight["rmbench.json"])["curve"]
    assert steps == [p["step"] for p in curve if "eval_nll" in p], "every checkpoint is a moment"
    assert {"before the final files", "training prompts", "README.md", "rmbench.json"} <= moments.keys()
    for moment, left in moments.items():
        if moment == "training prompts":  # a kill while they were written
            for path in (p for p in left.iterdir() if p.is_file()):
                path.write_bytes(path.read_bytes()[:-40])
        assert run(arguments(base, pairs, left, **options)) == 0, moment
        again = contents(left)
        assert again.keys() == straight.keys(), moment
        assert [name for name in straight if again[name] != straight[name]] == [], moment


def test_the_best_checkpoint_is_found_after_the_folder_was_moved(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = make_checkpoint("llama", head=False, initializer_range=0.05)
    # It learns too fast: its best checkpoint is not the last.
    options = {"max_steps": 12, "eval_every": 2, "learning_rate": 0.3, "lora": 4}
    monkeypatch.chdir(tmp_path)
    moments = _moments(
        arguments(base, pairs, Path("out"), **options), Path("out"), Path("moments"), monkeypatch
    )
    monkeypatch.chdir(tmp_path)
    record = json.loads(Path("out/rmbench.json").read_text())
    nll = {p["step"]: p["eval_nll"] for p in record["curve"] if "eval_nll" in p}
    best = min(nll, key=lambda step: nll[step])
    assert best < 12
    left = moments["step 12"]
    shutil.rmtree("out")
    monkeypatch.chdir(tmp_path / "moments")
    left = left.relative_to("moments")
    assert run(arguments(base, pairs, left, **options)) == 0
    assert json.loads((left / "rmbench.json").read_text()) == record
