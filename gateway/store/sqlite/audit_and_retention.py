"""Audits and repairs derived numbers, and deletes data whose retention has ended."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from functools import partial
from sqlite3 import Connection

import msgspec

from gateway.store.audit import AuditReport, PartitionSnapshot, find_discrepancies, list_audit_days
from gateway.store.base import SIGNAL_TTL_SECONDS, Retention
from gateway.store.decision_records import first_kept_day
from gateway.store.ledger_totals import BudgetBalance, DayTotal
from gateway.store.sqlite.decision_record_rows import DELETE_OLD_RECORDS
from gateway.store.sqlite.ledger_rows import ACCOUNT_DECODER, ENTRY_DECODER, add_totals, insert_entries, update_budgets
from gateway.store.sqlite.queries import JobQueries

# The number of rows to delete in one transaction. That takes a few milliseconds, during which other writes wait.
DELETE_BATCH_ROWS = 1_000
# Decision records are wide: two of them fill a page.
DELETE_BATCH_RECORDS = 200

_SELECT_LISTED_JOBS = """SELECT jobs.id, jobs.encoded_job, jobs.settled_at IS NULL, due.job_id IS NOT NULL
FROM jobs LEFT JOIN due ON due.job_id = jobs.id WHERE jobs.settled_at IS NULL
UNION ALL
SELECT due.job_id, jobs.encoded_job, 0, 1 FROM due LEFT JOIN jobs ON jobs.id = due.job_id
WHERE jobs.id IS NULL OR jobs.settled_at IS NOT NULL"""
_SELECT_ENTRIES = "SELECT entry FROM ledger WHERE day IN (SELECT value FROM json_each(?)) ORDER BY number"
_SELECT_TOTALS = "SELECT day, account, amount, images FROM totals WHERE day BETWEEN ? AND ?"
_SELECT_BALANCES = "SELECT team, window, held, spent FROM budgets WHERE window IN (SELECT value FROM json_each(?))"

_INSERT_DUE = "INSERT OR IGNORE INTO due (job_id, due_at) VALUES (?, ?)"
_REOPEN_JOB = "UPDATE jobs SET settled_at = NULL WHERE id = ?"
_SETTLE_JOB = "UPDATE jobs SET settled_at = coalesce(settled_at, ?) WHERE id = ?"
_DELETE_DUE = "DELETE FROM due WHERE job_id = ?"

_SELECT_OLDEST_OPEN = "SELECT min(created_at) FROM jobs WHERE settled_at IS NULL"
_INSERT_ANNOUNCED = "INSERT OR REPLACE INTO announced (job_id, expires_at) VALUES (?, ?)"
_SELECT_DELETABLE_JOBS = """SELECT id FROM jobs WHERE settled_at <= ?
UNION ALL SELECT job_id FROM announced WHERE expires_at <= ? LIMIT ?"""
_DELETE_JOB_ROWS = (
    "DELETE FROM documents WHERE job_id = ?",
    "DELETE FROM milestones WHERE job_id = ?",
    "DELETE FROM outbox WHERE job_id = ?",
    "DELETE FROM due WHERE job_id = ?",
    "DELETE FROM announced WHERE job_id = ?",
    "DELETE FROM jobs WHERE id = ?",
)
_DELETE_OLD_ENTRIES = "DELETE FROM ledger WHERE number IN (SELECT number FROM ledger WHERE day < ? LIMIT ?)"
_DELETE_OLD_TOTALS = """DELETE FROM totals WHERE (day, account) IN
(SELECT day, account FROM totals WHERE day < ? LIMIT ?)"""
# A month sorts before its own days, so it is excluded until it is over.
_DELETE_OLD_BUDGETS = """DELETE FROM budgets WHERE (window, team) IN
(SELECT window, team FROM budgets WHERE window < ? AND window <> substr(?1, 1, 7) LIMIT ?2)"""
_DELETE_EXPIRED_KEYS = """DELETE FROM idempotency_keys WHERE (team, key) IN
(SELECT team, key FROM idempotency_keys WHERE expires_at <= ? LIMIT ?)"""
_DELETE_EXPIRED_BODIES = """DELETE FROM body_entries WHERE (team, key, number) IN
(SELECT team, key, number FROM body_entries WHERE expires_at <= ? LIMIT ?)"""
_DELETE_EXPIRED_SIGNALS = "DELETE FROM signals WHERE name IN (SELECT name FROM signals WHERE published_at <= ? LIMIT ?)"


# --- auditing


@contextmanager
def read_transaction(db: Connection) -> Iterator[None]:
    """Makes all reads in the block consistent. On the writer thread, a transaction may be open already."""
    if db.in_transaction:
        yield
        return
    db.execute("BEGIN")
    try:
        yield
    finally:
        db.execute("ROLLBACK")


def audit(db: Connection, decoder: JobQueries, now: float) -> AuditReport:
    return find_discrepancies(_take_snapshot(db, decoder, now), now)


def repair(db: Connection, decoder: JobQueries, now: float) -> AuditReport:
    """Audits and repairs. Returns what was repaired."""
    report = audit(db, decoder, now)
    db.executemany(_INSERT_DUE, [(job_id, now) for job_id in report.not_due])
    db.executemany(_REOPEN_JOB, [(job_id,) for job_id in report.not_open])
    db.executemany(_SETTLE_JOB, [(now, job_id) for job_id in report.settled_but_listed])
    db.executemany(_DELETE_DUE, [(job_id,) for job_id in (*report.settled_but_listed, *report.missing_jobs)])
    insert_entries(db, report.missing_entries)
    add_totals(db, report.total_corrections)
    update_budgets(db, ((drift.window, drift.team, drift.held, drift.spent) for drift in report.budget_drifts))
    return report


def _take_snapshot(db: Connection, decoder: JobQueries, now: float) -> PartitionSnapshot:
    """Reads the snapshot. Raises StoreError if a job cannot be read: without the job, its hold would look like a
    discrepancy."""
    jobs, open_ids, due_ids = {}, set(), set()
    for job_id, encoded_job, is_open, is_due in db.execute(_SELECT_LISTED_JOBS).fetchall():
        if encoded_job is not None:
            jobs[job_id] = decoder.decode(job_id, encoded_job)
        open_ids |= {job_id} if is_open else set()
        due_ids |= {job_id} if is_due else set()
    days = list_audit_days(now, jobs.values())
    months = sorted({day[:7] for day in days})
    rows = db.execute(_SELECT_BALANCES, (_to_json_array((*days, *months)),)).fetchall()
    return PartitionSnapshot(
        jobs=jobs,
        open_jobs=frozenset(open_ids),
        due_jobs=frozenset(due_ids),
        days=days,
        ledger_entries=tuple(
            ENTRY_DECODER.decode(entry) for (entry,) in db.execute(_SELECT_ENTRIES, (_to_json_array(days),)).fetchall()
        ),
        totals=tuple(total for month in months for total in _read_totals(db, month)),
        balances={(team, window): BudgetBalance(held=held, spent=spent) for team, window, held, spent in rows},
    )


def _to_json_array(names: Iterable[str]) -> str:
    return msgspec.json.encode(list(names)).decode()


def _read_totals(db: Connection, month: str) -> Iterator[DayTotal]:
    for day, account, amount, images in db.execute(_SELECT_TOTALS, (f"{month}-01", f"{month}-31")).fetchall():
        yield DayTotal(day=day, account=ACCOUNT_DECODER.decode(account), amount=amount, images=images)


# --- deleting


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
    )


def announce_job(db: Connection, job_id: str, expires_at: float) -> None:
    db.execute(_INSERT_ANNOUNCED, (job_id, expires_at))


def list_deletable_jobs(db: Connection, before: float, now: float, limit: int) -> tuple[str, ...]:
    return tuple(job_id for (job_id,) in db.execute(_SELECT_DELETABLE_JOBS, (before, now, limit)).fetchall())


def delete_job(db: Connection, job_id: str) -> None:
    for sql in _DELETE_JOB_ROWS:
        db.execute(sql, (job_id,))


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
        (_DELETE_OLD_TOTALS, totals_before),
        (_DELETE_OLD_BUDGETS, totals_before),
    )
    return any([_delete_rows(db, sql, before) for sql, before in deletions])


def _to_date(timestamp: float) -> date:
    return datetime.fromtimestamp(timestamp, UTC).date()
