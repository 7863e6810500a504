"""Writes, reads and deletes decision records. They have no reference to their jobs, which are deleted earlier."""

from collections.abc import Iterable
from sqlite3 import Connection

from gateway.jobs.commit import Commit
from gateway.store.decision_record_pages import (
    DecisionRecordPage,
    StoredDecisionRecord,
    clamp_page_size,
    decode_cursor,
    make_page,
)
from gateway.store.partitions import get_job_day

_INSERT_RECORD = "INSERT OR IGNORE INTO decision_records (day, job_id, team, record) VALUES (?, ?, ?, ?)"
_SET_OUTCOME = "UPDATE decision_records SET outcome = ? WHERE day = ? AND job_id = ?"
_SELECT_RECORD = "SELECT record, outcome FROM decision_records WHERE day = ? AND job_id = ?"
_SELECT_PAGE = """SELECT job_id, record, outcome FROM decision_records
WHERE day = ? AND job_id > ? AND (?3 IS NULL OR team = ?3) ORDER BY job_id LIMIT ?4"""
_DELETE_RECORD = "DELETE FROM decision_records WHERE day = ? AND job_id = ?"
DELETE_OLD_RECORDS = """DELETE FROM decision_records WHERE number IN
(SELECT number FROM decision_records WHERE day < ? LIMIT ?)"""


def write_decision_record(db: Connection, commit: Commit) -> None:
    """Writes the record of a new job, or the outcome of a settled one."""
    job = commit.job
    if commit.decision_record is not None:
        db.execute(_INSERT_RECORD, (get_job_day(job.id), job.id, job.team, commit.decision_record))
    if commit.job_outcome is not None:
        db.execute(_SET_OUTCOME, (commit.job_outcome, get_job_day(job.id), job.id))


def load_decision_record(db: Connection, job_id: str) -> StoredDecisionRecord | None:
    row = db.execute(_SELECT_RECORD, (get_job_day(job_id), job_id)).fetchone()
    return None if row is None else StoredDecisionRecord(job_id=job_id, record=row[0], outcome=row[1])


def list_decision_records(
    db: Connection, day: str, team: str | None, limit: int, cursor: str | None
) -> DecisionRecordPage:
    page_size = clamp_page_size(limit)
    rows = db.execute(_SELECT_PAGE, (day, decode_cursor(cursor), team, page_size + 1)).fetchall()
    records = (StoredDecisionRecord(job_id=job_id, record=record, outcome=outcome) for job_id, record, outcome in rows)
    return make_page(tuple(records), page_size)


def delete_decision_records(db: Connection, job_ids: Iterable[str]) -> None:
    db.executemany(_DELETE_RECORD, ((get_job_day(job_id), job_id) for job_id in job_ids))
