"""The score store: kept, shared, and never silently replaced."""

import multiprocessing
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from rmbench.errors import StoreError
from rmbench.scoring import ScoreStore, open_store
from rmbench.types import Scored

FINGERPRINT = {"kind": "test", "version": "1"}


def test_what_was_put_comes_back_to_the_bit(tmp_path: Path) -> None:
    rows = [
        ("a", Scored(0.1 + 0.2, 12, True)),
        ("b", Scored(-1e300, None, None)),
        ("c", Scored(5e-324, 0, False)),
    ]
    with open_store(tmp_path, FINGERPRINT) as store:
        store.put(rows)
    with open_store(tmp_path, FINGERPRINT) as store:
        assert store.get(["a", "b", "c", "absent"]) == dict(rows)
        assert len(store) == 3


def test_more_keys_than_one_query_takes(tmp_path: Path) -> None:
    rows = [(f"key{i}", Scored(float(i))) for i in range(2345)]
    with open_store(tmp_path, FINGERPRINT) as store:
        store.put(rows)
        assert store.get([key for key, _ in rows]) == dict(rows)


def test_the_first_value_of_a_key_stays(tmp_path: Path) -> None:
    with open_store(tmp_path, FINGERPRINT) as store:
        store.put([("a", Scored(1.0))])
        store.put([("a", Scored(2.0)), ("b", Scored(3.0))])
        assert store.get(["a", "b"]) == {"a": Scored(1.0), "b": Scored(3.0)}


def test_each_fingerprint_has_a_file_of_its_own(tmp_path: Path) -> None:
    with open_store(tmp_path, FINGERPRINT) as store:
        store.put([("a", Scored(1.0))])
    with open_store(tmp_path, {**FINGERPRINT, "version": "2"}) as other:
        assert other.get(["a"]) == {}
    assert len(list(tmp_path.glob("*.sqlite"))) == 2


def test_a_store_of_another_model_is_refused_and_left_as_is(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    ScoreStore(path, FINGERPRINT).close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="another model"):
        ScoreStore(path, {"kind": "other"})
    assert path.read_bytes() == before


def test_a_foreign_database_is_refused_and_left_as_is(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE photos (name TEXT)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a score store"):
        ScoreStore(path, FINGERPRINT)
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused_and_left_as_is(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_text("these are my notes, not a database " * 100)
    with pytest.raises(StoreError, match=r"store\.sqlite"):
        ScoreStore(path, FINGERPRINT)
    assert path.read_text().startswith("these are my notes")


def test_a_damaged_store_is_an_error_not_an_empty_one(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with ScoreStore(path, FINGERPRINT) as store:
        store.put([(f"key{i}", Scored(float(i))) for i in range(5000)])
    raw = bytearray(path.read_bytes())
    raw[8192:-4096] = b"\x7f" * (len(raw) - 8192 - 4096)
    path.write_bytes(raw)
    with pytest.raises(StoreError, match="cannot be used"), ScoreStore(path, FINGERPRINT) as store:
        store.get([f"key{i}" for i in range(5000)])


def test_a_reward_of_the_wrong_type_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    ScoreStore(path, FINGERPRINT).close()
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO scores VALUES ('a', 'high', NULL, NULL)")
    db.close()
    with ScoreStore(path, FINGERPRINT) as store, pytest.raises(StoreError, match="'high'"):
        store.get(["a"])


def _write(path: Path, start: int) -> None:
    with ScoreStore(path, FINGERPRINT) as store:
        for i in range(start, start + 200, 10):
            store.put([(f"key{k}", Scored(float(k))) for k in range(i, i + 10)])


def test_a_store_that_is_just_being_created_can_be_opened(tmp_path: Path) -> None:
    n_at_once = 6

    def opened(path: Path) -> None:
        together.wait()
        ScoreStore(path, FINGERPRINT).close()

    with ThreadPoolExecutor(n_at_once) as pool:
        for k in range(150):
            together = Barrier(n_at_once)
            list(pool.map(opened, [tmp_path / f"{k}.sqlite"] * n_at_once))


def test_processes_that_start_together_share_a_new_store(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_write, args=(path, start)) for start in (0, 100, 200)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    with ScoreStore(path, FINGERPRINT) as store:
        assert store.get([f"key{k}" for k in range(400)]) == {f"key{k}": Scored(float(k)) for k in range(400)}
