"""Deletes data whose retention has ended."""

import contextlib
import sqlite3
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from functools import partial
from pathlib import Path
from sqlite3 import Connection

from gateway.store.base import MIN_BUDGET_SECONDS, SIGNAL_TTL_SECONDS, Retention
from gateway.store.decision_record_pages import first_kept_day
from gateway.store.sqlite.api_key_rows import DELETE_OLD_EVENTS
from gateway.store.sqlite.decision_record_rows import DELETE_OLD_RECORDS

# The number of rows to delete in one transaction. That takes a few milliseconds, during which other writes wait.
DELETE_BATCH_ROWS = 1_000
# Decision records are wide: two of them fill a page.
DELETE_BATCH_RECORDS = 200

_SELECT_OLDEST_OPEN = "SELECT min(created_at) FROM jobs WHERE settled_at IS NULL"
_INSERT_ANNOUNCED = "INSERT OR REPLACE INTO announced (job_id, expires_at) VALUES (?, ?)"
_SELECT_JOBS_TO_CLEAN_UP = """SELECT id FROM jobs WHERE cleanup_at <= ?1
UNION ALL SELECT job_id FROM announced WHERE expires_at <= ?1 LIMIT ?2"""
_DELETE_JOB_ROWS = (
    "DELETE FROM documents WHERE job_number = (SELECT number FROM jobs WHERE id = ?)",
    "DELETE FROM milestones WHERE job_number = (SELECT number FROM jobs WHERE id = ?)",
    "DELETE FROM outbox WHERE job_id = ?",
    "DELETE FROM due WHERE job_id = ?",
    "DELETE FROM announced WHERE job_id = ?",
    "DELETE FROM jobs WHERE id = ?",
)
_DELETE_OLD_ENTRIES = "DELETE FROM ledger WHERE number IN (SELECT number FROM ledger WHERE day < ? LIMIT ?)"
# A total is kept until the lifetime totals contain it.
_DELETE_OLD_TOTALS = """DELETE FROM totals WHERE (day, account, key_id) IN
(SELECT day, account, key_id FROM totals WHERE day < ? AND is_uncounted = 0 LIMIT ?)"""
# Hours are derived from the entries, and are kept as long as these.
_DELETE_OLD_HOURS = """DELETE FROM hour_totals WHERE (hour, account, key_id) IN
(SELECT hour, account, key_id FROM hour_totals WHERE hour < ? LIMIT ?)"""
_DELETE_OLD_CORRECTIONS = "DELETE FROM corrections WHERE id IN (SELECT id FROM corrections WHERE day < ? LIMIT ?)"
# Months are kept, since lifetime budgets are their sums.
_DELETE_OLD_BUDGETS = """DELETE FROM budgets WHERE (window, owner) IN
(SELECT window, owner FROM budgets WHERE window < ? AND length(window) = 10 LIMIT ?2)"""
_DELETE_EXPIRED_KEYS = """DELETE FROM idempotency_keys WHERE (team, key) IN
(SELECT team, key FROM idempotency_keys WHERE expires_at <= ? LIMIT ?)"""
_DELETE_EXPIRED_BODIES = """DELETE FROM body_entries WHERE (team, key, number) IN
(SELECT team, key, number FROM body_entries WHERE expires_at <= ? LIMIT ?)"""
_DELETE_EXPIRED_SIGNALS = "DELETE FROM signals WHERE name IN (SELECT name FROM signals WHERE published_at <= ? LIMIT ?)"


# Deletes one batch. Returns whether there may be more.
DeletionStep = Callable[[Connection], bool]


def deletion_steps(retention: Retention, now: float) -> tuple[DeletionStep, ...]:
    """Returns the steps of a deletion. Repeat each step until it returns False."""
    return (
        partial(_delete_money, retention=retention, now=now),
        partial(
            _delete_rows,
            sql=DELETE_OLD_RECORDS,
            before=first_kept_day(now, retention.decisions),
            limit=DELETE_BATCH_RECORDS,
        ),
        partial(_delete_rows, sql=_DELETE_EXPIRED_KEYS, before=now),
        partial(_delete_rows, sql=_DELETE_EXPIRED_BODIES, before=now),
        partial(_delete_rows, sql=_DELETE_EXPIRED_SIGNALS, before=now - SIGNAL_TTL_SECONDS),
        partial(_delete_rows, sql=DELETE_OLD_EVENTS, before=now - retention.admin_events),
    )


def announce_job(db: Connection, job_id: str, expires_at: float) -> None:
    db.execute(_INSERT_ANNOUNCED, (job_id, expires_at))


def list_jobs_to_clean_up(db: Connection, now: float, limit: int) -> tuple[str, ...]:
    return tuple(job_id for (job_id,) in db.execute(_SELECT_JOBS_TO_CLEAN_UP, (now, limit)).fetchall())


def delete_job(db: Connection, job_id: str) -> None:
    for sql in _DELETE_JOB_ROWS:
        db.execute(sql, (job_id,))


def truncate_log(database: Path, max_wait_seconds: float) -> None:
    """Empties the write-ahead log, which still has the pages of before a deletion. Does nothing while a reader needs
    the log: a later run empties it."""
    with contextlib.closing(sqlite3.connect(database, timeout=max_wait_seconds, isolation_level=None)) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _delete_rows(db: Connection, sql: str, before: float | str, limit: int = DELETE_BATCH_ROWS) -> bool:
    return db.execute(sql, (before, limit)).rowcount == limit


def _delete_money(db: Connection, retention: Retention, now: float) -> bool:
    """Deletes expired money. Keeps days that are still audited and the months they belong to: otherwise the audit would
    report money as missing."""
    (oldest_open,) = db.execute(_SELECT_OLDEST_OPEN).fetchone()
    first_audited_day = min(_to_date(now) - timedelta(days=1), _to_date(now if oldest_open is None else oldest_open))
    entries_before = min(first_audited_day, _to_date(now - retention.ledger)).isoformat()
    totals_before = min(first_audited_day.replace(day=1), _to_date(now - retention.totals)).isoformat()
    deletions = (
        (_DELETE_OLD_ENTRIES, entries_before),
        (_DELETE_OLD_HOURS, entries_before),
        (_DELETE_OLD_CORRECTIONS, entries_before),
        (_DELETE_OLD_TOTALS, totals_before),
        (_DELETE_OLD_BUDGETS, min(totals_before, _to_date(now - MIN_BUDGET_SECONDS).isoformat())),
    )
    return any([_delete_rows(db, sql, before) for sql, before in deletions])


def _to_date(timestamp: float) -> date:
    return datetime.fromtimestamp(timestamp, UTC).date()
