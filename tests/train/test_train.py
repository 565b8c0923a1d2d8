"""Training: what comes out, what does not change it, and what stops it. Tiny models, real processes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import arguments, has_checkpoint, kill_after_a_checkpoint, largest_difference, weights
from kills import wait_until
from safetensors.torch import load_file

from rmbench.cli.main import run
from rmbench.models.runtime import Runtime
from rmbench.train.registered import confidence_margin

Make = Callable[..., Path]


@pytest.mark.parametrize(("arch", "tokenizer"), [("llama", "bos"), ("bert", "pair"), ("gpt2", "bare")])
@pytest.mark.parametrize("method", ["bradley-terry", "confidence-margin"])
def test_a_trained_model_is_an_ordinary_folder_that_learned(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, arch: str, tokenizer: str, method: str
) -> None:
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    from rmbench.models.resolve import load_model

    base = make_checkpoint(arch, tokenizer=tokenizer, head=False, initializer_range=0.05)
    out = tmp_path / "out"
    assert run(arguments(base, pairs, out, method=method)) == 0
    record = json.loads((out / "rmbench.json").read_text())
    assert record["held_out"]["accuracy"] >= 0.9
    assert not list(out.glob(".training")), "the working folder is gone"
    assert {p.suffix for p in out.iterdir()} <= {".json", ".safetensors", ".md", ".jinja", ".txt", ".npz"}, (
        "no pickle"
    )
    assert str(tmp_path) not in (out / "rmbench.json").read_text() + (out / "README.md").read_text()

    loaded = load_model(str(out))
    turns = [{"role": "user", "content": "What is 3?"}, {"role": "assistant", "content": "the fox Paris"}]
    ours = loaded.model.score([turns])[0].reward  # type: ignore[union-attr]
    plain = AutoModelForSequenceClassification.from_pretrained(out).eval()
    fast = AutoTokenizer.from_pretrained(out)
    encoded = loaded.model.encode([turns])[0]  # type: ignore[union-attr]
    inputs = {"input_ids": torch.tensor([encoded.ids])}
    if encoded.type_ids is not None:
        inputs["token_type_ids"] = torch.tensor([encoded.type_ids])
    # Once alone, and once padded with the saved padding token.
    with torch.inference_mode():
        assert float(plain(**inputs).logits[0, 0]) == pytest.approx(ours, abs=1e-5)
        padded = {
            k: torch.nn.functional.pad(v, (0, 3), value=fast.pad_token_id if k == "input_ids" else 0)
            for k, v in inputs.items()
        }
        mask = torch.nn.functional.pad(torch.ones_like(inputs["input_ids"]), (0, 3))
        assert float(plain(**padded, attention_mask=mask).logits[0, 0]) == pytest.approx(ours, abs=1e-5)


@pytest.mark.parametrize("more", [[], ["--freeze-backbone"]])
def test_tensorboard_events(make_checkpoint: Make, pairs: Path, tmp_path: Path, more: list[str]) -> None:
    base = make_checkpoint("llama", head=False)
    assert run([*arguments(base, pairs, tmp_path / "out"), *more, "--log-dir", str(tmp_path / "logs")]) == 0
    (events,) = (tmp_path / "logs").glob("events.out.tfevents.*")
    assert b"nll" in events.read_bytes()


def test_every_parameter_moves(make_checkpoint: Make, pairs: Path, tmp_path: Path) -> None:
    base = make_checkpoint("llama", head=False)
    assert run(arguments(base, pairs, tmp_path / "out")) == 0
    before, after = load_file(base / "model.safetensors"), weights(tmp_path / "out")
    for name, value in before.items():
        assert not torch.equal(value, after[f"model.{name}" if f"model.{name}" in after else name]), name
    assert "score.weight" in after


@pytest.mark.parametrize(
    "method", ["bradley-terry", "confidence-margin", "quantile-margin", "distance-normalised"]
)
def test_how_a_step_is_cut_changes_nothing(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, method: str
) -> None:
    base = make_checkpoint("llama", head=False)
    for micro in (8, 1):
        assert run(arguments(base, pairs, tmp_path / f"m{micro}", micro_batch=micro, method=method)) == 0
    assert largest_difference(tmp_path / "m8", tmp_path / "m1") < 2e-4
    curves = [json.loads((tmp_path / f"m{m}" / "rmbench.json").read_text())["curve"] for m in (8, 1)]
    for a, b in zip(*curves, strict=True):
        for key in a.keys() & {"loss", "eval_nll"}:
            assert b[key] == pytest.approx(a[key], abs=2e-4)


@pytest.mark.parametrize("method", ["bradley-terry", "confidence-margin", "distance-normalised"])
def test_how_rows_are_cut_into_forward_passes_changes_nothing(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    base = make_checkpoint("llama", head=False)
    for tokens_per_forward in (10**6, 0):
        monkeypatch.setattr("rmbench.train.trainer.TOKENS_PER_FORWARD", tokens_per_forward)
        out = tmp_path / str(tokens_per_forward)
        assert run(arguments(base, pairs, out, micro_batch=4, method=method)) == 0
    assert largest_difference(tmp_path / "0", tmp_path / "1000000") < 2e-4


@pytest.mark.long
def test_killed_and_continued_it_ends_with_the_same_weights(
    make_checkpoint: Make, pairs: Path, tmp_path: Path
) -> None:
    base = make_checkpoint("llama", head=False)
    options = {"epochs": 12, "eval_every": 5}
    assert run(arguments(base, pairs, tmp_path / "straight", **options)) == 0
    out = tmp_path / "killed"
    command = [sys.executable, "-m", "rmbench", *arguments(base, pairs, out, **options)]
    kill_after_a_checkpoint(command, out)
    # What a kill in the middle of writing leaves behind: a checkpoint without its mark.
    (out / ".training" / "checkpoint-99999").mkdir()
    assert run(arguments(base, pairs, out, **options)) == 0
    assert largest_difference(tmp_path / "straight", out) == 0.0
    same = [json.loads((d / "rmbench.json").read_text()) for d in (tmp_path / "straight", out)]
    assert same[0]["held_out"] == same[1]["held_out"]


@pytest.mark.long
def test_two_runs_at_once_do_not_write_into_one_folder(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = arguments(
        make_checkpoint("llama", head=False), pairs, tmp_path / "out", epochs=20, eval_every=5
    )
    process = subprocess.Popen([sys.executable, "-m", "rmbench", *command], stderr=subprocess.DEVNULL)
    wait_until(process, lambda: has_checkpoint(tmp_path / "out"))
    process.send_signal(signal.SIGSTOP)  # alive, as a worker whose launcher was killed
    before = sorted(p.name for p in (tmp_path / "out" / ".training").iterdir())
    assert run(command) == 2
    assert "another process is training in it" in capsys.readouterr().err
    assert sorted(p.name for p in (tmp_path / "out" / ".training").iterdir()) == before
    process.kill()
    process.wait()
    assert run(command) == 0, "a lock of the dead is no lock"
    assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.name.startswith(".")) == []


@pytest.mark.parametrize("more", [(), ("--freeze-backbone",)])
@pytest.mark.long
def test_bfloat16_products_learn_and_weights_stay_float32(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, more: tuple[str, ...]
) -> None:
    base = make_checkpoint("llama", head=False)
    for precision in ("float32", "bfloat16"):
        command = arguments(base, pairs, tmp_path / precision, precision=precision)
        assert run([*command, *more]) == 0
    exact, rounded = (load_file(tmp_path / p / "model.safetensors") for p in ("float32", "bfloat16"))
    assert all(t.dtype == torch.float32 for t in rounded.values())
    apart = max(float((exact[k] - rounded[k]).abs().max()) for k in exact)
    assert 0 < apart < 0.1
    records = [json.loads((tmp_path / p / "rmbench.json").read_text()) for p in ("float32", "bfloat16")]
    assert records[0]["held_out"]["nll"] == pytest.approx(records[1]["held_out"]["nll"], abs=0.05)


def test_a_finished_run_is_not_repeated_and_another_one_is_refused(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    assert run(arguments(base, pairs, out)) == 0
    before = {p: p.stat().st_mtime_ns for p in out.iterdir()}
    assert run(arguments(base, pairs, out, micro_batch=4)) == 0, "how a step is cut is no other run"
    assert {p: p.stat().st_mtime_ns for p in out.iterdir()} == before
    capsys.readouterr()
    assert run(arguments(base, pairs, out, seed=1)) == 2
    assert "another trained model" in capsys.readouterr().err


def test_lora_is_merged_into_an_ordinary_model(make_checkpoint: Make, pairs: Path, tmp_path: Path) -> None:
    base = make_checkpoint("llama", head=False)
    assert run(arguments(base, pairs, tmp_path / "out", lora=4, learning_rate=0.01)) == 0
    names = set(weights(tmp_path / "out"))
    assert not [n for n in names if "lora" in n]
    assert (
        run(
            [
                "eval",
                "-m",
                str(tmp_path / "out"),
                "-t",
                "preference",
                "--limit",
                "2",
                "--results",
                str(tmp_path / "r"),
                "-q",
            ]
        )
        == 0
    )


@pytest.mark.parametrize(("arch", "tokenizer"), [("llama", "bos"), ("bert", "pair")])
def test_a_head_on_a_frozen_backbone(
    make_checkpoint: Make,
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arch: str,
    tokenizer: str,
) -> None:
    store = tmp_path / "store"
    monkeypatch.setenv("RMBENCH_STORE", str(store))
    base = make_checkpoint(arch, tokenizer=tokenizer, head=False)
    options: dict[str, Any] = {"learning_rate": 0.02, "epochs": 6}
    command = [*arguments(base, pairs, tmp_path / "a", **options), "--freeze-backbone"]
    assert run(command) == 0
    record = json.loads((tmp_path / "a" / "rmbench.json").read_text())
    if arch == "llama":  # a random encoder's first token says nothing
        assert record["held_out"]["accuracy"] >= 0.8
    before, after = load_file(base / "model.safetensors"), weights(tmp_path / "a")
    for name, value in before.items():
        full = next(n for n in after if n.endswith(name))
        assert torch.equal(value, after[full]), "the backbone is frozen"
    stored = {p: p.stat().st_mtime_ns for p in (store / "features").rglob("*.npz")}
    assert len(stored) == 2
    again = [*arguments(base, pairs, tmp_path / "b", **options), "--freeze-backbone"]
    assert run(again) == 0
    assert {p: p.stat().st_mtime_ns for p in (store / "features").rglob("*.npz")} == stored, "computed once"
    assert largest_difference(tmp_path / "a", tmp_path / "b") == 0.0
    # What the trainer saw on the held-out prompts is what the saved model gives.
    from rmbench.models.resolve import load_model
    from rmbench.train.pairs import read_training_data

    model = load_model(str(tmp_path / "a")).model
    held_out = read_training_data(str(pairs)).held_out
    margins = [
        model.score([p.conversations()[0]])[0].reward - model.score([p.conversations()[1]])[0].reward  # type: ignore[union-attr]
        for p in held_out
    ]
    assert sum(margins) / len(margins) == pytest.approx(record["held_out"]["margin"], abs=1e-4)


def test_a_base_whose_padding_is_eos_gets_another_padding(
    make_checkpoint: Make, pairs: Path, tmp_path: Path
) -> None:
    base = make_checkpoint("llama", head=False, pad="</s>")
    assert run(arguments(base, pairs, tmp_path / "out")) == 0
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["pad_token_id"] not in (None, config["eos_token_id"])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"method": "confidence-margins"}, "Did you mean 'confidence-margin'?"),
        ({"batch_size": 9, "micro_batch": 8}, "no multiple of micro-batch"),
        ({"batch_size": 512, "micro_batch": 8}, "larger than the 54 training pairs"),
        ({"batch_size": 1, "micro_batch": 1}, "at least 2 pairs"),
        ({"base": "absent/folder"}, "absent/folder"),
        ({"data": "absent.jsonl"}, "absent.jsonl"),
        ({"data": "judgebench:train"}, "no training split"),
    ],
)
def test_wrong_use_is_one_line_exit_code_2_and_nothing_written(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    options: dict[str, Any], said: str,
) -> None:  # fmt: skip
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    command = arguments(Path(options.pop("base", base)), Path(options.pop("data", pairs)), out, **options)
    capsys.readouterr()
    assert run(command) == 2
    message = capsys.readouterr().err.strip()
    assert said in message
    assert "\n" not in message
    assert not out.exists()


def test_pairs_that_compare_nothing_are_counted(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    rows[3]["rejected"] = rows[3]["chosen"]
    pairs.write_text("".join(json.dumps(r) + "\n" for r in [*rows, {**rows[5], "id": "again"}]))
    capsys.readouterr()
    assert run(arguments(base, pairs, out)) == 0
    shown = capsys.readouterr().out
    assert "1 for identical responses" in shown
    assert "1 for duplicate pairs" in shown
    for row in rows:
        del row["strength"]
    pairs.write_text("".join(json.dumps(r) + "\n" for r in rows))
    assert run(arguments(base, pairs, tmp_path / "b", on_bad="skip", method="label-margin")) == 2
    assert "needs pairs with strength" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_a_folder_with_other_things_is_refused(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "thesis.tex").write_text("precious")
    assert run(arguments(make_checkpoint("llama", head=False), pairs, out)) == 2
    assert "not empty" in capsys.readouterr().err
    assert [p.name for p in out.iterdir()] == ["thesis.tex"]


def test_a_loss_that_is_not_finite_stops_with_step_and_pairs(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_checkpoint("llama", head=False)
    assert run(arguments(base, pairs, tmp_path / "out", learning_rate=1e20)) == 1
    message = capsys.readouterr().err
    assert "the loss is not finite at step" in message
    assert "pairs 'p" in message


def test_a_base_with_fewer_positions_than_the_default_length_is_trained_and_scored_within_them(
    make_checkpoint: Make, pairs: Path, tmp_path: Path
) -> None:
    base, runtime = make_checkpoint("llama", head=False), Runtime(device="cpu", offline=True)
    positions = json.loads((base / "config.json").read_text())["max_position_embeddings"]
    assert 32 < positions < 1024
    asked: dict[str, Any]
    for asked, length in (({}, positions), ({"max_length": 32}, 32)):
        model = confidence_margin(
            str(base),
            str(pairs),
            runtime,
            batch_size=8,
            max_steps=1,
            out=str(tmp_path / str(length)),
            **asked,
        )
        assert model.max_length == length


def test_the_trainer_is_a_registered_model_that_trains_at_first_use(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = make_checkpoint("llama", head=False)
    rows = [json.loads(line) for line in pairs.read_text().splitlines()]
    items = tmp_path / "items.jsonl"
    items.write_text(
        "".join(
            json.dumps(
                {"id": r["id"], "prompt": p, "responses": [r["chosen"], r["rejected"]], "gold": [1, 0]}
            )
            + "\n"
            for k, r in enumerate(rows[:20])
            for p in [r["prompt"] if k % 2 else f"other {k}"]
        )
    )
    command = ["eval", "-m", "confidence-margin", "-M", f"base={base}", "-M", f"data={pairs}", "-M", "batch_size=8",
               "-M", "epochs=2", "-M", "learning_rate=0.003", "-M", "max_length=64", "-t", "preference", "-t", "bon",
               "--data", str(items), "--results", str(tmp_path / "r"), "--json", "-q"]  # fmt: skip
    assert run(command) == 0
    first = json.loads(capsys.readouterr().out)
    assert {r["model"] for r in first} == {"confidence-margin"}
    assert first[0]["metrics"]["accuracy"]["value"] >= 0.9
    held_out_too = first[0]["counts"]["trained_on"]
    assert 5 <= held_out_too["exact"] <= 10, (
        "ten of twenty prompts are in the data; a few of them were held out"
    )
    trained = list((Path(os.environ["RMBENCH_STORE"]) / "trained").glob("*/rmbench.json"))
    before = trained[0].stat().st_mtime_ns
    assert run(command) == 0
    assert json.loads(capsys.readouterr().out) == first
    assert trained[0].stat().st_mtime_ns == before
    assert run([*command[:-2], "-q"]) == 0
    assert "prompts trained on (exact)" in capsys.readouterr().out
