"""The score store: kept, shared, and never silently replaced."""

import multiprocessing
import resource
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from math import copysign
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


ROWS = {
    "a": Scored(0.5, 12, True),
    "b": Scored(-1.25, 7, False),
    "c": Scored(3.0),
    "d": Scored(0.0, 0, False),
}


def _damaged(path: Path, *statements: str) -> None:
    with ScoreStore(path, FINGERPRINT) as store:
        store.put(list(ROWS.items()))
    db = sqlite3.connect(path)
    for statement in statements:
        db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize(
    ("statement", "bad"),
    [
        ("UPDATE scores SET reward = -reward", "abc"),  # the negative of 0.0 is 0.0
        ("UPDATE scores SET reward = 0.5000000000000001 WHERE key = 'a'", "a"),
        ("UPDATE scores SET reward = 'high' WHERE key = 'c'", "c"),
        ("UPDATE scores SET reward = x'00' WHERE key = 'c'", "c"),
        ("UPDATE scores SET reward = 9e999 WHERE key = 'c'", "c"),
        ("UPDATE scores SET n_tokens = n_tokens + 1", "abd"),
        ("UPDATE scores SET n_tokens = 0 WHERE key = 'c'", "c"),
        ("UPDATE scores SET n_tokens = NULL", "abd"),
        ("UPDATE scores SET n_tokens = 'many'", "abcd"),
        ("UPDATE scores SET n_tokens = 12.5 WHERE key = 'a'", "a"),
        ("UPDATE scores SET truncated = 1 - truncated", "abd"),
        ("UPDATE scores SET truncated = 0 WHERE key = 'c'", "c"),
        ("UPDATE scores SET truncated = 2 WHERE key = 'a'", "a"),
        ("UPDATE scores SET checksum = checksum + 1 WHERE key = 'b'", "b"),
        ("UPDATE scores SET checksum = 'abc' WHERE key = 'b'", "b"),
        ("UPDATE scores SET origin = origin + 1 WHERE key = 'b'", "b"),
        ("DELETE FROM origins", "abcd"),
        ("UPDATE origins SET id = id + 1", "abcd"),
        ("UPDATE origins SET run = 'x'", "abcd"),
        ('UPDATE origins SET versions = \'{"torch":"9"}\'', "abcd"),
        ("UPDATE origins SET versions = '[' || versions", "abcd"),
        ("UPDATE origins SET versions = '[]'", "abcd"),
        ("UPDATE origins SET versions = x'ff'", "abcd"),
    ],
)
def test_a_damaged_row_is_absent_counted_and_replaced(tmp_path: Path, statement: str, bad: str) -> None:
    path = tmp_path / "store.sqlite"
    _damaged(path, statement)
    told: list[str] = []
    with ScoreStore(path, FINGERPRINT, tell=told.append) as store:
        assert store.get(list(ROWS)) == {key: value for key, value in ROWS.items() if key not in bad}
        assert store.get(list(ROWS)).keys() == ROWS.keys() - set(bad)
        assert store.n_damaged == len(bad)
        store.put([(key, ROWS[key]) for key in bad])
        assert store.get(list(ROWS)) == ROWS
        assert store.n_damaged == len(bad)
    what = (
        "1 stored reward was damaged and is"
        if len(bad) == 1
        else f"{len(bad)} stored rewards were damaged and are"
    )
    names = f"{', '.join(bad[:3])}{', ...' if len(bad) > 3 else ''}"
    assert told == [f"{what} computed again ({path}: {names})"]
    with ScoreStore(path, FINGERPRINT, tell=told.append) as store:
        assert store.get(list(ROWS)) == ROWS
        assert (store.n_damaged, len(store), len(told)) == (0, 4, 1)


