"""Queries, one statement each, so that each result is consistent.

All rows are fetched in one step: an unfinished cursor would hold the reader's transaction open.
"""

from collections.abc import Mapping
from sqlite3 import Connection

import msgspec
from msgspec.structs import astuple

from gateway.jobs.commit import IdempotencyRecord, LedgerEntry, Milestone
from gateway.jobs.job import Job
from gateway.store.base import IdempotencyMatch, match_fingerprint
from gateway.store.job_decoder import JobDecoder
from gateway.store.job_pages import JobFilter, JobPage, JobPosition, PageBuilder
from gateway.store.ledger_totals import EMPTY_BALANCE, BudgetBalance, LedgerTotal, list_days
from gateway.store.sqlite.ledger_rows import ENTRY_DECODER, decode_total

_FAR_FUTURE = 1e15
_MILESTONE_DECODER = msgspec.json.Decoder(Milestone)

_SELECT_KEY = "SELECT fingerprint, job_id FROM idempotency_keys WHERE team = ? AND key = ? AND expires_at > ?"
_SELECT_JOB = "SELECT encoded_job FROM jobs WHERE id = ?"
_SELECT_DOCUMENTS = """SELECT name, content FROM documents
WHERE job_number = (SELECT number FROM jobs WHERE id = ?) AND name IN (SELECT value FROM json_each(?))"""
_SELECT_OLDER = """SELECT created_at, id, encoded_job FROM jobs
WHERE team = ? AND (created_at, id) < (?, ?) AND created_at >= ? ORDER BY created_at DESC, id DESC LIMIT ?"""
_SELECT_MILESTONES = """SELECT entry FROM milestones
WHERE job_number = (SELECT number FROM jobs WHERE id = ?) AND number > ? ORDER BY number"""
_SELECT_BALANCES = """SELECT window, held, spent FROM budgets
WHERE owner = ? AND window IN (SELECT value FROM json_each(?))"""
_SELECT_ENTRIES = "SELECT entry FROM ledger WHERE day = ? AND (?2 IS NULL OR team = ?2) ORDER BY number"
_SELECT_IRREGULAR_ENTRIES = """SELECT entry FROM ledger
WHERE day = ? AND is_irregular = 1 AND (?2 IS NULL OR team = ?2) ORDER BY number"""
_SELECT_TOTALS = """SELECT day, account, key_id, amount, images FROM totals
WHERE day BETWEEN ? AND ? AND (?3 IS NULL OR team = ?3)"""


class JobQueries(JobDecoder):
    """Loads and lists jobs."""

    def load_job(self, db: Connection, job_id: str) -> Job | None:
        row = db.execute(_SELECT_JOB, (job_id,)).fetchone()
        return None if row is None else self.decode(job_id, row[0])

    def list_jobs(
        self, db: Connection, team: str, limit: int, after: JobPosition | None, job_filter: JobFilter
    ) -> JobPage:
        builder = PageBuilder(limit, after, job_filter)
        while builder.page is None:
            created_at, job_id = astuple(builder.position) if builder.position else (_FAR_FUTURE, "")
            bounds = (team, created_at, job_id, job_filter.created_since, builder.batch_size)
            rows = db.execute(_SELECT_OLDER, bounds).fetchall()
            builder.add_batch([(JobPosition(at, name), self.try_decode(name, encoded)) for at, name, encoded in rows])
        return builder.page


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


def load_balances(db: Connection, owner: str, windows: tuple[str, ...]) -> Mapping[str, BudgetBalance]:
    """Loads the balances of an owner. A window without entries has an empty balance."""
    rows = db.execute(_SELECT_BALANCES, (owner, msgspec.json.encode(windows).decode())).fetchall()
    balances = {window: BudgetBalance(held=held, spent=spent) for window, held, spent in rows}
    return {window: balances.get(window, EMPTY_BALANCE) for window in windows}


def list_ledger_entries(db: Connection, day: str, team: str | None, is_irregular: bool) -> tuple[LedgerEntry, ...]:
    statement = _SELECT_IRREGULAR_ENTRIES if is_irregular else _SELECT_ENTRIES
    return tuple(ENTRY_DECODER.decode(entry) for (entry,) in db.execute(statement, (day, team)).fetchall())


def list_day_totals(db: Connection, first_day: str, last_day: str, team: str | None) -> tuple[LedgerTotal, ...]:
    list_days(first_day, last_day)
    totals = map(decode_total, db.execute(_SELECT_TOTALS, (first_day, last_day, team)).fetchall())
    return tuple(sorted(totals, key=lambda total: total.key))
