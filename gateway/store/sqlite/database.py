"""The database's file: whose it is, whether it is fit to hold jobs, and its tables."""

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

from gateway.store.base import StoreFull, StoreMisconfigured

# The first one with everything that is used here: upserts, RETURNING, functions for JSON.
MIN_SQLITE_VERSION = (3, 38, 0)
APPLICATION_ID = int.from_bytes(b"igwj", "big")
# Reading through a larger file would hold up the start by more than a second.
MAX_CHECKED_BYTES = 256 * 1024 * 1024
# Pages in the log before they are moved to where they belong: 16 MB, so that this happens seldom.
CHECKPOINT_PAGES = 4_000
# What of a log that has grown larger, while somebody was reading for long, is kept for the next time.
MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024

# Jobs and documents are wide and keep their rowid, so that a change touches a page of recent ones; the rest is narrow.
# `settled` is empty while a job is open: what it is indexed by is the list of the open jobs.
# Due times lie apart from the jobs, so that renewing a thousand leases writes a few pages.
_SCHEMA_1 = """
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
_SHARED_MEMORY_ERRORS = frozenset(
    (sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_SHMOPEN)
)
# Jobs that are about to be accepted, and until when that may take.
_SCHEMA_2 = """
CREATE TABLE announced (job TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX announced_at ON announced (at);
"""
# How long a job's owner has worked on it, and the longest time of an owner that crashed.
_SCHEMA_3 = """
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
MIGRATIONS = (_SCHEMA_1, _SCHEMA_2, _SCHEMA_3, _REFUSED)


class DatabaseLock:
    """Held from opening to closing: two processes with one database would each believe that they own all jobs."""

    def __init__(self, database: Path) -> None:
        path = database.with_name(f"{database.name}.lock")
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire(database)
        except (OSError, StoreMisconfigured):
            self.release()
            raise

    def _acquire(self, database: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StoreMisconfigured(
                f"{database} is in use by process {holder}: stop that one first, or name another database here; "
                "processes that are to share their jobs need Redis"
            ) from error
        # The holder only improves a message: a full disk must not stop a start.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)


def acquire_lock(database: Path) -> DatabaseLock:
    """Creates what is missing of folder and file; nobody but us may read what teams have asked for."""
    try:
        database.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = DatabaseLock(database)
    except OSError as error:
        raise _unusable_error(database, error) from error
    try:
        _create_file(database)
    except OSError as error:
        lock.release()
        raise _unusable_error(database, error) from error
    return lock


def _unusable_error(database: Path, error: OSError) -> StoreMisconfigured:
    return StoreMisconfigured(f"{database} cannot be used: {error.strerror or error}")


def _create_file(database: Path) -> None:
    """The name of a new file is as durable as what will be in it."""
    if database.exists():
        return
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    folder = os.open(database.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_writer(database: Path) -> sqlite3.Connection:
    """Checked and brought to the newest schema. StoreUnfit says what is wrong with it.

    Where the disk has no room for the file that connections share, the database is opened for this one alone
    (`is_exclusive`), which needs none: what is there can be read, and written as soon as there is room.
    """
    if sqlite3.sqlite_version_info < MIN_SQLITE_VERSION:
        minimum = ".".join(str(number) for number in MIN_SQLITE_VERSION)
        raise StoreMisconfigured(f"SQLite {sqlite3.sqlite_version} is too old: {minimum} or newer is needed")
    try:
        return _open_prepared(database, exclusive=False)
    except StoreFull:
        return _open_prepared(database, exclusive=True)


def is_exclusive(connection: sqlite3.Connection) -> bool:
    """Whether no other connection can be made while this one is open."""
    return bool(_query_value(connection, "PRAGMA locking_mode") == "exclusive")


def _open_prepared(database: Path, exclusive: bool) -> sqlite3.Connection:
    connection = _connect(database, "rw")
    try:
        if exclusive:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        _configure_connection(connection, database)
    except sqlite3.Error as error:
        connection.close()
        raise _translate_open_error(database, error) from error
    except StoreMisconfigured:
        connection.close()
        raise
    return connection


def open_reader(database: Path) -> sqlite3.Connection:
    return _connect(database, "ro")


def _connect(database: Path, mode: str) -> sqlite3.Connection:
    try:
        return sqlite3.connect(
            f"{database.as_uri()}?mode={mode}",
            uri=True,
            isolation_level=None,
            check_same_thread=False,
            cached_statements=256,
        )
    except sqlite3.Error as error:
        raise _translate_open_error(database, error) from error


def _translate_open_error(database: Path, error: sqlite3.Error) -> StoreMisconfigured | StoreFull:
    code = getattr(error, "sqlite_errorcode", 0)
    if code in _SHARED_MEMORY_ERRORS:
        return StoreFull(f"there is no room beside {database}: its disk is full")
    match code & 0xFF:
        case sqlite3.SQLITE_NOTADB:
            return StoreMisconfigured(f"{database} is no SQLite database: name another file")
        case sqlite3.SQLITE_CORRUPT:
            return StoreMisconfigured(f"{database} is damaged ({error}): bring back a copy, or name another file")
        case sqlite3.SQLITE_FULL:
            return StoreFull(f"there is no room for {database}: its disk is full")
    return StoreMisconfigured(f"{database} cannot be used: {error}")


def _configure_connection(connection: sqlite3.Connection, database: Path) -> None:
    schema = _read_schema_version(connection, database)
    journal_mode = _query_value(connection, "PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if journal_mode != "wal" or _query_value(connection, "PRAGMA synchronous") != 2:
        raise StoreMisconfigured(f"{database} lies where a write-ahead log cannot be kept: put it on a local disk")
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA cache_size=-32768")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={MAX_IDLE_WAL_BYTES}")
    if schema and database.stat().st_size <= MAX_CHECKED_BYTES:
        check_result = _query_value(connection, "PRAGMA quick_check(1)")
        if check_result != "ok":
            raise StoreMisconfigured(f"{database} is damaged ({check_result}): bring back a copy, or name another file")
    _migrate(connection, schema)


def _read_schema_version(connection: sqlite3.Connection, database: Path) -> int:
    """0 for a file without anything in it."""
    schema: int = _query_value(connection, "PRAGMA user_version")
    tables: int = _query_value(connection, "SELECT count(*) FROM sqlite_master")
    if (schema or tables) and _query_value(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise StoreMisconfigured(f"{database} is another program's database: name another file")
    if schema > len(MIGRATIONS):
        raise StoreMisconfigured(
            f"{database} was made by a newer version (schema {schema}, known here: {len(MIGRATIONS)}): "
            "start that version, or name another file"
        )
    return schema


def _migrate(connection: sqlite3.Connection, schema: int) -> None:
    """All or nothing. `executescript` would commit in between, unless the script begins its transaction itself."""
    if schema == len(MIGRATIONS):
        return
    script = "".join(MIGRATIONS[schema:])
    version_pragmas = f"PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={len(MIGRATIONS)};"
    try:
        connection.executescript(f"BEGIN IMMEDIATE; {script} {version_pragmas} COMMIT;")
    finally:
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _query_value(connection: sqlite3.Connection, sql: str) -> Any:
    row = connection.execute(sql).fetchone()
    return row[0] if row else None
