"""The live jobs of each body, as rows. Each function is one step of the writer's transaction."""

from collections.abc import Iterator
from sqlite3 import Connection

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.jobs.job import Job
from gateway.store.base import DuplicateRequest
from gateway.store.body_deduplication import (
    BodyEntry,
    JobCaller,
    add_caller,
    find_entry,
    find_entry_to_evict,
    find_superfluous_refusal,
    follow_refusal,
    refuse_entry,
)

_CALLERS_DECODER = msgspec.json.Decoder(tuple[JobCaller, ...])

# Longer than jobs run that callers of a closed process may have been told of.
CLOSED_SECONDS = 86_400.0

_SELECT_ENTRIES = """SELECT number, job, callers, expects_first, has_ended, may_be_bought, is_refused FROM bodies
WHERE team = ? AND key = ? AND expires > ? ORDER BY number"""
_ALL = """SELECT team, key, number, job, callers, expects_first, has_ended, may_be_bought, is_refused
FROM bodies WHERE expires > ?"""
_SELECT_NEXT_NUMBER = "SELECT coalesce(max(number), 0) + 1 FROM bodies WHERE team = ? AND key = ?"
_INSERT_ENTRY = (
    "INSERT INTO bodies (team, key, number, job, callers, expects_first, expires) VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_UPDATE_ENTRY = """UPDATE bodies SET callers = ?, expects_first = ?, is_refused = ?
WHERE team = ? AND key = ? AND number = ?"""
_DELETE_ENTRY = "DELETE FROM bodies WHERE team = ? AND key = ? AND number = ?"
_DELETE_EXPIRED = "DELETE FROM bodies WHERE team = ? AND key = ? AND expires <= ?"
_END_ENTRY = """UPDATE bodies SET expires = ?, has_ended = 1, may_be_bought = ?
WHERE team = ? AND key = ? AND job = ? AND expires > ?"""
_CLOSE = "INSERT INTO closed (owner, at) VALUES (?, ?) ON CONFLICT (owner) DO UPDATE SET at = excluded.at"
_REOPEN = "DELETE FROM closed WHERE owner = ?"
_FORGET_CLOSED = "DELETE FROM closed WHERE at <= ?"
_CLOSED = "SELECT owner FROM closed WHERE at > ?"


class BodyKey(Struct, frozen=True):
    """One team's body, at one moment."""

    team: str
    key: str
    now: float


def attach_caller(db: Connection, body: BodyKey, record: IdempotencyRecord) -> DuplicateRequest | None:
    """The job that this request belongs to, which has it for a caller from now on."""
    entry = find_entry(_load_entries(db, body), record)
    if entry is None or entry.is_refused:
        return None
    if not entry.has_caller(record.caller_id):
        _update_entry(db, body, add_caller(entry, record))
    return DuplicateRequest(entry.job_id)


def add_entry(db: Connection, body: BodyKey, record: IdempotencyRecord, job_id: str) -> None:
    """For a request that belongs to no other job."""
    db.execute(_DELETE_EXPIRED, (body.team, body.key, body.now))
    entries = list(_load_entries(db, body))
    if refusal := find_entry(entries, record):
        _replace(db, body, refusal, follow_refusal(refusal, record))
    if evicted := find_entry_to_evict(entries):
        db.execute(_DELETE_ENTRY, (body.team, body.key, evicted.number))
    (number,) = db.execute(_SELECT_NEXT_NUMBER, (body.team, body.key)).fetchone()
    row = (
        body.team,
        body.key,
        number,
        job_id,
        _encode_callers((JobCaller(record.caller_id, record.retry_count),)),
        record.expects_first and refusal is None,
        body.now + record.ttl_seconds,
    )
    db.execute(_INSERT_ENTRY, row)


def end_entry(db: Connection, commit: Commit, now: float) -> None:
    """A job has ended: its entry outlives it for a while."""
    job = commit.job
    if commit.idempotency_ttl is None or job.body_key is None:
        return
    db.execute(_END_ENTRY, (now + commit.idempotency_ttl, commit.may_be_charged, job.team, job.body_key, job.id, now))
    if commit.is_refused:
        _refuse(db, BodyKey(job.team, job.body_key, now), job.id)


def _refuse(db: Connection, body: BodyKey, job: str) -> None:
    for entry in _load_entries(db, body):
        if entry.job_id == job:
            _replace(db, body, entry, refuse_entry(entry))
    if superfluous := find_superfluous_refusal(_load_entries(db, body)):
        _replace(db, body, superfluous, None)


def remove_caller(db: Connection, body: BodyKey, caller_id: str) -> None:
    for entry in _load_entries(db, body):
        _update_callers(db, body, entry, [caller for caller in entry.callers if caller.caller_id != caller_id])


def remove_owner_callers(db: Connection, owner: str, job: Job, now: float) -> None:
    """Those that waited for a job in the process that owned it until now."""
    if job.body_key is None:
        return
    body = BodyKey(job.team, job.body_key, now)
    for entry in _load_entries(db, body):
        if entry.job_id == job.id:
            _update_callers(
                db, body, entry, [caller for caller in entry.callers if not caller.caller_id.startswith(f"{owner}:")]
            )


def remove_dead_callers(db: Connection, owner: str, now: float) -> None:
    """Takes off the callers of processes that were killed: no other process has the database, so these are all that did
    not close in good order. Whether a killed process had answered those of jobs that have ended is not known."""
    oldest = now - CLOSED_SECONDS
    db.execute(_REOPEN, (owner,))
    db.execute(_FORGET_CLOSED, (oldest,))
    spared = {owner, *(closed for (closed,) in db.execute(_CLOSED, (oldest,)))}
    for team, key, *row in db.execute(_ALL, (now,)).fetchall():
        entry = _decode_entry(*row)
        kept = [caller for caller in entry.callers if caller.caller_id.rpartition(":")[0] in spared]
        _update_callers(db, BodyKey(team, key, now), entry, kept)


def mark_closed(db: Connection, owner: str, now: float) -> None:
    """This process closes in good order: its callers were answered, or are taken off."""
    db.execute(_CLOSE, (owner, now))


def _update_callers(db: Connection, body: BodyKey, entry: BodyEntry, callers: list[JobCaller]) -> None:
    """A refusal keeps its callers: that their first requests have come stays true."""
    if len(callers) < len(entry.callers) and not entry.is_refused:
        _update_entry(db, body, replace(entry, callers=tuple(callers)))


def _replace(db: Connection, body: BodyKey, entry: BodyEntry, changed: BodyEntry | None) -> None:
    if changed is None:
        db.execute(_DELETE_ENTRY, (body.team, body.key, entry.number))
    else:
        _update_entry(db, body, changed)


def _load_entries(db: Connection, body: BodyKey) -> Iterator[BodyEntry]:
    for row in db.execute(_SELECT_ENTRIES, (body.team, body.key, body.now)).fetchall():
        yield _decode_entry(*row)


def _decode_entry(number: int, job_id: str, callers: str, *flags: int) -> BodyEntry:
    return BodyEntry(number, job_id, _CALLERS_DECODER.decode(callers), *map(bool, flags))


def _update_entry(db: Connection, body: BodyKey, entry: BodyEntry) -> None:
    flags = entry.awaits_first_request, entry.is_refused
    db.execute(_UPDATE_ENTRY, (_encode_callers(entry.callers), *flags, body.team, body.key, entry.number))


def _encode_callers(callers: tuple[JobCaller, ...]) -> str:
    return msgspec.json.encode(callers).decode()
