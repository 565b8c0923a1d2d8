"""The score store: the reward of a model for a text is computed once.

One SQLite file per model fingerprint maps a conversation's hash to its reward. So a killed run resumes,
duplicates are computed once, and tasks on the same data share rewards. Each batch is one transaction (WAL):
a killed process loses at most the batch in flight, and several processes may share a file. A reward that is
computed from other models' rewards (`PartedModel`) has no file: each part has one. The fingerprint contains
everything that can change a reward; batch size and device are not part of it.
"""

import os
import sqlite3
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Self

from rmbench.core.files import canonical_json, digest, slug
from rmbench.errors import StoreError
from rmbench.types import AnyModel, PartedModel, Scored

_APPLICATION_ID = 0x726D6263  # "rmbc"
_SCHEMA_VERSION = 1
_BUSY_S = 60.0
_KEYS_PER_QUERY = 500


def default_store_folder() -> Path:
    """Return `$RMBENCH_STORE`, else `scores` in the user's cache folder."""
    if folder := os.environ.get("RMBENCH_STORE"):
        return Path(folder)
    from platformdirs import user_cache_path

    return user_cache_path("rmbench", appauthor=False) / "scores"


def open_store(folder: Path, fingerprint: Mapping[str, str]) -> "ScoreStore":
    """Return the store of the model with this fingerprint, in `folder`; made if it does not exist."""
    kind = slug(fingerprint.get("kind", "model"))
    return ScoreStore(folder / f"{kind}-{digest(dict(fingerprint), 24)}.sqlite", fingerprint)


def open_stores(folder: Path, model: AnyModel, fingerprint: Mapping[str, str]) -> "ScoreStore | PartStores":
    """Return the store of a model's rewards in `folder`, or the stores of its parts' rewards.

    Args:
        folder: Folder of stores; created if it does not exist.
        model: The model.
        fingerprint: Whole identity of the model.
    """
    if not isinstance(model, PartedModel):
        return open_store(folder, fingerprint)
    return PartStores(folder, [part.fingerprint() for part in model.parts()])


class PartStores:
    """The score stores of a model's parts, in their order; a context manager.

    Args:
        folder: Folder of the stores.
        fingerprints: Fingerprints of the parts. Equal ones share a file.
    """

    def __init__(self, folder: Path, fingerprints: Sequence[Mapping[str, str]]) -> None:
        with ExitStack() as opened:
            self.parts = [opened.enter_context(open_store(folder, each)) for each in fingerprints]
            self._opened = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._opened.close()


class ScoreStore:
    """Rewards of one model by conversation hash, in one SQLite file.

    Args:
        path: The file; it is created with its folder if absent.
        fingerprint: Fingerprint of the model; a file with another one is refused.

    Raises:
        StoreError: If the file is not a score store, is corrupt, or belongs to another model.
    """

    def __init__(self, path: Path, fingerprint: Mapping[str, str]) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors():
            # Autocommit: every transaction below is explicit.
            self._db = sqlite3.connect(path, timeout=_BUSY_S, isolation_level=None)
            try:
                self._open(canonical_json(dict(fingerprint)))
            except BaseException:
                self._db.close()
                raise

    def get(self, keys: Sequence[str]) -> dict[str, Scored]:
        """Return the stored rewards of `keys`; other keys are absent."""
        found: dict[str, Scored] = {}
        with self._errors():
            for start in range(0, len(keys), _KEYS_PER_QUERY):
                part = keys[start : start + _KEYS_PER_QUERY]
                marks = ",".join("?" * len(part))
                query = f"SELECT key, reward, n_tokens, truncated FROM scores WHERE key IN ({marks})"  # noqa: S608
                for key, reward, n_tokens, truncated in self._db.execute(query, part):
                    if not isinstance(reward, float):
                        raise StoreError(f"{self.path}: the reward of {key} is {reward!r}, not a number")
                    found[key] = Scored(reward, n_tokens, None if truncated is None else bool(truncated))
        return found

    def put(self, rows: Sequence[tuple[str, Scored]]) -> None:
        """Add rewards, all or none. A key that another process added meanwhile keeps its value."""
        values = [
            (key, s.reward, s.n_tokens, None if s.truncated is None else int(s.truncated)) for key, s in rows
        ]
        with self._errors():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany("INSERT OR IGNORE INTO scores VALUES (?, ?, ?, ?)", values)
                self._db.execute("COMMIT")
            except BaseException:
                self._db.execute("ROLLBACK")
                raise

    def __len__(self) -> int:
        with self._errors():
            return int(self._db.execute("SELECT count(*) FROM scores").fetchone()[0])

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self, identity: str) -> None:
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
        stored = dict(self._db.execute("SELECT key, value FROM meta"))
        if stored["schema"] != str(_SCHEMA_VERSION):
            raise StoreError(
                f"{self.path}: score store of schema {stored['schema']}, expected {_SCHEMA_VERSION}"
            )
        if stored["fingerprint"] != identity:
            raise StoreError(f"{self.path}: the score store of another model; it is left as is")

    def _create(self, identity: str) -> None:
        self._use_wal()
        self._db.execute("BEGIN IMMEDIATE")
        self._db.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        self._db.execute("CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL)")
        self._db.execute(
            "CREATE TABLE IF NOT EXISTS scores (key TEXT PRIMARY KEY, reward REAL NOT NULL, "
            "n_tokens INTEGER, truncated INTEGER) WITHOUT ROWID"
        )
        for key, value in (("schema", str(_SCHEMA_VERSION)), ("fingerprint", identity)):
            self._db.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (key, value))
        self._db.execute("COMMIT")

    def _use_wal(self) -> None:
        # If two processes open a new file together, the switch to WAL fails at once, so it is tried again.
        give_up = time.monotonic() + _BUSY_S
        while True:
            try:
                self._db.execute("PRAGMA journal_mode = WAL")
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > give_up:
                    raise
                time.sleep(0.05)

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self.path}: the score store cannot be used ({error}); it is left as is. "
                "Move it away to compute its rewards anew"
            ) from error