def test_rewards_under_each_others_keys_are_damaged(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    _damaged(
        path,
        "UPDATE scores SET key = 'e' WHERE key = 'a'",
        "UPDATE scores SET key = 'a' WHERE key = 'b'",
        "UPDATE scores SET key = 'b' WHERE key = 'e'",
    )
    with ScoreStore(path, FINGERPRINT) as store:
        assert store.get([*ROWS, "e"]) == {key: ROWS[key] for key in "cd"}
        assert store.n_damaged == 2


def test_a_row_of_another_models_store_is_damaged(tmp_path: Path) -> None:
    path, other = tmp_path / "store.sqlite", tmp_path / "other.sqlite"
    with ScoreStore(other, {"kind": "other"}) as store:
        store.put([("a", Scored(9.0)), ("z", Scored(9.0))])
    _damaged(
        path,
        f"ATTACH '{other}' AS other",
        "INSERT INTO origins SELECT * FROM other.origins",
        "INSERT OR REPLACE INTO scores SELECT * FROM other.scores",
    )
    with ScoreStore(path, FINGERPRINT) as store:
        assert store.get([*ROWS, "z"]) == {key: ROWS[key] for key in "bcd"}
        assert store.n_damaged == 2


def test_what_another_process_mended_first_stays(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    _damaged(path, "UPDATE scores SET reward = 8 WHERE key = 'a'")
    with ScoreStore(path, FINGERPRINT) as late, ScoreStore(path, FINGERPRINT) as first:
        assert "a" not in late.get(["a"])
        assert "a" not in first.get(["a"])
        first.put([("a", Scored(1.0))])
        late.put([("a", Scored(1.5))])
        assert late.get(["a"]) == first.get(["a"]) == {"a": Scored(1.0)}


def test_zero_has_no_sign(tmp_path: Path) -> None:
    with open_store(tmp_path, FINGERPRINT) as store:
        store.put([("a", Scored(-0.0))])
        assert copysign(1.0, store.get(["a"])["a"].reward) == 1.0
        assert store.n_damaged == 0


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meta WHERE key = 'schema'",
        "DELETE FROM meta WHERE key = 'fingerprint'",
        "UPDATE meta SET value = x'ff' WHERE key = 'schema'",
        "UPDATE meta SET value = '1' WHERE key = 'schema'",
        "UPDATE meta SET value = value || ' ' WHERE key = 'fingerprint'",
        "DROP TABLE meta",
        "DROP TABLE origins",
        "DROP TABLE scores",
        "ALTER TABLE scores RENAME COLUMN n_tokens TO m_tokens",
        "PRAGMA application_id = 5",
        "PRAGMA application_id = 0",
    ],
)
def test_damaged_tables_are_an_error(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "store.sqlite"
    _damaged(path, statement)
    before = path.read_bytes()
    with pytest.raises(StoreError, match=r"store\.sqlite: .*(score store)"):
        ScoreStore(path, FINGERPRINT)
    assert path.read_bytes() == before


def _cut(raw: bytes) -> bytes:
    return raw[: len(raw) // 2]


def _zeros(raw: bytes) -> bytes:
    return raw[:8192] + bytes(len(raw) - 8192)


def _no_header(raw: bytes) -> bytes:
    return b"x" + raw[1:]


@pytest.mark.parametrize(
    "damage", [_cut, _zeros, _no_header, lambda raw: bytes(len(raw)), lambda raw: raw[:100]]
)
def test_a_file_that_is_cut_or_emptied_is_an_error_of_one_line(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / "store.sqlite"
    rows = [(f"key{i}", Scored(float(i))) for i in range(2000)]
    with ScoreStore(path, FINGERPRINT) as store:
        store.put(rows)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StoreError, match=r"cannot be used.*Move it away") as caught:  # noqa: SIM117
        with ScoreStore(path, FINGERPRINT) as store:
            store.get([key for key, _ in rows])
    assert "\n" not in str(caught.value)


def test_a_damaged_log_loses_rewards_and_changes_none(tmp_path: Path) -> None:
    path, copy = tmp_path / "store.sqlite", tmp_path / "copy.sqlite"
    rows = {f"key{i}": Scored(float(i)) for i in range(500)}
    with ScoreStore(path, FINGERPRINT) as store:
        for k in range(0, 500, 50):
            store.put(list(rows.items())[k : k + 50])
        wal = path.with_name("store.sqlite-wal").read_bytes()  # as a process that is killed leaves it
        copy.write_bytes(path.read_bytes())
    middle = len(wal) // 2
    copy.with_name("copy.sqlite-wal").write_bytes(wal[:middle] + b"\x55" * 50 + wal[middle + 50 :])
    with ScoreStore(copy, FINGERPRINT) as store:
        found = store.get(list(rows))
        assert 0 < len(found) < 500
        assert found.items() <= rows.items()


def test_a_store_of_the_first_schema_is_left_aside_and_told_once(tmp_path: Path) -> None:
    with open_store(tmp_path, FINGERPRINT) as store:
        path = store.path
    path.unlink()
    old = path.with_name(path.name.replace(".v2", ""))
    old.write_bytes(b"rewards without checksums")
    told: list[str] = []
    for _ in range(2):
        with open_store(tmp_path, FINGERPRINT, tell=told.append) as store:
            assert store.get(["a"]) == {}
    assert len(told) == 1
    assert told[0].startswith(f"{old}: a score store of an older rmbench")
    assert old.read_bytes() == b"rewards without checksums"


def test_a_locked_store_is_an_error_that_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rmbench.scoring.store.BUSY_S", 0.1)
    path = tmp_path / "store.sqlite"
    with ScoreStore(path, FINGERPRINT) as store:
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r"another process has locked .* wait for its end"):
            store.put([("a", Scored(1.0))])
        other.execute("ROLLBACK")
        store.put([("a", Scored(1.0))])
        assert store.get(["a"]) == {"a": Scored(1.0)}
        other.close()


def test_a_limit_on_the_size_of_files_is_not_called_damage(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with ScoreStore(path, FINGERPRINT) as store:
        store.put([("a", Scored(1.0))])
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
        try:
            with pytest.raises(StoreError, match=r"cannot be read or written .*--store.*stored"):
                store.put([(f"more {i}", Scored(float(i))) for i in range(5000)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        store.put([("b", Scored(2.0))])
        assert store.get(["a", "b"]) == {"a": Scored(1.0), "b": Scored(2.0)}


def test_a_place_that_cannot_hold_a_store_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="file: no folder can be made"):
        ScoreStore(tmp_path / "file" / "store.sqlite", FINGERPRINT)
    (tmp_path / "store.sqlite").mkdir()
    with pytest.raises(StoreError, match=r"store\.sqlite: the score store cannot be written"):
        ScoreStore(tmp_path / "store.sqlite", FINGERPRINT)


OLD = {"torch": "2.3.1", "transformers": "4.57.1"}
NEW = {"torch": "2.3.2", "transformers": "5.1.0"}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of installed packages, for the test to change."""
    found: dict[str, str] = {}
    monkeypatch.setattr("rmbench.core.versions.installed_version", found.get)
    return found


def test_rewards_know_the_versions_that_made_them(tmp_path: Path, installed: dict[str, str]) -> None:
    installed |= OLD
    told: list[str] = []
    with open_store(tmp_path, FINGERPRINT, versions=lambda: OLD, tell=told.append) as store:
        store.put([("a", Scored(1.0)), ("b", Scored(2.0)), ("c", Scored(3.0))])
        assert len(store.get(["a", "b", "c"])) == 3
        assert store.reused_from() == []
    installed |= NEW
    with open_store(tmp_path, FINGERPRINT, versions=lambda: NEW, tell=told.append) as store:
        store.put([("d", Scored(4.0))])
        assert len(store.get(["a", "b", "d"])) == len(store.get(["b", "d", "b", "a"])) == 3
        assert store.reused_from() == [(OLD, 2)]
    assert told == ["2 stored rewards of transformers 4.57 are reused under 5.1; --fresh computes them again"]
    installed |= {**OLD, "torch": "2.3.9"}  # another patch version is recorded, and not told
    with open_store(tmp_path, FINGERPRINT, versions=lambda: NEW, tell=told.append) as store:
        store.get(["a"])
        assert store.reused_from() == [(OLD, 1)]
    assert len(told) == 1
    with open_store(tmp_path, FINGERPRINT, versions=lambda: NEW, fresh="one", tell=told.append) as store:
        assert store.get(["a"]) == {}
        store.put([("a", Scored(1.0))])
        assert store.reused_from() == []
    assert len(told) == 1


def test_a_fresh_run_finds_only_what_it_put_and_replaces_the_rest(tmp_path: Path) -> None:
    with open_store(tmp_path, FINGERPRINT) as store:
        store.put([("a", Scored(1.0)), ("b", Scored(2.0))])
    with open_store(tmp_path, FINGERPRINT, fresh="one") as store:
        assert store.get(["a", "b"]) == {}
        store.put([("a", Scored(1.5)), ("c", Scored(3.5))])
        assert store.get(["a", "b", "c"]) == {"a": Scored(1.5), "c": Scored(3.5)}
        assert store.n_damaged == 0
    with open_store(tmp_path, FINGERPRINT, fresh="one") as store:  # the next task of the same run
        store.put([("a", Scored(9.0))])
        assert store.get(["a", "b", "c"]) == {"a": Scored(1.5), "c": Scored(3.5)}
    with open_store(tmp_path, FINGERPRINT, fresh="two") as store:
        assert store.get(["a", "b", "c"]) == {}
    with open_store(tmp_path, FINGERPRINT) as store:
        assert store.get(["a", "b", "c"]) == {"a": Scored(1.5), "b": Scored(2.0), "c": Scored(3.5)}


def _write(path: Path, start: int) -> None:
    with ScoreStore(path, FINGERPRINT) as store:
        for i in range(start, start + 200, 10):
            store.put([(f"key{k}", Scored(float(k))) for k in range(i, i + 10)])


@pytest.mark.long
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
