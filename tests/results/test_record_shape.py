"""A record whose values are of another type: one line with file and key, whoever reads it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.results.read import find_records


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    tasks = ["-t", "bon", "-t", "preference"]
    place = ["--results", str(folder / "results"), "--store", str(folder / "store")]
    assert run(["eval", "-m", "length", *tasks, *place, "--limit", "6", "-q"]) == 0
    return folder / "results"


def put(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(raw: dict[str, Any]) -> None:
        for key in keys[:-1]:
            raw = raw[key]
        raw[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (put(3, "model"), "key 'model': 3; expected text"),
        (put([], "metrics"), "key 'metrics': []; expected a mapping"),
        (put(None, "counts"), "key 'counts': None; expected a mapping"),
        (put("many", "counts", "items"), "key 'counts', key 'items': 'many'; expected a whole number"),
        (put(True, "counts", "items"), "key 'counts', key 'items': True; expected a whole number"),
        (
            put({"x": "y"}, "counts", "dropped"),
            "key 'counts', key 'dropped', key 'x': 'y'; expected a whole number",
        ),
        (put(5, "provenance", "command"), "key 'provenance', key 'command': 5; expected a list of texts"),
        (
            put("fast", "provenance", "tokens_per_s"),
            "key 'provenance', key 'tokens_per_s': 'fast'; expected a number",
        ),
        (put([], "undefined", "x"), "key 'undefined', key 'x': []; expected text"),
        (put({}, "metrics", "x"), "the metric 'x', key 'value': missing; expected a finite number"),
        (put([], "metrics", "x"), "the metric 'x': list; expected a number with its interval"),
        (
            put(float("inf"), "metrics", "gold@1", "n"),
            "the metric 'gold@1', key 'n': inf; expected a whole number",
        ),
        (put("0.5", "metrics", "gold@1", "value"), "key 'value': '0.5'; expected a finite number"),
        (
            put(1.5, "metrics", "gold@1", "higher_is_better"),
            "key 'higher_is_better': 1.5; expected true, false or",
        ),
        (put([0.1], "metrics", "gold@1", "ci95"), "key 'ci95': [0.1]; expected [low, high] or null"),
        (put(["x"], "counts", "calibration"), "key 'counts', key 'calibration': ['x']; expected a mapping"),
        (
            put([{"accuracy": "x"}], "curves", "margin_deciles"),
            "entry 1, key 'accuracy': 'x'; expected a number",
        ),
        (put("x", "identity", "task", "params", "invalid"), "unknown value 'x'"),
        (
            put(3, "identity", "task", "kinds"),
            "key 'identity', key 'task', key 'kinds': 3; expected a list of texts",
        ),
        (put("0", "identity", "seed"), "key 'identity', key 'seed': '0'; expected a whole number"),
        (put(float("nan"), "identity", "model", "x"), "Out of range float values"),
        (put([], "files", "rewards"), "key 'files', key 'rewards': []; expected a mapping with sha256"),
        (put("q" * 999, "counts"), "qqq...; expected a mapping"),
        (lambda raw: raw.pop("curves"), "key 'curves' is missing"),
    ],
)
def test_a_value_of_another_type_is_one_line(
    sound: Path, tmp_path: Path, change: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = next(p for p in sound.rglob("*.json") if "bon" in str(p))
    raw = json.loads(path.read_text())
    change(raw)
    (tmp_path / "bad.json").write_text(json.dumps(raw))
    for command in (["report", "--out", f"{tmp_path}/a.html"], ["curve", "--out", f"{tmp_path}/curves"]):
        assert run([*command, f"{tmp_path}/bad.json"]) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "bad.json: not a run record" in told
        assert said in told
    assert not (tmp_path / "a.html").exists()


def test_what_is_sound_is_read_committed_records_too(sound: Path) -> None:
    assert len(list(find_records(sound))) == 2
    committed = Path(__file__).resolve().parents[2] / "results"
    assert len(list(find_records(committed))) > 20
