"""Bad input of `rmbench train`: one clear line, exit code 2, nothing written."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import arguments

from rmbench.cli.main import run

Make = Callable[..., Path]


def refused(command: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that `command` is refused with."""
    before = sorted(out.rglob("*"))
    capsys.readouterr()
    assert run(command) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert sorted(out.rglob("*")) == before
    assert out.exists() == bool(before)
    return message


def rows_of(pairs: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in pairs.read_text().splitlines()]


def without(row: dict[str, Any], key: str) -> dict[str, Any]:
    return {k: v for k, v in row.items() if k != key}


@pytest.mark.parametrize(
    ("change", "options", "said"),
    [
        (lambda rows: [without(r, "strength") for r in rows], {"method": "label-margin"}, "needs pairs with strength"),
        (lambda rows: [without(rows[0], "strength"), *rows[1:]], {"method": "label-margin"}, "some have none"),
        (lambda rows: [], {}, "the file is empty"),
        (lambda rows: ["{oops"], {}, "line 1: not valid JSON"),
        (lambda rows: [rows[0], "{oops"], {}, "line 2: not valid JSON"),
        (lambda rows: ["{oops"], {"on_bad": "skip"}, "no row is a JSON object"),
        (lambda rows: [[1, 2]], {}, "line 1: list; expected an object"),
        (lambda rows: [rows[0], without(rows[1], "rejected")], {}, "line 2, key 'rejected': the key is missing"),
        (lambda rows: [{"id": "1", "text": "x"}], {}, "no layout of preference data that is known"),
        (lambda rows: rows[:1], {}, "no pair is left to hold out (1 pairs in all)"),
        (lambda rows: [{**r, "prompt": "the same"} for r in rows], {}, "no pair is left to hold out (60 pairs"),
        (lambda rows: rows, {"part": "0:0.000001"}, "no pair is left to train on (0 pairs"),
        (lambda rows: rows, {"data": "preferense:train"}, "Did you mean 'preference'?"),
        (lambda rows: rows, {"reader": "pair"}, "Did you mean 'pairs'?"),
    ],
)  # fmt: skip
def test_data(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    change: Callable[[list[Any]], list[Any]], options: dict[str, Any], said: str,
) -> None:  # fmt: skip
    changed = change(rows_of(pairs))
    pairs.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in changed))
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    given = options | ({"data": options["data"]} if "data" in options else {})
    assert said in refused(arguments(base, pairs, out, **given), out, capsys)


@pytest.mark.parametrize(
    ("options", "more", "said"),
    [
        ({}, "-L treshold=mean", "Did you mean 'threshold'?"),
        ({}, "-L threshold=half", "expected none, mean or a number"),
        ({}, "-L threshold=nan", "expected none, mean or a number"),
        ({}, "-L cap=big", "'cap' is 'big'"),
        ({}, "-L cap=-1", "a finite number from 0 on"),
        ({}, "-L warmup=-3", "a finite number from 0 on"),
        ({"method": "quantile-margin"}, "-L quantile=1.5", "between 0 and 1"),
        ({"method": "fixed-margin"}, "-L margin=nan", "expected a finite number"),
        ({"method": "label-margin"}, "-L scale=inf", "expected a finite number"),
        ({"method": "distance-normalised"}, "-L largest=-1", "a finite number from 0 on"),
        ({"method": "centred"}, "-L weight=-1", "a finite number from 0 on"),
        ({"method": "quantile-margin", "batch_size": 1, "micro_batch": 1}, "", "at least 2 pairs"),
        ({"lora": 4}, "--freeze-backbone", "not both"),
        ({"device": "cuda:7"}, "", "is not available here"),
    ],
)
def test_options(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], more: str, said: str,
) -> None:  # fmt: skip
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    assert said in refused([*arguments(base, pairs, out, **options), *more.split()], out, capsys)


@pytest.mark.parametrize(("package", "options"), [("accelerate", {}), ("peft", {"lora": 2})])
def test_a_package_that_is_missing_is_named_with_its_extra(
    package: str,
    options: dict[str, int],
    pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("rmbench.train.run.find_spec", lambda name: None if name == package else name)
    command = arguments(Path("builtin:tiny"), pairs, tmp_path / "out", **options)
    said = refused(command, tmp_path / "out", capsys)
    assert said == f"error: {package} is not installed; training needs: pip install 'rmbench[train]'"


@pytest.mark.parametrize(
    ("body", "said"),
    [("return chosen.mean(), {}", "one value per pair"), ("return 1 / 0", "raised ZeroDivisionError")],
)
def test_a_loss_of_ones_own_that_does_not_work(
    make_checkpoint: Make,
    pairs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    body: str,
    said: str,
) -> None:
    (tmp_path / "own.py").write_text(f"def mine(chosen, rejected, batch):\n    {body}\n")
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    assert said in refused(arguments(base, pairs, out, method=f"{tmp_path / 'own.py'}:mine"), out, capsys)


@pytest.mark.parametrize(("arch", "tokenizer"), [("llama", "bos"), ("bert", "pair")])
def test_a_base_without_a_tokenizer(
    make_checkpoint: Make,
    pairs: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    arch: str,
    tokenizer: str,
) -> None:
    base, out = make_checkpoint(arch, tokenizer=tokenizer, head=False), tmp_path / "out"
    for path in base.glob("tokenizer*"):
        path.unlink()
    assert "has no tokenizer" in refused(arguments(base, pairs, out), out, capsys)
    # transformers makes one up for some models where only its settings are there.
    (base / "tokenizer_config.json").write_text("{}")
    assert "token" in refused(arguments(base, pairs, out), out, capsys)


def test_places_that_cannot_be_written_or_are_taken(
    make_checkpoint: Make, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, out = make_checkpoint("llama", head=False), tmp_path / "out"
    file = tmp_path / "file"
    file.write_text("x")
    assert "no file can be written there" in refused(arguments(base, pairs, file / "under"), out, capsys)
    assert "is a file" in refused(arguments(base, pairs, file), out, capsys)
    assert "not empty" in refused(arguments(base, pairs, base), base, capsys)
    logs = [*arguments(base, pairs, out), "--log-dir", str(file / "logs")]
    assert "--log-dir cannot be written" in refused(logs, out, capsys)
    for mark in ('{"hash": "of another run"}', '{"ha'):
        (out / ".training").mkdir(parents=True)
        (out / ".training" / "run.json").write_text(mark)
        assert "another run began here" in refused(arguments(base, pairs, out), out, capsys)
        shutil.rmtree(out)
