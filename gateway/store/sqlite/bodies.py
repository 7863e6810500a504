"""The live jobs of each body, as rows. Each function is one step of the writer's transaction."""

from collections.abc import Iterator
from sqlite3 import Connection

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.jobs.job import Job
from gateway.store.base import Known
from gateway.store.bodies import (
    BodyEntry,
    Caller,
    add_caller,
    find_entry,
    find_superfluous,
    find_superfluous_refusal,
    follow_refusal,
    refuse_entry,
)

_CALLERS = msgspec.json.Decoder(tuple[Caller, ...])

# Longer than jobs run that callers of a closed process may have been told of.
CLOSED_SECONDS = 86_400.0

_ENTRIES = """SELECT number, job, callers, expects_first, has_ended, may_be_bought, is_refused FROM bodies
WHERE team = ? AND key = ? AND expires > ? ORDER BY number"""
_ALL = """SELECT team, key, number, job, callers, expects_first, has_ended, may_be_bought, is_refused
FROM bodies WHERE expires > ?"""
_NEXT = "SELECT coalesce(max(number), 0) + 1 FROM bodies WHERE team = ? AND key = ?"
_PUT = "INSERT INTO bodies (team, key, number, job, callers, expects_first, expires) VALUES (?, ?, ?, ?, ?, ?, ?)"
_CHANGE = """UPDATE bodies SET callers = ?, expects_first = ?, is_refused = ?
WHERE team = ? AND key = ? AND number = ?"""
_DROP = "DELETE FROM bodies WHERE team = ? AND key = ? AND number = ?"
_DROP_OLD = "DELETE FROM bodies WHERE team = ? AND key = ? AND expires <= ?"
_END = """UPDATE bodies SET expires = ?, has_ended = 1, may_be_bought = ?
WHERE team = ? AND key = ? AND job = ? AND expires > ?"""
_CLOSE = "INSERT INTO closed (owner, at) VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET at = excluded.at"
_REOPEN = "DELETE FROM closed WHERE owner = ?"
_FORGET_CLOSED = "DELETE FROM closed WHERE at <= ?"
_CLOSED = "SELECT owner FROM closed WHERE at > ?"


class Body(Struct, frozen=True):
    """One team's body, at one moment."""

    team: str
    key: str
    now: float


def attach_caller(db: Connection, body: Body, asked: IdempotencyRecord) -> Known | None:
    """The job that this request belongs to, which has it for a caller from now on."""
    entry = find_entry(_entries(db, body), asked)
    if entry is None or entry.is_refused:
        return None
    if not entry.has_caller(asked.caller):
        _change(db, body, add_caller(entry, asked))
    return Known(entry.job)


def add_entry(db: Connection, body: Body, asked: IdempotencyRecord, job: str) -> None:
    """For a request that belongs to no other job."""
    db.execute(_DROP_OLD, (body.team, body.key, body.now))
    entries = list(_entries(db, body))
    if refusal := find_entry(entries, asked):
        _replace(db, body, refusal, follow_refusal(refusal, asked))
    if superfluous := find_superfluous(entries):
        db.execute(_DROP, (body.team, body.key, superfluous.number))
    (number,) = db.execute(_NEXT, (body.team, body.key)).fetchone()
    row = (
        body.team,
        body.key,
        number,
        job,
        _json((Caller(asked.caller, asked.retry),)),
        asked.expects_first and refusal is None,
        body.now + asked.seconds,
    )
    db.execute(_PUT, row)


def end_entry(db: Connection, commit: Commit, now: float) -> None:
    """A job has ended: its entry outlives it for a while."""
    job = commit.job
    if commit.linger is None or job.soft_key is None:
        return
    db.execute(_END, (now + commit.linger, commit.may_be_bought, job.team, job.soft_key, job.id, now))
    if commit.is_refused:
        _refuse(db, Body(job.team, job.soft_key, now), job.id)


def _refuse(db: Connection, body: Body, job: str) -> None:
    for entry in _entries(db, body):
        if entry.job == job:
            _replace(db, body, entry, refuse_entry(entry))
    if superfluous := find_superfluous_refusal(_entries(db, body)):
        _replace(db, body, superfluous, None)


def remove_caller(db: Connection, body: Body, caller: str) -> None:
    for entry in _entries(db, body):
        _keep(db, body, entry, [one for one in entry.callers if one.name != caller])


def remove_callers_at(db: Connection, owner: str, job: Job, now: float) -> None:
    """Those that waited for a job in the process that owned it until now."""
    if job.soft_key is None:
        return
    body = Body(job.team, job.soft_key, now)
    for entry in _entries(db, body):
        if entry.job == job.id:
            _keep(db, body, entry, [one for one in entry.callers if not one.name.startswith(f"{owner}:")])


def remove_dead_callers(db: Connection, owner: str, now: float) -> None:
    """Takes off the callers of processes that were killed: no other process has the database, so these are all that did
    not close in good order. Whether a killed process had answered those of jobs that have ended is not known."""
    oldest = now - CLOSED_SECONDS
    db.execute(_REOPEN, (owner,))
    db.execute(_FORGET_CLOSED, (oldest,))
    spared = {owner, *(closed for (closed,) in db.execute(_CLOSED, (oldest,)))}
    for team, key, *row in db.execute(_ALL, (now,)).fetchall():
        entry = _entry(*row)
        kept = [caller for caller in entry.callers if caller.name.rpartition(":")[0] in spared]
        _keep(db, Body(team, key, now), entry, kept)


def mark_closed(db: Connection, owner: str, now: float) -> None:
    """This process closes in good order: its callers were answered, or are taken off."""
    db.execute(_CLOSE, (owner, now))


def _keep(db: Connection, body: Body, entry: BodyEntry, callers: list[Caller]) -> None:
    """A refusal keeps its callers: that their first requests have come stays true."""
    if len(callers) < len(entry.callers) and not entry.is_refused:
        _change(db, body, replace(entry, callers=tuple(callers)))


def _replace(db: Connection, body: Body, entry: BodyEntry, changed: BodyEntry | None) -> None:
    if changed is None:
        db.execute(_DROP, (body.team, body.key, entry.number))
    else:
        _change(db, body, changed)


def _entries(db: Connection, body: Body) -> Iterator[BodyEntry]:
    for row in db.execute(_ENTRIES, (body.team, body.key, body.now)).fetchall():
        yield _entry(*row)


def _entry(number: int, job: str, callers: str, *flags: int) -> BodyEntry:
    return BodyEntry(number, job, _CALLERS.decode(callers), *map(bool, flags))


def _change(db: Connection, body: Body, entry: BodyEntry) -> None:
    flags = entry.expects_first, entry.is_refused
    db.execute(_CHANGE, (_json(entry.callers), *flags, body.team, body.key, entry.number))


def _json(callers: tuple[Caller, ...]) -> str:
    return msgspec.json.encode(callers).decode()
