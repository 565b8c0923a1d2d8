"""The influence file: what is read is what would be measured, and nothing else is ever believed."""

import errno
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rmbench.boards import load_board, make_board
from rmbench.metrics import METRICS_VERSION
from rmbench.results.compare import compare_many
from rmbench.results.influence import checksum_of, read_influence, write_influence
from rmbench.results.read import find_records
from rmbench.results.run import Run
from rmbench.stats import Statistic

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "results"


def copied(run: Run, folder: Path) -> Run:
    """Return the run with its files in another folder."""
    for path in (run.path, run.rewards_path, run.influence_path):
        shutil.copy(path, folder)
    return Run(run.record, folder / run.path.name)


@pytest.fixture
def pools(tmp_path: Path) -> Run:
    return copied(next(find_records(RESULTS / "builtin_linear-e80918ed" / "bon@1")), tmp_path)


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Models of the runs that are measured."""
    found: list[str] = []
    measure = Run.measure

    def counted(run: Run, **options: Any) -> Any:
        found.append(run.model)
        return measure(run, **options)

    monkeypatch.setattr(Run, "measure", counted)
    return found


def alike(a: Statistic, b: Statistic) -> bool:
    """Say whether two statistics are equal in every field, arrays and strata included."""
    for name in (f.name for f in fields(Statistic)):
        one, other = getattr(a, name), getattr(b, name)
        if name == "strata":
            if len(one) != len(other):
                return False
            for s, t in zip(one, other, strict=True):
                arrays = [
                    np.array_equal(getattr(s, k), getattr(t, k)) for k in ("index", "influence", "share")
                ]
                if not (all(arrays) and (s.weight, s.value) == (t.weight, t.value)):
                    return False
        elif isinstance(one, np.ndarray):
            if not np.allclose(one, other, rtol=1e-12, atol=1e-15):
                return False
        elif isinstance(one, float):
            if other != pytest.approx(one, rel=1e-12, abs=1e-15):
                return False
        elif one != other and name not in ("ci95", "limits"):
            return False
    return True


def test_what_is_read_is_what_is_measured(tmp_path: Path) -> None:
    for model, task in (("builtin_linear-e80918ed", "judgebench@2"), ("constant", "bon@1")):
        run = copied(next(find_records(RESULTS / model / task)), tmp_path)
        fresh = run.measure(strata=False)
        write_influence(run.influence_path, run.record, fresh)
        read = read_influence(run.influence_path, run.record)
        assert read is not None
        assert list(read.metrics) == list(fresh.metrics)
        assert all(alike(fresh.metrics[name], read.metrics[name]) for name in fresh.metrics)
        assert all(fresh.metrics[name].estimate() == read.metrics[name].estimate() for name in fresh.metrics)
        for name in ("undefined", "counts", "kind_of", "clusters", "n_items"):
            assert getattr(read, name) == getattr(fresh, name)


def test_the_committed_records_have_their_influence(measured: list[str]) -> None:
    for run in find_records(RESULTS):
        assert read_influence(run.influence_path, run.record) is not None, run.path
    assert not measured


@pytest.mark.parametrize("board", ["judgebench", pytest.param("main", marks=pytest.mark.slow)])
def test_a_board_and_a_comparison_that_read_are_those_that_measure(
    tmp_path: Path, measured: list[str], board: str
) -> None:
    spec = load_board(ROOT / "leaderboards", board)
    tasks = {column.task.name for column in spec.columns}
    fresh = []
    for run in find_records(RESULTS):
        if run.task in tasks:
            folder = tmp_path / run.record.run_id
            folder.mkdir()
            fresh.append(copied(run, folder))
            fresh[-1].influence_path.unlink()
    metrics = ["accuracy", "accuracy_macro", "margin_mean"]
    made = make_board(spec, fresh)
    compared = compare_many([r for r in fresh if r.task in ("judgebench", "preference")][:3], metrics, 3)
    n_measured = len(measured)
    assert n_measured == len(fresh)
    stored = [Run(run.record, run.path) for run in fresh]
    again = [r for r in stored if r.task in ("judgebench", "preference")][:3]
    # Equal to the last bit on one machine; the aim is 1e-12.
    assert make_board(spec, stored) == made
    assert compare_many(again, metrics, 3) == compared
    assert len(measured) == n_measured


def flipped(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 4
    path.write_bytes(raw)


def repacked(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    """Return what changes the head of a file and keeps its old checksum."""

    def damage(path: Path) -> None:
        with np.load(path) as file:
            parts = {name: file[name] for name in file.files}
        head = json.loads(parts["head"].tobytes())
        change(head)
        parts["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
        np.savez_compressed(path, **parts)

    return damage


def raised(head: dict[str, Any]) -> None:
    head["metrics"]["gold@1"]["value"] += 0.1


DAMAGE: dict[str, Callable[[Path], None]] = {
    "one bit": flipped,
    "cut off": lambda path: path.write_bytes(path.read_bytes()[:-100]),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("{}"),
    "no file": Path.unlink,
    "a folder": lambda path: (path.unlink(), path.mkdir())[0],
    "another value": repacked(raised),
    "pickled": lambda path: np.savez(path, head=np.array([{"a": 1}], dtype=object)),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_is_noticed_and_made_again(
    pools: Run, damage: Callable[[Path], None], measured: list[str]
) -> None:
    whole = pools.influence_path.read_bytes()
    expected = pools.suite.metrics["gold@1"].estimate()
    damage(pools.influence_path)
    assert Run(pools.record, pools.path).suite.metrics["gold@1"].estimate() == expected
    assert measured == ["builtin:linear"]
    if pools.influence_path.is_file():
        assert len(pools.influence_path.read_bytes()) == pytest.approx(len(whole), rel=0.01)
        assert Run(pools.record, pools.path).suite.metrics["gold@1"].estimate() == expected
        assert measured == ["builtin:linear"]  # not a second time


def test_a_file_of_another_run_or_other_rewards_is_not_believed(pools: Run) -> None:
    record, path = pools.record, pools.influence_path
    assert read_influence(path, record) is not None
    assert read_influence(path, replace(record, rewards_sha256="0" * 64)) is None
    assert read_influence(path, replace(record, identity={**record.identity, "seed": 1})) is None
    other = next(find_records(RESULTS / "random" / "bon@1"))
    shutil.copy(other.influence_path, path)
    assert read_influence(path, record) is None


def test_a_file_of_another_version_of_the_metrics_is_not_believed(
    pools: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rmbench.results.influence.METRICS_VERSION", METRICS_VERSION + 1)
    assert read_influence(pools.influence_path, pools.record) is None


def test_a_file_whose_values_are_not_the_records_is_not_believed(pools: Run) -> None:
    suite = pools.suite
    metrics = {**suite.metrics, "gold@1": replace(suite.metrics["gold@1"], value=0.9)}
    write_influence(pools.influence_path, pools.record, replace(suite, metrics=metrics))
    assert read_influence(pools.influence_path, pools.record) is None


def test_rewards_that_are_damaged_are_still_refused(pools: Run) -> None:
    flipped(pools.rewards_path)
    with pytest.raises(Exception, match="damaged or changed"):
        _ = pools.suite


def test_processes_that_write_at_once_leave_one_whole_file(pools: Run) -> None:
    pools.influence_path.unlink()
    code = (
        "import sys; from pathlib import Path; from rmbench.results.read import find_records\n"
        "for run in list(find_records(Path(sys.argv[1]))) * 5:\n"
        "    run.influence_path.unlink(missing_ok=True); type(run)(run.record, run.path).suite"
    )
    writers = [subprocess.Popen([sys.executable, "-c", code, str(pools.path.parent)]) for _ in range(3)]
    assert [writer.wait() for writer in writers] == [0, 0, 0]
    assert read_influence(pools.influence_path, pools.record) is not None
    assert not list(pools.path.parent.glob(".*.partial"))


def test_a_folder_that_cannot_be_written_to_gives_the_same_numbers(
    pools: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(path: Path, _: bytes) -> None:
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    pools.influence_path.unlink()
    monkeypatch.setattr("rmbench.results.influence.write_atomic", refused)
    assert pools.suite.metrics["gold@1"].value == pytest.approx(pools.record.metrics["gold@1"].value)
    assert not pools.influence_path.exists()


def put(value: Any, *keys: str) -> Callable[[dict[str, Any]], None]:
    def change(head: dict[str, Any]) -> None:
        for key in keys[:-1]:
            head = head[key]
        head[keys[-1]] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put(None, "kind_of"),
        put([], "counts"),
        put({"best_of_n": 3}, "counts"),
        put([1], "undefined"),
        put({"best_of_n": 0}, "left_out"),  # not one value per item
        put("x", "n_items"),
        put([1, 2], "clusters"),
        put("abc", "clusters"),
        put("high", "metrics", "gold@1", "value"),
        put([0, "x"], "metrics", "gold@1", "limits"),
        put(10**6, "metrics", "gold@1", "influence"),
        put({}, "sizes"),
        put([[0, 0]], "metrics", "gold@1", "strata"),
    ],
)
def test_a_head_of_other_types_is_not_believed_though_its_checksum_is_right(
    pools: Run, change: Callable[[dict[str, Any]], None], measured: list[str]
) -> None:
    expected = pools.suite.metrics["gold@1"].estimate()
    with np.load(pools.influence_path) as file:
        parts = {name: file[name] for name in ("head", "float64", "int64")}
    head = json.loads(parts["head"].tobytes())
    change(head)
    parts["head"] = np.frombuffer(json.dumps(head).encode(), dtype=np.uint8)
    np.savez_compressed(pools.influence_path, checksum=checksum_of(parts), **parts)
    assert Run(pools.record, pools.path).suite.metrics["gold@1"].estimate() == expected
    assert measured == ["builtin:linear"]
