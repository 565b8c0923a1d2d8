"""The score store: the reward of a model for a text is computed once, and a damaged one is never served.

One SQLite file per model fingerprint maps a conversation's hash to its reward. So a killed run resumes,
duplicates are computed once, and tasks on the same data share rewards. Each batch is one transaction (WAL):
a killed process loses at most the batch in flight, and several processes may share a file. A reward that is
computed from other models' rewards (`PartedModel`) has no file: each part has one. The fingerprint contains
everything that can change a reward; batch size and device are not part of it.

Each row has a checksum. It covers the model's fingerprint, the versions of the libraries that computed the
reward, the key and all values, and it is verified whenever the row is read. A row that fails counts as
absent: its reward is computed again and replaces the row. Such a row has a flipped bit, was changed by hand,
was moved to another key, or comes from another model's store. Damage to the file's structure either hides
rows, whose rewards are computed again, or is an error of SQLite, which stops the run with a `StoreError`. The
store is not scanned when it is opened: rows that nobody asks for are not checked.

Stores of schema 1 have no checksums. They are not converted, because nobody can check their rewards: a
conversion would seal damaged ones as whole. Their rewards are computed again in a file of another name. The
old file is not read and not changed, and can be deleted.
"""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from rmbench.core.files import canonical_json, digest, slug
from rmbench.core.versions import loaded_versions, reuse_note, uses_libraries
from rmbench.errors import StoreError
from rmbench.scoring.rows import Origins, Row
from rmbench.types import AnyModel, JudgingModel, PartedModel, Scored

_APPLICATION_ID = 0x726D6263  # "rmbc"
_SCHEMA_VERSION = 2
BUSY_S = 60.0
"""Seconds that a store waits for the lock of another process."""
_KEYS_PER_QUERY = 500
_KEYS_TOLD = 3
_FULL_BYTES = 2**16
"""Free bytes of a file system below which a failed write means that it is full."""
_TABLES = {
    "meta": "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "origins": "CREATE TABLE origins (id INTEGER PRIMARY KEY, versions TEXT NOT NULL, run TEXT NOT NULL)",
    "scores": "CREATE TABLE scores (key TEXT PRIMARY KEY, reward REAL NOT NULL, n_tokens INTEGER,"
    " truncated INTEGER, origin INTEGER NOT NULL, checksum INTEGER NOT NULL) WITHOUT ROWID",
}
_COLUMNS = "key, reward, n_tokens, truncated, origin, checksum"

Tell = Callable[[str], None]
"""Gets a line for the user."""


def default_store_folder() -> Path:
    """Return `$RMBENCH_STORE`, else `scores` in the user's cache folder."""
    if folder := os.environ.get("RMBENCH_STORE"):
        return Path(folder)
    from platformdirs import user_cache_path

    return user_cache_path("rmbench", appauthor=False) / "scores"


def open_store(
    folder: Path,
    fingerprint: Mapping[str, str],
    *,
    versions: Callable[[], Mapping[str, str]] = loaded_versions,
    fresh: str = "",
    tell: Tell | None = None,
) -> "ScoreStore":
    """Return the store of the model with this fingerprint, in `folder`; made if it does not exist.

    Args:
        folder: Made if it does not exist.
        fingerprint: The model's.
        versions: Gives the versions of the libraries that the model computes with; asked at the first `put`.
        fresh: As `ScoreStore` has it.
        tell: As `ScoreStore` has it; is also told of a store without checksums.
    """
    name = f"{slug(fingerprint.get('kind', 'model'))}-{digest(dict(fingerprint), 24)}"
    path, old = folder / f"{name}.v{_SCHEMA_VERSION}.sqlite", folder / f"{name}.sqlite"
    if tell and old.exists() and not path.exists():
        tell(
            f"{old}: a score store of an older rmbench, whose rewards have no checksums; it is not read, and"
            " its rewards are computed again. It can be deleted"
        )
    return ScoreStore(path, fingerprint, versions=versions, fresh=fresh, tell=tell)


def open_stores(
    folder: Path,
    model: AnyModel,
    fingerprint: Mapping[str, str],
    *,
    fresh: str = "",
    tell: Tell | None = None,
) -> "ScoreStore | PartStores":
    """Return the store of a model's rewards in `folder`, or the stores of its parts' rewards.

    Args:
        folder: Folder of stores; created if it does not exist.
        model: The model.
        fingerprint: Whole identity of the model.
        fresh: As `ScoreStore` has it.
        tell: As `ScoreStore` has it.
    """

    def opened(model: object, fingerprint: Mapping[str, str]) -> ScoreStore:
        versions = loaded_versions if uses_libraries(model) else dict[str, str]
        return open_store(folder, fingerprint, versions=versions, fresh=fresh, tell=tell)

    if isinstance(model, JudgingModel) and model.votes() > 1:
        # Votes are stored one by one: how many there are is not part of what they are.
        return opened(model, {**fingerprint, "votes": "several"})
    if not isinstance(model, PartedModel):
        return opened(model, fingerprint)
    with ExitStack() as made:
        parts = [made.enter_context(opened(part.model, part.fingerprint())) for part in model.parts()]
        made.pop_all()
    return PartStores(parts)


