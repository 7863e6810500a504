"""The database's file: whose it is, whether it is fit to hold jobs, and its tables."""

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

from gateway.store.base import StoreFull, StoreUnfit

# The first one with everything that is used here: upserts, RETURNING, functions for JSON.
OLDEST_SQLITE = (3, 38, 0)
APPLICATION = int.from_bytes(b"igwj", "big")
# Reading through a larger file would hold up the start by more than a second.
CHECKED_BYTES = 256 * 1024 * 1024
# Pages in the log before they are moved to where they belong: 16 MB, so that this happens seldom.
CHECKPOINT_PAGES = 4_000
# What of a log that has grown larger, while somebody was reading for long, is kept for the next time.
KEPT_LOG_BYTES = 64 * 1024 * 1024

# Jobs and documents are wide and keep their rowid, so that a change touches a page of recent ones; the rest is narrow.
# `settled` is empty while a job is open: what it is indexed by is the list of the open jobs.
# Due times lie apart from the jobs, so that renewing a thousand leases writes a few pages.
_FIRST = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, team TEXT NOT NULL, created REAL NOT NULL,
    version INTEGER NOT NULL, fence INTEGER NOT NULL, owner TEXT, rescues INTEGER NOT NULL DEFAULT 0,
    ops TEXT NOT NULL, settled REAL, blob BLOB NOT NULL
);
CREATE INDEX jobs_of_team ON jobs (team, created, id);
CREATE INDEX jobs_settled ON jobs (settled, created);
CREATE TABLE due (job TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX due_at ON due (at);
CREATE TABLE documents (
    job TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (job, name)
);
CREATE TABLE milestones (
    job TEXT NOT NULL, number INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (job, number)
) WITHOUT ROWID;
CREATE TABLE keys (
    team TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, job TEXT NOT NULL, expires REAL NOT NULL,
    PRIMARY KEY (team, key)
) WITHOUT ROWID;
CREATE INDEX keys_expiring ON keys (expires);
CREATE TABLE bodies (
    team TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, job TEXT NOT NULL, callers TEXT NOT NULL,
    expects_first INTEGER NOT NULL, has_ended INTEGER NOT NULL DEFAULT 0, may_be_bought INTEGER NOT NULL DEFAULT 0,
    expires REAL NOT NULL, PRIMARY KEY (team, key, number)
) WITHOUT ROWID;
CREATE INDEX bodies_expiring ON bodies (expires);
CREATE TABLE outbox (
    job TEXT NOT NULL, id TEXT NOT NULL, at REAL NOT NULL, tries INTEGER NOT NULL DEFAULT 0, entry BLOB NOT NULL,
    PRIMARY KEY (job, id)
) WITHOUT ROWID;
CREATE INDEX outbox_at ON outbox (at);
CREATE TABLE ledger (number INTEGER PRIMARY KEY, day TEXT NOT NULL, team TEXT NOT NULL, entry BLOB NOT NULL);
CREATE INDEX ledger_of_day ON ledger (day);
CREATE TABLE totals (
    day TEXT NOT NULL, account TEXT NOT NULL, team TEXT NOT NULL, amount INTEGER NOT NULL, images INTEGER NOT NULL,
    PRIMARY KEY (day, account)
) WITHOUT ROWID;
CREATE TABLE budgets (
    window TEXT NOT NULL, team TEXT NOT NULL, held INTEGER NOT NULL, spent INTEGER NOT NULL,
    PRIMARY KEY (window, team)
) WITHOUT ROWID;
CREATE TABLE signals (name TEXT PRIMARY KEY, value BLOB NOT NULL, at REAL NOT NULL) WITHOUT ROWID;
"""
# What connections share lies in a file of 32 kB, which the first of them creates again.
_NO_ROOM_TO_SHARE = frozenset((sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_SHMOPEN))
# Jobs that are about to be accepted, and until when that may take.
_ANNOUNCED = """
CREATE TABLE announced (job TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX announced_at ON announced (at);
"""
# How long a job's owner has worked on it, and the longest time of an owner that crashed.
_SURVIVED = """
ALTER TABLE jobs ADD COLUMN claimed_at REAL;
ALTER TABLE jobs ADD COLUMN longest REAL NOT NULL DEFAULT 0;
ALTER TABLE due ADD COLUMN lived REAL;
"""
# Entries of jobs for which nothing was bought, and processes that closed in good order.
_REFUSED = """
ALTER TABLE bodies ADD COLUMN is_refused INTEGER NOT NULL DEFAULT 0;
CREATE TABLE closed (owner TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX closed_at ON closed (at);
"""
# What makes each schema from the one before. Only ever append.
UPGRADES = (_FIRST, _ANNOUNCED, _SURVIVED, _REFUSED)


class Lock:
    """Held from opening to closing: two processes with one database would each believe that they own all jobs."""

    def __init__(self, database: Path) -> None:
        path = database.with_name(f"{database.name}.lock")
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(database)
        except (OSError, StoreUnfit):
            self.release()
            raise

    def _take(self, database: Path) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            holder = os.pread(self._file, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StoreUnfit(
                f"{database} is in use by process {holder}: stop that one first, or name another database here; "
                "processes that are to share their jobs need Redis"
            ) from held
        # The holder only improves a message: a full disk must not stop a start.
        with contextlib.suppress(OSError):
            os.ftruncate(self._file, 0)
            os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._file)


def locked(database: Path) -> Lock:
    """Creates what is missing of folder and file; nobody but us may read what teams have asked for."""
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = Lock(database)
    except OSError as error:
        raise _unusable(database, error) from error
    try:
        _create(database)
    except OSError as error:
        lock.release()
        raise _unusable(database, error) from error
    return lock


def _unusable(database: Path, error: OSError) -> StoreUnfit:
    return StoreUnfit(f"{database} cannot be used: {error.strerror or error}")


def _create(database: Path) -> None:
    """The name of a new file is as durable as what will be in it."""
    if database.exists():
        return
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    folder = os.open(database.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def for_writing(database: Path) -> sqlite3.Connection:
    """Checked and brought to the newest schema. StoreUnfit says what is wrong with it.

    Where the disk has no room for the file that connections share, the database is opened for this one alone
    (`is_alone`), which needs none: what is there can be read, and written as soon as there is room.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(str(number) for number in OLDEST_SQLITE)
        raise StoreUnfit(f"SQLite {sqlite3.sqlite_version} is too old: {wanted} or newer is needed")
    try:
        return _prepared(database, alone=False)
    except StoreFull:
        return _prepared(database, alone=True)


def is_alone(connection: sqlite3.Connection) -> bool:
    """Whether no other connection can be made while this one is open."""
    return bool(_asked(connection, "PRAGMA locking_mode") == "exclusive")


def _prepared(database: Path, alone: bool) -> sqlite3.Connection:
    connection = _connected(database, "rw")
    try:
        if alone:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        _prepare(connection, database)
    except sqlite3.Error as error:
        connection.close()
        raise _unfit(database, error) from error
    except StoreUnfit:
        connection.close()
        raise
    return connection


def for_reading(database: Path) -> sqlite3.Connection:
    return _connected(database, "ro")


def _connected(database: Path, mode: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            f"{database.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except sqlite3.Error as error:
        raise _unfit(database, error) from error


def _unfit(database: Path, error: sqlite3.Error) -> StoreUnfit | StoreFull:
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _NO_ROOM_TO_SHARE:
        return StoreFull(f"there is no room beside {database}: its disk is full")
    match code & 0xFF:
        case sqlite3.SQLITE_NOTADB:
            return StoreUnfit(f"{database} is no SQLite database: name another file")
        case sqlite3.SQLITE_CORRUPT:
            return StoreUnfit(f"{database} is damaged ({error}): bring back a copy, or name another file")
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"there is no room for {database}: its disk is full")
    return StoreUnfit(f"{database} cannot be used: {error}")


def _prepare(connection: sqlite3.Connection, database: Path) -> None:
    schema = _schema_of(connection, database)
    mode = _asked(connection, "PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if mode != "wal" or _asked(connection, "PRAGMA synchronous") != 2:
        raise StoreUnfit(f"{database} lies where a write-ahead log cannot be kept: put it on a local disk")
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA cache_size=-32768")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={KEPT_LOG_BYTES}")
    if schema and database.stat().st_size <= CHECKED_BYTES:
        found = _asked(connection, "PRAGMA quick_check(1)")
        if found != "ok":
            raise StoreUnfit(f"{database} is damaged ({found}): bring back a copy, or name another file")
    _upgrade(connection, schema)


def _schema_of(connection: sqlite3.Connection, database: Path) -> int:
    """0 for a file without anything in it."""
    schema: int = _asked(connection, "PRAGMA user_version")
    tables: int = _asked(connection, "SELECT count(*) FROM sqlite_master")
    if (schema or tables) and _asked(connection, "PRAGMA application_id") != APPLICATION:
        raise StoreUnfit(f"{database} is another program's database: name another file")
    if schema > len(UPGRADES):
        raise StoreUnfit(
            f"{database} was made by a newer version (schema {schema}, known here: {len(UPGRADES)}): "
            "start that version, or name another file"
        )
    return schema


def _upgrade(connection: sqlite3.Connection, schema: int) -> None:
    """All or nothing. `executescript` would commit in between, unless the script begins its transaction itself."""
    if schema == len(UPGRADES):
        return
    script = "".join(UPGRADES[schema:])
    mark = f"PRAGMA application_id={APPLICATION}; PRAGMA user_version={len(UPGRADES)};"
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {script} {mark} COMMIT;")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _asked(connection: sqlite3.Connection, question: str) -> Any:
    row = connection.execute(question).fetchone()
    return row[0] if row else None
