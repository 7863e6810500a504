"""Opens the database file: takes its lock, checks it, migrates its schema."""

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import Any

from gateway.store.base import StoreFull, StoreMisconfigured

# The first version with upserts, RETURNING and the JSON functions.
MIN_SQLITE_VERSION = (3, 38, 0)
APPLICATION_ID = int.from_bytes(b"igwj", "big")
# Checking a larger file would delay the start by more than a second.
MAX_CHECKED_BYTES = 256 * 1024 * 1024
# A checkpoint runs when the write-ahead log has this many pages (16 MB).
CHECKPOINT_PAGES = 4_000
# A log that has grown larger, during a long read, is truncated to this size.
MAX_IDLE_WAL_BYTES = 64 * 1024 * 1024

# Jobs and documents are wide and keep their rowid, so that a change touches a page of recent rows.
# `settled_at` is NULL while a job is open, so its index also lists the open jobs.
# Due times are a table of their own, so that renewing a thousand leases writes a few pages.
# `owned_seconds`: how long the present owner has worked on the job. `max_owned_seconds`: the longest time of an owner
# that crashed. `announced`: jobs that are about to be created, and until when. `closed_replicas`: processes that closed
# normally.
_SCHEMA = """
CREATE TABLE jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, team TEXT NOT NULL, created_at REAL NOT NULL,
    version INTEGER NOT NULL, fence INTEGER NOT NULL, owner TEXT, reclaims INTEGER NOT NULL DEFAULT 0,
    commit_ids TEXT NOT NULL, settled_at REAL, encoded_job BLOB NOT NULL,
    claimed_at REAL, max_owned_seconds REAL NOT NULL DEFAULT 0
);
CREATE INDEX jobs_by_team ON jobs (team, created_at, id);
CREATE INDEX jobs_by_settled_at ON jobs (settled_at, created_at);
CREATE TABLE due (job_id TEXT PRIMARY KEY, due_at REAL NOT NULL, owned_seconds REAL) WITHOUT ROWID;
CREATE INDEX due_by_time ON due (due_at);
CREATE TABLE announced (job_id TEXT PRIMARY KEY, expires_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX announced_by_time ON announced (expires_at);
CREATE TABLE documents (
    job_id TEXT NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (job_id, name)
);
CREATE TABLE milestones (
    job_id TEXT NOT NULL, number INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (job_id, number)
) WITHOUT ROWID;
CREATE TABLE idempotency_keys (
    team TEXT NOT NULL, key TEXT NOT NULL, fingerprint TEXT NOT NULL, job_id TEXT NOT NULL, expires_at REAL NOT NULL,
    PRIMARY KEY (team, key)
) WITHOUT ROWID;
CREATE INDEX idempotency_keys_by_expiry ON idempotency_keys (expires_at);
CREATE TABLE body_entries (
    team TEXT NOT NULL, key TEXT NOT NULL, number INTEGER NOT NULL, job_id TEXT NOT NULL, callers TEXT NOT NULL,
    awaits_first_request INTEGER NOT NULL, has_ended INTEGER NOT NULL DEFAULT 0,
    may_be_charged INTEGER NOT NULL DEFAULT 0, is_refused INTEGER NOT NULL DEFAULT 0, expires_at REAL NOT NULL,
    PRIMARY KEY (team, key, number)
) WITHOUT ROWID;
CREATE INDEX body_entries_by_expiry ON body_entries (expires_at);
CREATE TABLE closed_replicas (replica_id TEXT PRIMARY KEY, closed_at REAL NOT NULL) WITHOUT ROWID;
CREATE INDEX closed_replicas_by_time ON closed_replicas (closed_at);
CREATE TABLE outbox (
    job_id TEXT NOT NULL, delivery_id TEXT NOT NULL, due_at REAL NOT NULL, attempts INTEGER NOT NULL DEFAULT 0,
    entry BLOB NOT NULL, PRIMARY KEY (job_id, delivery_id)
) WITHOUT ROWID;
CREATE INDEX outbox_by_time ON outbox (due_at);
CREATE TABLE ledger (number INTEGER PRIMARY KEY, day TEXT NOT NULL, team TEXT NOT NULL, entry BLOB NOT NULL);
CREATE INDEX ledger_by_day ON ledger (day);
CREATE TABLE totals (
    day TEXT NOT NULL, account TEXT NOT NULL, team TEXT NOT NULL, amount INTEGER NOT NULL, images INTEGER NOT NULL,
    PRIMARY KEY (day, account)
) WITHOUT ROWID;
CREATE TABLE budgets (
    window TEXT NOT NULL, team TEXT NOT NULL, held INTEGER NOT NULL, spent INTEGER NOT NULL,
    PRIMARY KEY (window, team)
) WITHOUT ROWID;
CREATE TABLE signals (name TEXT PRIMARY KEY, value BLOB NOT NULL, published_at REAL NOT NULL) WITHOUT ROWID;
"""
# The number keeps new records together; the index finds a job's record, and lists a day.
_DECISION_RECORDS = """
CREATE TABLE decision_records (
    number INTEGER PRIMARY KEY, day TEXT NOT NULL, job_id TEXT NOT NULL, team TEXT NOT NULL, record BLOB NOT NULL,
    outcome BLOB, UNIQUE (day, job_id)
);
"""
_API_KEYS = """
CREATE TABLE api_keys (id TEXT PRIMARY KEY, entry BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE api_key_version (number INTEGER PRIMARY KEY, version TEXT NOT NULL);
CREATE TABLE api_key_uses (id TEXT PRIMARY KEY, used_at REAL NOT NULL) WITHOUT ROWID;
CREATE TABLE admin_events (id TEXT PRIMARY KEY, at REAL NOT NULL, entry BLOB NOT NULL) WITHOUT ROWID;
CREATE INDEX admin_events_by_time ON admin_events (at);
"""
_TEAM_RECORDS = """
CREATE TABLE team_records (
    id TEXT PRIMARY KEY, kind TEXT NOT NULL, team TEXT NOT NULL, created_at REAL NOT NULL, version INTEGER NOT NULL,
    content BLOB NOT NULL, due_at REAL
);
CREATE INDEX team_records_by_team ON team_records (kind, team, created_at, id);
CREATE INDEX team_records_by_time ON team_records (kind, due_at);
"""
# `counted_*`: the part of a day total that the lifetime totals contain; `is_uncounted`: there may be more. So the
# totals of an earlier version are counted once, too. `open_state`: of jobs that are not settled, see
# `statistics.py`.
_STATISTICS = """
ALTER TABLE totals ADD COLUMN counted_amount INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN counted_images INTEGER NOT NULL DEFAULT 0;
ALTER TABLE totals ADD COLUMN is_uncounted INTEGER NOT NULL DEFAULT 1;
CREATE INDEX uncounted_totals ON totals (day) WHERE is_uncounted = 1;
CREATE TABLE lifetime_totals (
    account TEXT PRIMARY KEY, charged INTEGER NOT NULL, charged_images INTEGER NOT NULL, corrected INTEGER NOT NULL,
    corrected_images INTEGER NOT NULL
) WITHOUT ROWID;
ALTER TABLE jobs ADD COLUMN open_state TEXT NOT NULL DEFAULT 'in_progress';
CREATE INDEX open_jobs_by_state ON jobs (open_state, created_at) WHERE settled_at IS NULL;
"""
# Totals get the API key as a further dimension. `hour_totals`: the same sums by the hour, like 2026-11-28T09.
# `is_irregular`: the entry is not a capture.
_LEDGER_REPORTS = """
CREATE TABLE totals_by_key (
    day TEXT NOT NULL, account TEXT NOT NULL, key_id TEXT NOT NULL, team TEXT NOT NULL, amount INTEGER NOT NULL,
    images INTEGER NOT NULL, counted_amount INTEGER NOT NULL DEFAULT 0, counted_images INTEGER NOT NULL DEFAULT 0,
    is_uncounted INTEGER NOT NULL DEFAULT 1, PRIMARY KEY (day, account, key_id)
) WITHOUT ROWID;
INSERT INTO totals_by_key SELECT day, account, '', team, amount, images, counted_amount, counted_images, is_uncounted
FROM totals;
DROP TABLE totals;
ALTER TABLE totals_by_key RENAME TO totals;
CREATE INDEX uncounted_totals ON totals (day) WHERE is_uncounted = 1;
CREATE TABLE hour_totals (
    hour TEXT NOT NULL, account TEXT NOT NULL, key_id TEXT NOT NULL, team TEXT NOT NULL, amount INTEGER NOT NULL,
    images INTEGER NOT NULL, PRIMARY KEY (hour, account, key_id)
) WITHOUT ROWID;
ALTER TABLE ledger ADD COLUMN is_irregular INTEGER NOT NULL DEFAULT 0;
UPDATE ledger SET is_irregular = 1 WHERE json_extract(CAST(entry AS TEXT), '$.line') <> 'capture';
CREATE INDEX irregular_entries ON ledger (day) WHERE is_irregular = 1;
"""
# By the number of the job: the rows of jobs that run at the same time share a few pages. Ids are random, so each row
# would change a page of its own.
_JOB_NUMBERS = """
ALTER TABLE documents RENAME TO former_documents;
CREATE TABLE documents (
    job_number INTEGER NOT NULL, name TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (job_number, name)
);
INSERT INTO documents (job_number, name, content)
SELECT jobs.number, name, content FROM former_documents JOIN jobs ON jobs.id = job_id ORDER BY former_documents.rowid;
DROP TABLE former_documents;
ALTER TABLE milestones RENAME TO former_milestones;
CREATE TABLE milestones (
    job_number INTEGER NOT NULL, number INTEGER NOT NULL, entry BLOB NOT NULL, PRIMARY KEY (job_number, number)
) WITHOUT ROWID;
INSERT INTO milestones (job_number, number, entry)
SELECT jobs.number, former_milestones.number, entry FROM former_milestones JOIN jobs ON jobs.id = job_id;
DROP TABLE former_milestones;
"""
# `corrections`: those that were booked, so that none is booked twice.
_CORRECTIONS = """
CREATE TABLE corrections (id TEXT PRIMARY KEY, day TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX corrections_by_day ON corrections (day);
"""
# The owner of a balance is a team or one of its API keys (`jobs/budgets.py`).
_BUDGET_OWNERS = "ALTER TABLE budgets RENAME COLUMN team TO owner;"
# `cleanup_at`: when something of a settled job is to be deleted next. Jobs of earlier versions are kept for a week.
_CLEANUP = """
ALTER TABLE jobs ADD COLUMN cleanup_at REAL;
UPDATE jobs SET cleanup_at = settled_at + 604800 WHERE settled_at IS NOT NULL;
CREATE INDEX jobs_by_cleanup_at ON jobs (cleanup_at) WHERE cleanup_at IS NOT NULL;
"""
# Each script migrates from the schema before it. Only append to this.
MIGRATIONS = (
    _SCHEMA,
    _DECISION_RECORDS,
    _API_KEYS,
    _TEAM_RECORDS,
    _STATISTICS,
    _LEDGER_REPORTS,
    _JOB_NUMBERS,
    _CORRECTIONS,
    _BUDGET_OWNERS,
    _CLEANUP,
)
# All connections share a file of 32 kB next to the database. The first connection creates it.
_SHARED_MEMORY_ERRORS = frozenset(
    (sqlite3.SQLITE_IOERR_SHMSIZE, sqlite3.SQLITE_IOERR_SHMMAP, sqlite3.SQLITE_IOERR_SHMOPEN)
)


