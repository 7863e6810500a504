"""A commit as rows: whether it may be done, and everything that it changes. Runs inside the writer's transaction."""

from collections.abc import Callable
from sqlite3 import Connection
from typing import NamedTuple

import msgspec
from msgspec import Struct

from gateway.jobs.commit import Commit
from gateway.store.base import (
    FIRST_FENCE,
    REMEMBERED_OPS,
    Applied,
    Fenced,
    Outcome,
    OverBudget,
    Stale,
)
from gateway.store.books import added_up
from gateway.store.sqlite import reading
from gateway.store.sqlite.bodies import Body, add_entry, attach_caller, end_entry
from gateway.store.sqlite.books import JSON, add_totals, append, move_budgets

_OPS = msgspec.json.Decoder(list[str])

_FIND = """SELECT number, version, fence, owner, ops, settled, (SELECT at FROM due WHERE job = id)
FROM jobs WHERE id = ?"""
_INSERT = """INSERT INTO jobs (id, team, created, version, fence, owner, ops, settled, blob)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_UPDATE = """UPDATE jobs SET version = ?, rescues = 0, claimed_at = NULL, longest = 0, ops = ?, settled = ?, blob = ?
WHERE number = ?"""
_ACCEPTED = "DELETE FROM announced WHERE job = ?"
_PUT_DUE = "INSERT INTO due (job, at) VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET at = excluded.at"
_NOT_DUE = "DELETE FROM due WHERE job = ?"
_PUT_KEY = """INSERT INTO keys (team, key, fingerprint, job, expires) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (team, key) DO UPDATE
SET fingerprint = excluded.fingerprint, job = excluded.job, expires = excluded.expires"""
_LINGER = "UPDATE keys SET expires = ? WHERE team = ? AND key = ? AND job = ?"
_BALANCE = "SELECT held, spent FROM budgets WHERE window = ? AND team = ?"
_MILESTONE = "INSERT OR REPLACE INTO milestones (job, number, entry) VALUES (?, ?, ?)"
_WEBHOOK = "INSERT OR IGNORE INTO outbox (job, id, at, entry) VALUES (?, ?, ?, ?)"
_DOCUMENT = "INSERT OR IGNORE INTO documents (job, name, content) VALUES (?, ?, ?)"
_DROP = "DELETE FROM documents WHERE job = ? AND name = ?"


class _Found(NamedTuple):
    """What is there of the job already."""

    number: int
    version: int
    fence: int
    owner: str | None
    ops: str
    settled: float | None
    due: float | None

    def is_ruled_by(self, fence: int) -> bool:
        """Whoever has given the job away knows its last fence, and has no say any more."""
        return self.owner is not None and self.fence == fence


class Committing(Struct, frozen=True, kw_only=True):
    """How this store commits."""

    owner: str
    lease: float
    clock: Callable[[], float]

    def __call__(self, db: Connection, commit: Commit) -> Outcome:
        row = db.execute(_FIND, (commit.job.id,)).fetchone()
        found = _Found(*row) if row else None
        ops = _OPS.decode(found.ops) if found else []
        if commit.op in ops:
            return Applied()
        if (found.version if found else 0) != commit.expected:
            return Stale()
        if found and commit.fence is not None and not found.is_ruled_by(commit.fence):
            return Fenced()
        now = self.clock()
        if found is None and (refusal := _refused(db, commit, now)):
            return refusal
        self._write_job(db, commit, found, JSON.encode([*ops, commit.op][-REMEMBERED_OPS:]).decode())
        self._write_due(db, commit, found, now)
        _write_money(db, commit)
        _write_keys(db, commit, now)
        _write_beside(db, commit, now)
        return Applied()

    def _write_job(self, db: Connection, commit: Commit, found: _Found | None, ops: str) -> None:
        job = commit.job
        settled = None
        if job.is_settled:
            settled = found.settled if found and found.settled is not None else commit.at
        if found:
            db.execute(_UPDATE, (job.version, ops, settled, commit.blob, found.number))
            return
        db.execute(_ACCEPTED, (job.id,))
        row = (job.id, job.team, job.created, job.version, FIRST_FENCE, self.owner, ops, settled, commit.blob)
        db.execute(_INSERT, row)

    def _write_due(self, db: Connection, commit: Commit, found: _Found | None, now: float) -> None:
        """Whoever owns the job is trusted to look at it until the lease ends."""
        known = found.due if found else None
        if commit.job.is_settled:
            if known is not None:
                db.execute(_NOT_DUE, (commit.job.id,))
        elif found and found.owner is None:
            wait = 0.0 if commit.due is None else commit.due - commit.at
            db.execute(_PUT_DUE, (commit.job.id, now + wait))
        elif known is None:
            db.execute(_PUT_DUE, (commit.job.id, now + self.lease))


def _refused(db: Connection, commit: Commit, now: float) -> Outcome | None:
    """Why a new job is not accepted."""
    return _known(db, commit, now) or _over_budget(db, commit)


def _known(db: Connection, commit: Commit, now: float) -> Outcome | None:
    record, team = commit.idempotency, commit.job.team
    if record is None:
        return None
    if record.soft:
        return attach_caller(db, Body(team, record.key, now), record)
    return reading.recall(db, team, record, now)


def _over_budget(db: Connection, commit: Commit) -> Outcome | None:
    for move in commit.budget:
        if move.limit is None:
            continue
        held, spent = db.execute(_BALANCE, (move.window, commit.job.team)).fetchone() or (0, 0)
        if held + spent + move.hold > move.limit:
            return OverBudget(window=move.window, limit=move.limit, spent=spent, held=held)
    return None


def _write_money(db: Connection, commit: Commit) -> None:
    if commit.budget:
        move_budgets(db, ((move.window, commit.job.team, move.hold, move.spend) for move in commit.budget))
    if commit.ledger:
        append(db, commit.ledger)
        add_totals(db, added_up(commit.ledger).values())


def _write_keys(db: Connection, commit: Commit, now: float) -> None:
    job, record = commit.job, commit.idempotency
    if record and record.soft and commit.expected == 0:
        add_entry(db, Body(job.team, record.key, now), record, job.id)
    elif record and commit.expected == 0:
        db.execute(_PUT_KEY, (job.team, record.key, record.fingerprint, job.id, now + record.seconds))
    end_entry(db, commit, now)
    if commit.linger is not None and job.hard_key is not None:
        db.execute(_LINGER, (now + commit.linger, job.team, job.hard_key, job.id))


def _write_beside(db: Connection, commit: Commit, now: float) -> None:
    """What lies beside the job: a dropped document first, so that its name may be taken anew."""
    job = commit.job.id
    if commit.milestones:
        db.executemany(_MILESTONE, [(job, one.number, JSON.encode(one)) for one in commit.milestones])
    if commit.webhooks:
        db.executemany(_WEBHOOK, [(one.job, one.id, now, JSON.encode(one)) for one in commit.webhooks])
    if commit.dropped:
        db.executemany(_DROP, [(job, name) for name in commit.dropped])
    if commit.documents:
        db.executemany(_DOCUMENT, [(job, name, content) for name, content in commit.documents.items()])
