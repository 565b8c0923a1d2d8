"""A record whose values are of another type: one line with file and key, whoever reads it."""

import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rmbench.cli.main import run
from rmbench.core.files import to_jsonl_gz
from rmbench.errors import ConfigError, DataError
from rmbench.results.read import find_records, read_record
from rmbench.results.record import run_id, sealed
from rmbench.results.rewards import read_rewards


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
        (
            put([0.1], "metrics", "gold@1", "ci95"),
            "key 'ci95': [0.1]; expected [low, high], low first, or null",
        ),
        (put(["x"], "counts", "calibration"), "key 'counts', key 'calibration': ['x']; expected a mapping"),
        (
            put([{"accuracy": "x"}], "curves", "margin_deciles"),
            "entry 1, key 'accuracy': 'x'; expected a number",
        ),
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


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("x", "key 'params', key 'invalid': unknown value 'x'"),
        ([], "key 'params', key 'invalid': unknown value '[]'"),
    ],
)
def test_a_parameter_of_another_type_is_refused_where_hashes_are_right(
    sound: Path, tmp_path: Path, value: Any, said: str
) -> None:
    path = next(p for p in sound.rglob("*.json") if "bon" in str(p))
    raw = json.loads(path.read_text())
    raw["identity"]["task"]["params"]["invalid"] = value
    raw["run_id"] = run_id(raw["identity"])
    (tmp_path / "bad.json").write_text(json.dumps(sealed(raw)))
    with pytest.raises(ConfigError, match=re.escape(said)):
        read_record(tmp_path / "bad.json")


ROW = {"id": "a", "rewards": [1, None], "gold": [0, 1.5], "lengths": [3, 4], "cluster": "c", "strata": {"k": "v"}, "gold_kind": "graded"}  # fmt: skip


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (3, "line 2: int; expected an object"),
        ({**ROW, "id": 3}, "line 2, key 'id': '3'; expected text"),
        (ROW, "line 2, key 'id': 'a' is the id of line 1 already"),
        ({**ROW, "rewards": [1, "2"]}, "key 'rewards': \"[1, '2']\"; expected a list of numbers or null"),
        ({**ROW, "rewards": [1, True]}, "key 'rewards'"),
        ({**ROW, "rewards": [1, float("inf")]}, "key 'rewards'"),
        ({**ROW, "rewards": []}, "key 'rewards': empty"),
        ({**ROW, "gold": [1]}, "key 'gold': 1 values; expected one per response, 2"),
        ({**ROW, "lengths": [1.5, 2]}, "key 'lengths'"),
        ({**ROW, "lengths": [-1, 2]}, "key 'lengths'"),
        ({**ROW, "cluster": None}, "key 'cluster'"),
        ({**ROW, "strata": {"k": 1}}, "key 'strata'"),
        ({**ROW, "gold_kind": "x"}, "key 'gold_kind'"),
        ({**ROW, "gold_kind": []}, "key 'gold_kind'"),
        ({**ROW, "logprobs": [1]}, "key 'logprobs'"),
        ({**ROW, "votes": [1, 2]}, "key 'votes'"),
        ({**ROW, "id": "b", "flips": 1, "comparisons": 1}, "key 'flips': is in some rows, and not in others"),
        ({**ROW, "id": "b", "flips": 1}, "key 'comparisons'"),
        ({k: v for k, v in ROW.items() if k != "lengths"}, "key 'lengths': the key is missing"),
    ],
)
def test_rewards_of_another_type_are_refused_where_their_hash_is_right(
    tmp_path: Path, row: Any, said: str
) -> None:
    path = tmp_path / "rewards.jsonl.gz"
    path.write_bytes(to_jsonl_gz([ROW]))
    assert read_rewards(path) == [ROW]
    path.write_bytes(gzip.compress("".join(json.dumps(r) + "\n" for r in (ROW, row)).encode()))
    with pytest.raises(DataError, match=re.escape(said)):
        read_rewards(path)


def test_rewards_without_a_row_are_refused(tmp_path: Path) -> None:
    (tmp_path / "rewards.jsonl.gz").write_bytes(to_jsonl_gz([]))
    with pytest.raises(DataError, match="the rewards file is empty"):
        read_rewards(tmp_path / "rewards.jsonl.gz")
