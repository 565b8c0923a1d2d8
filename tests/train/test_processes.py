"""Several processes: the same losses and weights, sharded or not, and an ordinary folder."""

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import (
    arguments,
    kill_after_a_checkpoint,
    largest_difference,
    scores_of_the_folder,
    two_processes,
)

from rmbench.cli.main import run

pytestmark = pytest.mark.long

Make = Callable[..., Path]

SHARDED = {
    "ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_AUTO_WRAP_POLICY": "TRANSFORMER_BASED_WRAP",
    "FSDP_STATE_DICT_TYPE": "FULL_STATE_DICT", "FSDP_RESHARD_AFTER_FORWARD": "true",
    "FSDP_CPU_RAM_EFFICIENT_LOADING": "false",
}  # fmt: skip


def launched(command: list[str], **environment: str) -> str:
    """Return what the processes print."""
    given = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=given)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def losses(folder: Path) -> list[tuple[float, float]]:
    curve = json.loads((folder / "rmbench.json").read_text())["curve"]
    return [(p["step"], p[key]) for p in curve for key in ("loss", "eval_nll", "mu_batch") if key in p]


def test_two_processes_give_the_same_losses_and_one_of_them_speaks(
    make_checkpoint: Make, pairs: Path, tmp_path: Path
) -> None:
    base = make_checkpoint("llama", head=False)
    options = {"learning_rate": 0.001, "precision": "float32"}
    assert run(arguments(base, pairs, tmp_path / "one", **options)) == 0
    both = arguments(base, pairs, tmp_path / "two", micro_batch=2, **options)
    shown = json.loads(launched(two_processes("-m", "rmbench", *both, "--json")))
    assert shown == json.loads((tmp_path / "two" / "rmbench.json").read_text())
    assert [s for s, _ in losses(tmp_path / "one")] == [s for s, _ in losses(tmp_path / "two")]
    for (_, a), (_, b) in zip(losses(tmp_path / "one"), losses(tmp_path / "two"), strict=True):
        assert b == pytest.approx(a, abs=1e-4)
    assert largest_difference(tmp_path / "one", tmp_path / "two") < 2e-4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "more"),
    [("confidence-margin", {}), ("distance-normalised", {}), ("confidence-margin", {"lora": 4})],
)
def test_sharded_weights_are_saved_whole(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, method: str, more: dict[str, int]
) -> None:
    base = make_checkpoint("llama", head=False, initializer_range=0.05)
    script = str(Path(__file__).with_name("fsdp_on_cpu.py"))
    assert run(arguments(base, pairs, tmp_path / "one", method=method, **more)) == 0
    command = arguments(base, pairs, tmp_path / "sharded", method=method, micro_batch=2, **more)
    launched(two_processes(script, *command), **SHARDED)
    assert largest_difference(tmp_path / "one", tmp_path / "sharded") < 1e-5
    ours, plain = scores_of_the_folder(tmp_path / "sharded", ["Paris Paris", "9 9"])
    assert ours == pytest.approx(plain, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("sharded", [False, True])
def test_killed_together_they_continue_to_the_same_weights(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, sharded: bool
) -> None:
    base = make_checkpoint("llama", head=False, initializer_range=0.05)
    options = {"epochs": 12, "eval_every": 5, "micro_batch": 4}
    start = [str(Path(__file__).with_name("fsdp_on_cpu.py"))] if sharded else ["-m", "rmbench"]
    environment = SHARDED if sharded else {}
    straight = arguments(base, pairs, tmp_path / "straight", **options)
    launched(two_processes(*start, *straight), **environment)
    killed = two_processes(*start, *arguments(base, pairs, tmp_path / "killed", **options))
    kill_after_a_checkpoint(killed, tmp_path / "killed", **environment)
    launched(killed, **environment)
    assert largest_difference(tmp_path / "straight", tmp_path / "killed") < 1e-6


def test_a_frozen_backbone_is_for_one_process(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("WORLD_SIZE", "2")
    command = arguments(make_checkpoint("llama", head=False), pairs, tmp_path / "out")
    capsys.readouterr()
    assert run([*command, "--freeze-backbone"]) == 2
    assert "trains in one process" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
