"""What is read, each with one statement, so that it is one moment's truth.

Rows are fetched before they are looked at: a question that is left half answered would keep the reader in that moment.
"""

import base64
import binascii
from collections.abc import Mapping
from sqlite3 import Connection

import msgspec

from gateway.jobs.commit import IdempotencyRecord, LedgerEntry, Milestone
from gateway.jobs.job import Job
from gateway.store.base import Page, Repeated, recalled
from gateway.store.books import Balance, Total, days_between
from gateway.store.saved_jobs import SavedJobs
from gateway.store.sqlite.books import ACCOUNT, ENTRY

SIGNAL_SECONDS = 60.0
MOST_LISTED = 100

_CURSOR = msgspec.json.Decoder(tuple[float, str])
_MILESTONE = msgspec.json.Decoder(Milestone)

_KEY = "SELECT fingerprint, job FROM keys WHERE team = ? AND key = ? AND expires > ?"
_LOAD = "SELECT blob FROM jobs WHERE id = ?"
_DOCUMENTS = "SELECT name, content FROM documents WHERE job = ? AND name IN (SELECT value FROM json_each(?))"
_NEWEST = "SELECT created, id, blob FROM jobs WHERE team = ? ORDER BY created DESC, id DESC LIMIT ?"
_OLDER = """SELECT created, id, blob FROM jobs WHERE team = ? AND (created, id) < (?, ?)
ORDER BY created DESC, id DESC LIMIT ?"""
_MILESTONES = "SELECT entry FROM milestones WHERE job = ? AND number > ? ORDER BY number"
_BUDGET = """SELECT window, held, spent FROM budgets
WHERE team = ? AND window IN (SELECT value FROM json_each(?))"""
_LEDGER = "SELECT entry FROM ledger WHERE day = ? AND (?2 IS NULL OR team = ?2) ORDER BY number"
_TOTALS = """SELECT day, account, amount, images FROM totals
WHERE day BETWEEN ? AND ? AND (?3 IS NULL OR team = ?3)"""
_SHARED = "SELECT name, value FROM signals WHERE at > ?"


class Jobs(SavedJobs):
    """Saved jobs, from their table."""

    def load(self, db: Connection, name: str) -> Job | None:
        row = db.execute(_LOAD, (name,)).fetchone()
        return None if row is None else self.read(name, row[0])

    def list(self, db: Connection, team: str, limit: int, after: tuple[float, str] | None) -> Page:
        most = max(1, min(MOST_LISTED, limit))
        if after is None:
            rows = db.execute(_NEWEST, (team, most + 1)).fetchall()
        else:
            rows = db.execute(_OLDER, (team, *after, most + 1)).fetchall()
        shown = rows[:most]
        jobs = (self.try_to_read(name, blob) for _, name, blob in shown)
        return Page(tuple(job for job in jobs if job), cursor(*shown[-1][:2]) if len(rows) > most else None)


def cursor(created: float, job: str) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((created, job))).decode().rstrip("=")


def place(cursor: str) -> tuple[float, str]:
    """Where a page ended. ValueError if this is no cursor of ours."""
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True)
        return _CURSOR.decode(text)
    except (binascii.Error, msgspec.MsgspecError, UnicodeError) as error:
        raise ValueError("this is no cursor") from error


def recall(db: Connection, team: str, record: IdempotencyRecord, now: float) -> Repeated | None:
    """Of a caller's key."""
    found = db.execute(_KEY, (team, record.key, now)).fetchone()
    return None if found is None else recalled(record, *found)


def documents(db: Connection, job: str, names: tuple[str, ...]) -> Mapping[str, bytes]:
    return dict(db.execute(_DOCUMENTS, (job, msgspec.json.encode(names).decode())).fetchall())


def milestones(db: Connection, job: str, after: int) -> tuple[Milestone, ...]:
    return tuple(_MILESTONE.decode(entry) for (entry,) in db.execute(_MILESTONES, (job, after)).fetchall())


def budget(db: Connection, team: str, windows: tuple[str, ...]) -> Mapping[str, Balance]:
    """A window in which nothing has happened is there with nothing in it."""
    rows = db.execute(_BUDGET, (team, msgspec.json.encode(windows).decode())).fetchall()
    found = {window: Balance(held=held, spent=spent) for window, held, spent in rows}
    return {window: found.get(window, Balance()) for window in windows}


def ledger(db: Connection, day: str, team: str | None) -> tuple[LedgerEntry, ...]:
    return tuple(ENTRY.decode(entry) for (entry,) in db.execute(_LEDGER, (day, team)).fetchall())


def usage(db: Connection, first: str, last: str, team: str | None) -> tuple[Total, ...]:
    days_between(first, last)
    totals = (
        Total(day=day, account=ACCOUNT.decode(account), amount=amount, images=images)
        for day, account, amount, images in db.execute(_TOTALS, (first, last, team)).fetchall()
    )
    return tuple(sorted(totals, key=lambda total: (total.day, total.account)))


def shared(db: Connection, now: float) -> Mapping[str, bytes]:
    return dict(db.execute(_SHARED, (now - SIGNAL_SECONDS,)).fetchall())
