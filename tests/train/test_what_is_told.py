"""What a run tells: record, TensorBoard, progress bar, and the registered model's options."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
import torch
from commands import arguments
from tensorboard_events import scalars

from rmbench.cli.main import run
from rmbench.errors import RunError
from rmbench.train.frozen import Representations, train_head
from rmbench.train.losses import LOSSES

Make = Callable[..., Path]


def test_the_record_holds_equation_all_options_versions_and_the_batch_margin(
    make_checkpoint: Make, pairs: Path, tmp_path: Path
) -> None:
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    more = ["-L", "cap=0.5", "--log-dir", str(tmp_path / "logs")]
    assert run([*arguments(base, pairs, out, max_steps=12), *more]) == 0
    record = json.loads((out / "rmbench.json").read_text())
    assert record["loss"]["options"] == {"threshold": "none", "cap": 0.5, "warmup": 0}
    assert "d_i - m_i" in record["loss"]["equation"]
    assert {"rmbench", "torch", "transformers", "accelerate", "peft"} == set(record["versions"])
    assert {"settings", "base", "data"} == set(record["identity"])
    assert record["identity"]["settings"]["seed"] == 0
    (point,) = (p for p in record["curve"] if "mu_batch" in p)
    assert {"step", "loss", "margin", "accuracy", "margin_used"} <= point.keys()
    assert 0.0 <= point["margin_used"] <= 0.5
    steps = [step for name, step in scalars(tmp_path / "logs") if name == "step/mu_batch"]
    assert steps == list(range(1, 13)), "logged every step"


def test_a_head_whose_loss_is_not_finite_names_step_and_pairs() -> None:
    x = torch.ones(4, 3)
    x[2, 1] = float("inf")
    given = Representations(x, torch.zeros(4, 3), torch.ones(4), ("a", "b", "c", "d"))
    options: dict[str, Any] = {
        "batch_size": 4, "epochs": 1.0, "max_steps": None, "learning_rate": 1e-3, "weight_decay": 0.0,
        "warmup": 0.0, "eval_every": 1, "seed": 0,
    }  # fmt: skip
    with pytest.raises(RunError, match=r"not finite at step 1, pairs '[abcd]'"):
        train_head(given, given, LOSSES.get("bradley-terry"), **options)


def test_rewards_that_are_not_finite_after_the_last_step_stop_too(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    assert run(arguments(base, pairs, out, max_steps=1, learning_rate=1e38, warmup=0)) == 1
    assert "not finite after step 1" in capsys.readouterr().err
    assert not (out / "rmbench.json").exists()


@pytest.mark.parametrize("more", [[], ["--freeze-backbone"]])
def test_the_bar_shows_loss_margin_accuracy_speed_and_time_left(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: list[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("COLUMNS", "200")
    command = arguments(make_checkpoint("llama", head=False), pairs, tmp_path / "out", max_steps=3)
    command.remove("-q")
    assert run([*command, *more]) == 0
    (last,) = [line for line in click.unstyle(terminal.getvalue()).splitlines() if "3/3" in line][-1:]
    for word in ("3/3 steps", "loss ", "margin ", "accuracy ", "pairs/s", "left"):
        assert word in last


@pytest.mark.long
def test_options_of_any_loss_reach_the_registered_model(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    command = [
        "eval",
        "-m",
        "confidence-margin",
        "-t",
        "preference",
        "--limit",
        "4",
        "--results",
        str(tmp_path / "r"),
        "-q",
    ]
    options = {"base": base, "data": pairs, "out": out, "batch_size": 8, "max_length": 64, "max_steps": 2}
    flat = [x for k, v in options.items() for x in ("-M", f"{k}={v}")]
    for more, said in (
        (["cap=-1"], "'cap' is -1"),
        (["max_step=2"], "Did you mean 'max_steps'?"),
        (["treshold=mean"], "Did you mean 'threshold'?"),
        (["method=label-margin", "cap=1"], "unknown option 'cap'"),
        (["precision=half"], "unknown value 'half'"),
    ):
        capsys.readouterr()
        assert run([*command, *flat, *(x for m in more for x in ("-M", m))]) == 2
        message = capsys.readouterr().err.strip()
        assert said in message
        assert "\n" not in message
        assert not out.exists()
    more = ["method=label-margin", "scale=0.5", "lora=2", "precision=float32", "eval_limit=3"]
    assert run([*command, *flat, *(x for m in more for x in ("-M", m))]) == 0
    record = json.loads((out / "rmbench.json").read_text())
    assert record["loss"]["options"] == {"scale": 0.5}
    assert record["identity"]["settings"]["lora"] == 2
    assert record["counts"]["held_out_pairs"] == 3


def test_losses_are_listed_with_equation_options_and_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert run(["losses", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    builtin = {"bradley-terry", "label-margin", "fixed-margin", "confidence-margin", "quantile-margin",
            "conservative", "centred", "distance-normalised"}  # fmt: skip
    assert builtin <= rows.keys()
    assert rows["confidence-margin"]["options"] == {"threshold": "none", "cap": None, "warmup": 0}
    assert run(["losses"]) == 0
    shown = capsys.readouterr().out
    for row in rows.values():
        assert row["name"] in shown
        assert row["loss"] in shown
        assert row["source"] is None or row["source"] in shown
    assert rows["confidence-margin"]["source"] == "Qin, Feng & Yang 2024, arXiv 2404.04932, eq. 4 and 5."
    assert [n for n in sorted(builtin) if rows[n]["source"] is None] == ["fixed-margin", "quantile-margin"]
