"""Writes a commit as rows: checks whether it is allowed, then writes everything that it changes.

Runs inside the transaction of the writer.
"""

from collections.abc import Callable, Sequence
from sqlite3 import Connection
from typing import NamedTuple

import msgspec
from msgspec import Struct

from gateway.jobs.commit import Commit
from gateway.store.base import (
    FIRST_FENCE,
    MAX_REMEMBERED_COMMITS,
    Applied,
    BudgetExceeded,
    CommitOutcome,
    LeaseLost,
    VersionConflict,
)
from gateway.store.ledger_totals import sum_entries
from gateway.store.repeated_request_matching import BodyEntry
from gateway.store.sqlite import read_queries
from gateway.store.sqlite.decision_record_rows import write_decision_record
from gateway.store.sqlite.due_time_rows import delete_due, set_due
from gateway.store.sqlite.ledger_rows import (
    JSON_ENCODER,
    add_totals,
    insert_entries,
    sum_balance,
    update_budgets,
)
from gateway.store.sqlite.repeated_request_rows import BodyKey, add_entry, attach_caller, end_entry, load_entries
from gateway.store.statistics import get_open_state

_COMMIT_IDS_DECODER = msgspec.json.Decoder(list[str])

_SELECT_JOB = """SELECT number, version, fence, owner, commit_ids, settled_at,
(SELECT due_at FROM due WHERE job_id = id) FROM jobs WHERE id = ?"""
_INSERT_JOB = """INSERT INTO jobs (id, team, created_at, version, fence, owner, commit_ids, settled_at, encoded_job,
open_state, cleanup_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_UPDATE_JOB = """UPDATE jobs SET version = ?, reclaims = 0, claimed_at = NULL, max_owned_seconds = 0, commit_ids = ?,
settled_at = ?, encoded_job = ?, open_state = ?, cleanup_at = ? WHERE number = ?"""
_DELETE_ANNOUNCED = "DELETE FROM announced WHERE job_id = ?"
_UPSERT_KEY = """INSERT INTO idempotency_keys (team, key, fingerprint, job_id, expires_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (team, key) DO UPDATE
SET fingerprint = excluded.fingerprint, job_id = excluded.job_id, expires_at = excluded.expires_at"""
_SET_KEY_EXPIRY = "UPDATE idempotency_keys SET expires_at = ? WHERE team = ? AND key = ? AND job_id = ?"
_INSERT_MILESTONE = "INSERT OR REPLACE INTO milestones (job_number, number, entry) VALUES (?, ?, ?)"
_INSERT_DELIVERY = "INSERT OR IGNORE INTO outbox (job_id, delivery_id, due_at, entry) VALUES (?, ?, ?, ?)"
_INSERT_DOCUMENT = "INSERT OR IGNORE INTO documents (job_number, name, content) VALUES (?, ?, ?)"
_DELETE_DOCUMENT = "DELETE FROM documents WHERE job_number = ? AND name = ?"


class _ExistingJob(NamedTuple):
    """The stored row of a job."""

    number: int
    version: int
    fence: int
    owner: str | None
    commit_ids: str
    settled_at: float | None
    due_at: float | None

    def has_active_fence(self, fence: int) -> bool:
        """Returns whether the fence is that of the present owner. A replica that released the job still has its last
        fence, but may not decide about the job any more."""
        return self.owner is not None and self.fence == fence


class CommitWriter(Struct, frozen=True, kw_only=True):
    """Applies commits of this replica."""

    replica_id: str
    lease: float
    clock: Callable[[], float]

    def __call__(self, db: Connection, commit: Commit) -> CommitOutcome:
        row = db.execute(_SELECT_JOB, (commit.job.id,)).fetchone()
        existing = _ExistingJob(*row) if row else None
        commit_ids = _COMMIT_IDS_DECODER.decode(existing.commit_ids) if existing else []
        if commit.commit_id in commit_ids:
            return Applied()
        if (existing.version if existing else 0) != commit.expected_version:
            return VersionConflict()
        if existing and commit.fence is not None and not existing.has_active_fence(commit.fence):
            return LeaseLost()
        now = self.clock()
        body_entries = _load_body_entries(db, commit, now)
        if existing is None and (refusal := _find_refusal(db, commit, now, body_entries)):
            return refusal
        job_number = self._write_job(
            db,
            commit,
            existing,
            JSON_ENCODER.encode([*commit_ids, commit.commit_id][-MAX_REMEMBERED_COMMITS:]).decode(),
        )
        self._write_due(db, commit, existing, now)
        _write_money(db, commit)
        _write_idempotency(db, commit, now, body_entries)
        _write_related_rows(db, commit, job_number, now)
        write_decision_record(db, commit)
        return Applied()

    def _write_job(self, db: Connection, commit: Commit, existing: _ExistingJob | None, commit_ids: str) -> int | None:
        """Writes the row of the job. Returns its number."""
        job = commit.job
        settled_at = None
        if job.is_settled:
            settled_at = existing.settled_at if existing and existing.settled_at is not None else commit.committed_at
        if existing:
            changes = (job.version, commit_ids, settled_at, commit.encoded_job, get_open_state(job), commit.cleanup_at)
            db.execute(_UPDATE_JOB, (*changes, existing.number))
            return existing.number
        db.execute(_DELETE_ANNOUNCED, (job.id,))
        row = (
            job.id,
            job.team,
            job.created_at,
            job.version,
            FIRST_FENCE,
            self.replica_id,
            commit_ids,
            settled_at,
            commit.encoded_job,
            get_open_state(job),
            commit.cleanup_at,
        )
        return db.execute(_INSERT_JOB, row).lastrowid

    def _write_due(self, db: Connection, commit: Commit, existing: _ExistingJob | None, now: float) -> None:
        """Writes the due time. An owned job is due when its lease ends, any other job at the time in the commit."""
        due_at = existing.due_at if existing else None
        if commit.job.is_settled:
            if due_at is not None:
                delete_due(db, commit.job.id)
        elif existing and existing.owner is None:
            delay = 0.0 if commit.due_at is None else commit.due_at - commit.committed_at
            set_due(db, commit.job.id, now + delay)
        elif due_at is None:
            set_due(db, commit.job.id, now + self.lease)


def _load_body_entries(db: Connection, commit: Commit, now: float) -> Sequence[BodyEntry]:
    """Loads the jobs with the same body as the request that the commit creates a job for."""
    record = commit.idempotency
    return load_entries(db, BodyKey(commit.job.team, record.key, now)) if record and record.is_body_key else ()


def _find_refusal(
    db: Connection, commit: Commit, now: float, body_entries: Sequence[BodyEntry]
) -> CommitOutcome | None:
    """Returns the reason why a new job must not be created, or None."""
    return _find_duplicate(db, commit, now, body_entries) or _check_budget(db, commit)


def _find_duplicate(
    db: Connection, commit: Commit, now: float, body_entries: Sequence[BodyEntry]
) -> CommitOutcome | None:
    record, team = commit.idempotency, commit.job.team
    if record is None:
        return None
    if record.is_body_key:
        return attach_caller(db, BodyKey(team, record.key, now), record, body_entries)
    return read_queries.find_by_idempotency(db, team, record, now)


def _check_budget(db: Connection, commit: Commit) -> CommitOutcome | None:
    for limit in commit.budget_limits:
        balance = sum_balance(db, limit.owner, limit.window.parts)
        if balance.held + balance.spent + commit.job.hold > limit.amount:
            return BudgetExceeded(limit=limit, spent=balance.spent, held=balance.held)
    return None


def _write_money(db: Connection, commit: Commit) -> None:
    if commit.budget_changes:
        update_budgets(
            db, ((change.window, change.owner, change.hold, change.spend) for change in commit.budget_changes)
        )
    if commit.ledger_entries:
        insert_entries(db, commit.ledger_entries)
        add_totals(db, sum_entries(commit.ledger_entries).values())


def _write_idempotency(db: Connection, commit: Commit, now: float, body_entries: Sequence[BodyEntry]) -> None:
    job, record = commit.job, commit.idempotency
    if record and record.is_body_key and commit.expected_version == 0:
        add_entry(db, BodyKey(job.team, record.key, now), record, job.id, body_entries)
    elif record and commit.expected_version == 0:
        db.execute(_UPSERT_KEY, (job.team, record.key, record.fingerprint, job.id, now + record.ttl_seconds))
    end_entry(db, commit, now)
    if commit.idempotency_ttl is not None and job.client_key is not None:
        db.execute(_SET_KEY_EXPIRY, (now + commit.idempotency_ttl, job.team, job.client_key, job.id))


def _write_related_rows(db: Connection, commit: Commit, job_number: int | None, now: float) -> None:
    """Writes the rows that belong to the job. Deletes removed documents first, so that a new document may reuse a
    name."""
    if commit.milestones:
        db.executemany(
            _INSERT_MILESTONE, [(job_number, item.number, JSON_ENCODER.encode(item)) for item in commit.milestones]
        )
    if commit.webhook_deliveries:
        db.executemany(
            _INSERT_DELIVERY,
            [(item.job, item.id, now, JSON_ENCODER.encode(item)) for item in commit.webhook_deliveries],
        )
    if commit.removed_documents:
        db.executemany(_DELETE_DOCUMENT, [(job_number, name) for name in commit.removed_documents])
    if commit.documents:
        db.executemany(_INSERT_DOCUMENT, [(job_number, name, content) for name, content in commit.documents.items()])
