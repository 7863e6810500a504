"""The live jobs of each body, as rows. Each function is one step of the writer's transaction."""

from collections.abc import Iterator
from sqlite3 import Connection

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.jobs.job import Job
from gateway.store.base import Known
from gateway.store.bodies import BodyEntry, Caller, add_caller, find_entry, find_superfluous

_CALLERS = msgspec.json.Decoder(tuple[Caller, ...])

_ENTRIES = """SELECT number, job, callers, expects_first, has_ended, may_be_bought FROM bodies
WHERE team = ? AND key = ? AND expires > ? ORDER BY number"""
_OWNED_ELSEWHERE = """SELECT bodies.team, key, bodies.number, job, callers, expects_first, has_ended, may_be_bought
FROM bodies JOIN jobs ON jobs.id = bodies.job WHERE expires > ? AND has_ended = 0 AND owner <> ?"""
_NEXT = "SELECT coalesce(max(number), 0) + 1 FROM bodies WHERE team = ? AND key = ?"
_PUT = "INSERT INTO bodies (team, key, number, job, callers, expects_first, expires) VALUES (?, ?, ?, ?, ?, ?, ?)"
_CHANGE = "UPDATE bodies SET callers = ?, expects_first = ? WHERE team = ? AND key = ? AND number = ?"
_DROP = "DELETE FROM bodies WHERE team = ? AND key = ? AND number = ?"
_DROP_OLD = "DELETE FROM bodies WHERE team = ? AND key = ? AND expires <= ?"
_END = """UPDATE bodies SET expires = ?, has_ended = 1, may_be_bought = ?
WHERE team = ? AND key = ? AND job = ? AND expires > ?"""


class Body(Struct, frozen=True):
    """One team's body, at one moment."""

    team: str
    key: str
    now: float


def attach_caller(db: Connection, body: Body, asked: IdempotencyRecord) -> Known | None:
    """The job that this request belongs to, which has it for a caller from now on."""
    entry = find_entry(_entries(db, body), asked)
    if entry is None:
        return None
    if not entry.has_caller(asked.caller):
        _change(db, body, add_caller(entry, asked))
    return Known(entry.job)


def add_entry(db: Connection, body: Body, asked: IdempotencyRecord, job: str) -> None:
    db.execute(_DROP_OLD, (body.team, body.key, body.now))
    if superfluous := find_superfluous(_entries(db, body)):
        db.execute(_DROP, (body.team, body.key, superfluous.number))
    (number,) = db.execute(_NEXT, (body.team, body.key)).fetchone()
    row = (
        body.team,
        body.key,
        number,
        job,
        _json((Caller(asked.caller, asked.retry),)),
        asked.attach,
        body.now + asked.seconds,
    )
    db.execute(_PUT, row)


def end_entry(db: Connection, commit: Commit, now: float) -> None:
    """A job has ended: its entry outlives it for a while."""
    job = commit.job
    if commit.linger is not None and job.soft_key is not None:
        db.execute(_END, (now + commit.linger, commit.may_be_bought, job.team, job.soft_key, job.id, now))


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


def remove_callers_elsewhere(db: Connection, owner: str, now: float) -> None:
    """Nobody else has the database, so whoever waited in another process lost his connection when that was killed.

    One that closed in good order has given its jobs away: who still is a caller of those was answered.
    """
    for team, key, *row in db.execute(_OWNED_ELSEWHERE, (now, owner)).fetchall():
        entry = _entry(*row)
        kept = [one for one in entry.callers if one.name.startswith(f"{owner}:")]
        _keep(db, Body(team, key, now), entry, kept)


def _keep(db: Connection, body: Body, entry: BodyEntry, callers: list[Caller]) -> None:
    if len(callers) < len(entry.callers):
        _change(db, body, replace(entry, callers=tuple(callers)))


def _entries(db: Connection, body: Body) -> Iterator[BodyEntry]:
    for row in db.execute(_ENTRIES, (body.team, body.key, body.now)).fetchall():
        yield _entry(*row)


def _entry(number: int, job: str, callers: str, *flags: int) -> BodyEntry:
    return BodyEntry(number, job, _CALLERS.decode(callers), *map(bool, flags))


def _change(db: Connection, body: Body, entry: BodyEntry) -> None:
    db.execute(_CHANGE, (_json(entry.callers), entry.expects_first, body.team, body.key, entry.number))


def _json(callers: tuple[Caller, ...]) -> str:
    return msgspec.json.encode(callers).decode()
