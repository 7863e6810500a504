"""Queries, one statement each, so that each result is consistent.

All rows are fetched at once: an unfinished cursor would hold the reader's transaction open.
"""

import base64
import binascii
from collections.abc import Mapping
from sqlite3 import Connection

import msgspec

from gateway.jobs.commit import IdempotencyRecord, LedgerEntry, Milestone
from gateway.jobs.job import Job
from gateway.store.base import IdempotencyMatch, JobPage, match_fingerprint
from gateway.store.job_decoder import JobDecoder
from gateway.store.ledger_totals import BudgetBalance, DayTotal, list_days
from gateway.store.sqlite.ledger_rows import ACCOUNT_DECODER, ENTRY_DECODER

MAX_LISTED_JOBS = 100

_CURSOR_DECODER = msgspec.json.Decoder(tuple[float, str])
_MILESTONE_DECODER = msgspec.json.Decoder(Milestone)

_SELECT_KEY = "SELECT fingerprint, job_id FROM idempotency_keys WHERE team = ? AND key = ? AND expires_at > ?"
_SELECT_JOB = "SELECT encoded_job FROM jobs WHERE id = ?"
_SELECT_DOCUMENTS = "SELECT name, content FROM documents WHERE job_id = ? AND name IN (SELECT value FROM json_each(?))"
_SELECT_NEWEST = "SELECT created_at, id, encoded_job FROM jobs WHERE team = ? ORDER BY created_at DESC, id DESC LIMIT ?"
_SELECT_OLDER = """SELECT created_at, id, encoded_job FROM jobs WHERE team = ? AND (created_at, id) < (?, ?)
ORDER BY created_at DESC, id DESC LIMIT ?"""
_SELECT_MILESTONES = "SELECT entry FROM milestones WHERE job_id = ? AND number > ? ORDER BY number"
_SELECT_BALANCES = """SELECT window, held, spent FROM budgets
WHERE team = ? AND window IN (SELECT value FROM json_each(?))"""
_SELECT_ENTRIES = "SELECT entry FROM ledger WHERE day = ? AND (?2 IS NULL OR team = ?2) ORDER BY number"
_SELECT_TOTALS = """SELECT day, account, amount, images FROM totals
WHERE day BETWEEN ? AND ? AND (?3 IS NULL OR team = ?3)"""


class JobQueries(JobDecoder):
    """Loads and lists jobs."""

    def load_job(self, db: Connection, job_id: str) -> Job | None:
        row = db.execute(_SELECT_JOB, (job_id,)).fetchone()
        return None if row is None else self.decode(job_id, row[0])

    def list_jobs(self, db: Connection, team: str, limit: int, position: tuple[float, str] | None) -> JobPage:
        page_size = max(1, min(MAX_LISTED_JOBS, limit))
        if position is None:
            rows = db.execute(_SELECT_NEWEST, (team, page_size + 1)).fetchall()
        else:
            rows = db.execute(_SELECT_OLDER, (team, *position, page_size + 1)).fetchall()
        page_rows = rows[:page_size]
        jobs = (self.try_decode(job_id, encoded_job) for _, job_id, encoded_job in page_rows)
        return JobPage(
            tuple(job for job in jobs if job), encode_cursor(*page_rows[-1][:2]) if len(rows) > page_size else None
        )


def encode_cursor(created_at: float, job_id: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((created_at, job_id))).decode().rstrip("=")


def decode_cursor(cursor: str) -> tuple[float, str]:
    """Returns the creation time and the id of the last job of the previous page. Raises ValueError if the cursor is
    invalid."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        return _CURSOR_DECODER.decode(text)
    except (binascii.Error, msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError("Invalid cursor. Use the one from the previous page.") from error


def find_by_idempotency(db: Connection, team: str, record: IdempotencyRecord, now: float) -> IdempotencyMatch | None:
    """Finds the job of a client's idempotency key."""
    row = db.execute(_SELECT_KEY, (team, record.key, now)).fetchone()
    return None if row is None else match_fingerprint(record, *row)


def load_documents(db: Connection, job_id: str, names: tuple[str, ...]) -> Mapping[str, bytes]:
    return dict(db.execute(_SELECT_DOCUMENTS, (job_id, msgspec.json.encode(names).decode())).fetchall())


def list_milestones(db: Connection, job_id: str, after_number: int) -> tuple[Milestone, ...]:
    return tuple(
        _MILESTONE_DECODER.decode(entry)
        for (entry,) in db.execute(_SELECT_MILESTONES, (job_id, after_number)).fetchall()
    )


def load_balances(db: Connection, team: str, windows: tuple[str, ...]) -> Mapping[str, BudgetBalance]:
    """Loads the balances of budgets. A window without entries has an empty balance."""
    rows = db.execute(_SELECT_BALANCES, (team, msgspec.json.encode(windows).decode())).fetchall()
    balances = {window: BudgetBalance(held=held, spent=spent) for window, held, spent in rows}
    return {window: balances.get(window, BudgetBalance()) for window in windows}


def list_ledger_entries(db: Connection, day: str, team: str | None) -> tuple[LedgerEntry, ...]:
    return tuple(ENTRY_DECODER.decode(entry) for (entry,) in db.execute(_SELECT_ENTRIES, (day, team)).fetchall())


def list_day_totals(db: Connection, first_day: str, last_day: str, team: str | None) -> tuple[DayTotal, ...]:
    list_days(first_day, last_day)
    totals = (
        DayTotal(day=day, account=ACCOUNT_DECODER.decode(account), amount=amount, images=images)
        for day, account, amount, images in db.execute(_SELECT_TOTALS, (first_day, last_day, team)).fetchall()
    )
    return tuple(sorted(totals, key=lambda total: (total.day, total.account)))