class PartStores:
    """The score stores of a model's parts, in their order; a context manager.

    Args:
        parts: The stores; closed with this. Parts with equal fingerprints share a file.
    """

    def __init__(self, parts: Sequence["ScoreStore"]) -> None:
        self.parts = parts

    @property
    def n_damaged(self) -> int:
        """Stored rewards that were found damaged."""
        return sum(part.n_damaged for part in self.parts)

    def reused_from(self) -> list[tuple[dict[str, str], int]]:
        """Return as `ScoreStore.reused_from` does, for all parts."""
        return [found for part in self.parts for found in part.reused_from()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with ExitStack() as closing:
            for part in self.parts:
                closing.callback(part.close)


class ScoreStore:
    """Rewards of one model by conversation hash, in one SQLite file.

    Args:
        path: The file; it is created with its folder if absent.
        fingerprint: Fingerprint of the model; a file with another one is refused.
        versions: Gives the versions of the libraries that the model computes with; asked at the first `put`.
        fresh: Name of a run that computes all its rewards anew: only rewards that were put under this name
            are found, and `put` replaces others. Empty: every reward is found.
        tell: Gets a line each, when the store is closed, about rewards that were damaged, and about rewards
            of other versions of these libraries.

    Raises:
        StoreError: If the file is not a score store, is damaged, belongs to another model, is locked, or
            cannot be written. Every method raises it.
    """

    def __init__(
        self,
        path: Path,
        fingerprint: Mapping[str, str],
        *,
        versions: Callable[[], Mapping[str, str]] = loaded_versions,
        fresh: str = "",
        tell: Tell | None = None,
    ) -> None:
        self.path = path
        self._versions, self._fresh, self._tell = versions, fresh, tell
        self._damaged: dict[str, bool] = {}  # key -> whether this run has put its reward again
        identity = canonical_json(dict(fingerprint))
        self._origins = Origins(identity)
        self._origin: int | None = None  # number of this run's own, once it is stored
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"{path.parent}: no folder can be made for the score store ({error.strerror});"
                " name another one with --store"
            ) from None
        with self._errors():
            # Autocommit: every transaction below is explicit.
            self._db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            self._db.text_factory = bytes  # what is damaged may not be UTF-8
            try:
                self._open(identity)
            except BaseException:
                self._db.close()
                raise

    @property
    def n_damaged(self) -> int:
        """Stored rewards that were found damaged since the store was opened."""
        return len(self._damaged)

    def reused_from(self) -> list[tuple[dict[str, str], int]]:
        """Return the versions, other than the installed ones, of rewards found here, with their number."""
        return list(self._origins.found_others())

    def get(self, keys: Sequence[str]) -> dict[str, Scored]:
        """Return the stored rewards of `keys`; other keys are absent, and so are those of damaged rows."""
        found: dict[str, Scored] = {}
        damaged: list[str] = []
        with self._errors():
            for row in self._rows(keys):
                scored = self._origins.scored(row)
                if scored is None:
                    damaged.append(row[0])
                elif not self._is_stale(row):
                    found[row[0]] = scored
                    self._origins.note(row)
        # In a file whose order is damaged, a key can have a damaged row and a whole one.
        self._damaged |= {key: self._damaged.get(key, False) for key in damaged if key not in found}
        # Where the row of an origin was damaged and has been put again, rewards are whole after all.
        for key in found if self._damaged else ():
            if self._damaged.get(key) is False:
                del self._damaged[key]
        return found

    def put(self, rows: Sequence[tuple[str, Scored]]) -> None:
        """Add finite rewards, all or none. A key that another process added meanwhile keeps its value.

        Damaged rows are replaced; where the run is fresh, those of other runs as well.
        """
        with self._errors(), self._transaction():
            origin = self._origin
            if origin is None:
                own = self._origins.add(self._versions(), self._fresh)
                self._db.execute("INSERT OR REPLACE INTO origins VALUES (?, ?, ?)", own)
                origin = own[0]
            for row in list(self._rows([key for key, _ in rows if self._fresh or key in self._damaged])):
                if self._origins.scored(row) is None or self._is_stale(row):
                    self._db.execute("DELETE FROM scores WHERE key = ?", row[:1])
            self._db.executemany(
                "INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?, ?, ?)",
                [self._origins.row(key, scored, origin) for key, scored in rows],
            )
        self._origin = origin
        self._damaged |= {key: True for key, _ in rows if key in self._damaged}

    def __len__(self) -> int:
        with self._errors():
            return int(self._db.execute("SELECT count(*) FROM scores").fetchone()[0])

    def close(self) -> None:
        """Close the file, and tell once what there is to tell."""
        self._db.close()
        tell, self._tell = self._tell, None
        if tell is None:
            return
        if n := self.n_damaged:
            keys = ", ".join([key[:12] for key in self._damaged][:_KEYS_TOLD])
            what = "stored reward was damaged and is" if n == 1 else "stored rewards were damaged and are"
            tell(f"{n:,} {what} computed again ({self.path}: {keys}{', ...' if n > _KEYS_TOLD else ''})")
        for versions, n in self.reused_from():
            if note := reuse_note(f"{n:,} stored {'reward' if n == 1 else 'rewards'}", versions):
                tell(note)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows(self, keys: Sequence[str]) -> Iterator[Row]:
        """Yield the rows of `keys`, whole or damaged; their origins are known, unless they are damaged."""
        for start in range(0, len(keys), _KEYS_PER_QUERY):
            part = {key.encode(): key for key in keys[start : start + _KEYS_PER_QUERY]}
            marks = ",".join("?" * len(part))
            query = f"SELECT {_COLUMNS} FROM scores WHERE key IN ({marks})"  # noqa: S608
            is_read = False
            for key, reward, n_tokens, truncated, origin, checksum in self._db.execute(
                query, [*part.values()]
            ):
                if origin not in self._origins and not is_read:
                    self._origins.read(self._db.execute("SELECT id, versions, run FROM origins"))
                    is_read = True
                # From a file whose order is damaged, SQLite gives rows that nobody asked for.
                if (name := part.get(key)) is not None:
                    yield name, reward, n_tokens, truncated, origin, checksum

    def _is_stale(self, row: Row) -> bool:
        """Say whether a whole row is of another run where this one is fresh."""
        return bool(self._fresh) and self._origins.run(row[4]) != self._fresh

    def _open(self, identity: str) -> None:
        self._db.execute("PRAGMA cell_size_check = ON")  # damaged pages are found when they are read
        self._db.execute("BEGIN")  # one view of both: another process may be creating the store
        n_tables = int(self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0])
        application = int(self._db.execute("PRAGMA application_id").fetchone()[0])
        self._db.execute("COMMIT")
        if application not in (0, _APPLICATION_ID) or (application == 0 and n_tables > 0):
            raise StoreError(
                f"{self.path}: an SQLite file, but not a score store of rmbench; it is left as is"
            )
        if application == 0:
            self._create(identity)
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._check(identity)

    def _check(self, identity: str) -> None:
        """Raise StoreError unless the tables and the fingerprint are as they were made."""
        stored = _texts(self._db.execute("SELECT key, value FROM meta"))
        schema = stored.get("schema", "")
        if schema != str(_SCHEMA_VERSION) and schema.isdecimal():
            raise StoreError(f"{self.path}: score store of schema {schema}, expected {_SCHEMA_VERSION}")
        tables = _texts(self._db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'"))
        if schema != str(_SCHEMA_VERSION) or tables != _TABLES or "fingerprint" not in stored:
            raise self._unusable("its tables are not as rmbench made them")
        if stored["fingerprint"] != identity:
            raise StoreError(f"{self.path}: the score store of another model, or damaged; it is left as is")

    def _create(self, identity: str) -> None:
        self._use_wal()
        with self._transaction():
            self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
            for statement in _TABLES.values():
                self._db.execute(statement.replace("TABLE", "TABLE IF NOT EXISTS", 1))
            for key, value in (("schema", str(_SCHEMA_VERSION)), ("fingerprint", identity)):
                self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))

    def _use_wal(self) -> None:
        # If two processes open a new file together, the switch to WAL fails at once, so it is tried again.
        give_up = time.monotonic() + BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(0.05)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            # After some errors, such as a full disk, SQLite has ended it already.
            if self._db.in_transaction:
                with suppress(sqlite3.Error):
                    self._db.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise self._explained(error) from error

    def _explained(self, error: sqlite3.DatabaseError) -> StoreError:
        """Return what an error of SQLite means, and what to do."""
        code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF  # its kind, without details
        if code == sqlite3.SQLITE_FULL or (code == sqlite3.SQLITE_IOERR and self._is_disk_full()):
            problem = "no space is left for the score store", "free some, or name another folder with --store"
        elif code == sqlite3.SQLITE_IOERR:
            problem = (
                "the score store cannot be read or written",
                "the disk fails, or limits the size of files; name another folder with --store",
            )
        elif code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            problem = (
                f"another process has locked the score store for {BUSY_S:.0f} s",
                "wait for its end, or stop it",
            )
        elif code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM):
            problem = (
                "the score store cannot be written",
                "make the file and its folder writable, or name another folder with --store",
            )
        else:
            return self._unusable(str(error))
        kept = "what was scored before is stored, and the same command continues"
        return StoreError(f"{self.path}: {problem[0]} ({error}); {problem[1]}; {kept}")

    def _unusable(self, problem: str) -> StoreError:
        return StoreError(
            f"{self.path}: the score store is damaged and cannot be used ({problem}); it is left as is."
            " Move it away, with its -wal and -shm files, to compute its rewards again"
        )

    def _is_disk_full(self) -> bool:
        try:
            return shutil.disk_usage(self.path.parent).free < _FULL_BYTES
        except OSError:
            return False


def _texts(rows: Iterable[tuple[Any, Any]]) -> dict[str, str]:
    """Return a mapping of texts; what is none is left out."""
    return {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in rows
        if isinstance(key, bytes) and isinstance(value, bytes)
    }