def get_lock_path(database: Path) -> Path:
    return database.with_name(f"{database.name}.lock")


class DatabaseLock:
    """The exclusive lock of a database, held from opening to closing. Without it, two processes would each own all
    jobs."""

    def __init__(self, database: Path) -> None:
        self._descriptor = os.open(get_lock_path(database), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._acquire(database)
        except (OSError, StoreMisconfigured):
            self.release()
            raise

    def _acquire(self, database: Path) -> None:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = read_holder(self._descriptor)
            raise StoreMisconfigured(
                f"{database} is in use by process {holder}. Stop it, or configure another file; "
                "replicas that share jobs need Redis."
            ) from error
        # The process id is only needed for the message, so a full disk must not prevent the start.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        os.close(self._descriptor)


def read_holder(lock_descriptor: int) -> str:
    """Returns the id of the process that holds the lock."""
    return os.pread(lock_descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"


def acquire_lock(database: Path) -> DatabaseLock:
    """Locks the database. Creates its folder and file if they do not exist, readable only for this user, since requests
    are private."""
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
    return StoreMisconfigured(
        f"{database} cannot be used: {error.strerror or error}. Check the path and its permissions."
    )


def _create_file(database: Path) -> None:
    """Creates the file and makes its name durable, too."""
    if database.exists():
        return
    os.close(os.open(database, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    folder = os.open(database.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def open_writer(database: Path) -> sqlite3.Connection:
    """Opens and checks the database, and migrates its schema. StoreMisconfigured if it cannot be used.

    If the disk has no room for the file that connections share, the database is opened for this connection alone
    (`is_exclusive`), which does not need that file: jobs can be read, and written as soon as there is room.
    """
    if sqlite3.sqlite_version_info < MIN_SQLITE_VERSION:
        minimum = ".".join(str(number) for number in MIN_SQLITE_VERSION)
        raise StoreMisconfigured(f"SQLite {sqlite3.sqlite_version} is too old: {minimum} or newer is required.")
    try:
        return _open_prepared(database, has_exclusive_lock=False)
    except StoreFull:
        return _open_prepared(database, has_exclusive_lock=True)


def is_exclusive(connection: sqlite3.Connection) -> bool:
    """Returns whether no other connection can be opened while this one is open."""
    return bool(_query_value(connection, "PRAGMA locking_mode") == "exclusive")


def _open_prepared(database: Path, has_exclusive_lock: bool) -> sqlite3.Connection:
    connection = _connect(database, "rw")
    try:
        if has_exclusive_lock:
            connection.execute("PRAGMA locking_mode=EXCLUSIVE")
        _prepare_database(connection, database)
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
            f"{database.absolute().as_uri()}?mode={mode}",
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
        return StoreFull("The disk of the database is full. Free some space.")
    match code & 0xFF:
        case sqlite3.SQLITE_NOTADB:
            return StoreMisconfigured(
                f"{database} is not an SQLite database. Restore a backup, or configure another file."
            )
        case sqlite3.SQLITE_CORRUPT:
            return StoreMisconfigured(f"{database} is damaged ({error}). Restore a backup, or configure another file.")
        case sqlite3.SQLITE_FULL:
            return StoreFull("The disk of the database is full. Free some space.")
    return StoreMisconfigured(f"{database} cannot be used: {error}. Check the file and its permissions.")


def _prepare_database(connection: sqlite3.Connection, database: Path) -> None:
    schema = _read_schema_version(connection, database)
    journal_mode = _query_value(connection, "PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    if journal_mode != "wal" or _query_value(connection, "PRAGMA synchronous") != 2:
        raise StoreMisconfigured(
            f"{database} is on a file system without write-ahead logging. Move it to a local disk."
        )
    connection.execute("PRAGMA foreign_keys=OFF")
    connection.execute("PRAGMA secure_delete=ON")
    connection.execute("PRAGMA temp_store=MEMORY")
    connection.execute("PRAGMA cache_size=-32768")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA journal_size_limit={MAX_IDLE_WAL_BYTES}")
    if schema:
        _require_intact(connection, database)
    _migrate(connection, schema)


def check_content(database: Path) -> int:
    """Checks an existing database that no process uses, without changing it. Returns the version of its schema.

    Raises StoreMisconfigured if it cannot be used.
    """
    try:
        with contextlib.closing(_connect(database, "ro")) as connection:
            schema = _read_schema_version(connection, database)
            _require_intact(connection, database)
            return schema
    except sqlite3.Error as error:
        raise _translate_open_error(database, error) from error


def _require_intact(connection: sqlite3.Connection, database: Path) -> None:
    """Raises StoreMisconfigured if a database is damaged. Checks none that would take long."""
    if database.stat().st_size > MAX_CHECKED_BYTES:
        return
    check_result = _query_value(connection, "PRAGMA quick_check(1)")
    if check_result != "ok":
        raise StoreMisconfigured(
            f"{database} is damaged ({check_result}). Restore a backup, or configure another file."
        )


def _read_schema_version(connection: sqlite3.Connection, database: Path) -> int:
    """Reads the version of the schema. Returns 0 for an empty file."""
    schema: int = _query_value(connection, "PRAGMA user_version")
    tables: int = _query_value(connection, "SELECT count(*) FROM sqlite_master")
    if (schema or tables) and _query_value(connection, "PRAGMA application_id") != APPLICATION_ID:
        raise StoreMisconfigured(f"{database} belongs to another program. Restore a backup, or configure another file.")
    if schema > len(MIGRATIONS):
        raise StoreMisconfigured(
            f"{database} was written by a newer version (schema {schema}, supported: {len(MIGRATIONS)}). "
            "Start that version, or configure another file."
        )
    return schema


def _migrate(connection: sqlite3.Connection, schema: int) -> None:
    """Applies the missing migrations in one transaction. The script begins it: `executescript` would commit before."""
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
