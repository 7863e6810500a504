"""Stores the live jobs of each request body as rows. Each function is one step of the writer's transaction."""

from collections.abc import Sequence
from sqlite3 import Connection

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.jobs.commit import Commit, IdempotencyRecord
from gateway.jobs.job import Job
from gateway.store.base import CLOSED_MARK_TTL_SECONDS, DuplicateRequest
from gateway.store.repeated_request_matching import (
    BodyEntry,
    JobCaller,
    add_caller,
    find_entry,
    find_entry_to_evict,
    find_superfluous_refusal,
    make_refusal,
    remove_predecessor,
)

_CALLERS_DECODER = msgspec.json.Decoder(tuple[JobCaller, ...])

_ENTRY_COLUMNS = "number, job_id, callers, awaits_first_request, has_ended, may_be_charged, is_refused"
_SELECT_ENTRIES = f"""SELECT {_ENTRY_COLUMNS} FROM body_entries
WHERE team = ? AND key = ? AND expires_at > ? ORDER BY number"""  # noqa: S608  the columns are constant
_SELECT_ALL_ENTRIES = f"SELECT team, key, {_ENTRY_COLUMNS} FROM body_entries WHERE expires_at > ?"  # noqa: S608
# Expired entries, which the cleanup deletes, keep their numbers until then.
_INSERT_ENTRY = """INSERT INTO body_entries (team, key, number, job_id, callers, awaits_first_request, expires_at)
SELECT ?1, ?2, coalesce(max(number), 0) + 1, ?3, ?4, ?5, ?6 FROM body_entries WHERE team = ?1 AND key = ?2"""
_UPDATE_ENTRY = """UPDATE body_entries SET callers = ?, awaits_first_request = ?, is_refused = ?
WHERE team = ? AND key = ? AND number = ?"""
_DELETE_ENTRY = "DELETE FROM body_entries WHERE team = ? AND key = ? AND number = ?"
_END_ENTRY = """UPDATE body_entries SET expires_at = ?, has_ended = 1, may_be_charged = ?
WHERE team = ? AND key = ? AND job_id = ? AND expires_at > ?"""
_MARK_CLOSED = """INSERT INTO closed_replicas (replica_id, closed_at) VALUES (?, ?)
ON CONFLICT (replica_id) DO UPDATE SET closed_at = excluded.closed_at"""
_DELETE_CLOSED_MARK = "DELETE FROM closed_replicas WHERE replica_id = ?"
_DELETE_OLD_CLOSED_MARKS = "DELETE FROM closed_replicas WHERE closed_at <= ?"
_SELECT_CLOSED_REPLICAS = "SELECT replica_id FROM closed_replicas WHERE closed_at > ?"


class BodyKey(Struct, frozen=True):
    """The key of one team's request body, and the current time."""

    team: str
    key: str
    now: float


def attach_caller(
    db: Connection, body: BodyKey, record: IdempotencyRecord, entries: Sequence[BodyEntry] | None = None
) -> DuplicateRequest | None:
    """Makes the request a caller of the job that it belongs to. Returns None if it needs a job of its own. `entries`:
    those of the body, if they are loaded already."""
    entry = find_entry(load_entries(db, body) if entries is None else entries, record)
    if entry is None or entry.is_refused:
        return None
    if not entry.has_caller(record.caller_id):
        _update_entry(db, body, add_caller(entry, record))
    return DuplicateRequest(entry.job_id)


def add_entry(
    db: Connection, body: BodyKey, record: IdempotencyRecord, job_id: str, entries: Sequence[BodyEntry]
) -> None:
    """Adds the new job of a request that belongs to no other job. `entries`: those of the body so far."""
    if refusal := find_entry(entries, record):
        _replace_entry(db, body, refusal, remove_predecessor(refusal, record))
    if evicted := find_entry_to_evict(entries):
        _delete_entry(db, body, evicted)
    row = (
        body.team,
        body.key,
        job_id,
        _encode_callers((JobCaller(record.caller_id, record.retry_count),)),
        record.awaits_first_request and refusal is None,
        body.now + record.ttl_seconds,
    )
    db.execute(_INSERT_ENTRY, row)


def end_entry(db: Connection, commit: Commit, now: float) -> None:
    """Records that the job has ended. The entry of the job is kept for a while."""
    job = commit.job
    if commit.idempotency_ttl is None or job.body_key is None:
        return
    db.execute(_END_ENTRY, (now + commit.idempotency_ttl, commit.may_be_charged, job.team, job.body_key, job.id, now))
    if commit.is_refused:
        _replace_entry_by_refusal(db, BodyKey(job.team, job.body_key, now), job.id)


def _replace_entry_by_refusal(db: Connection, body: BodyKey, job_id: str) -> None:
    for entry in load_entries(db, body):
        if entry.job_id == job_id:
            _replace_entry(db, body, entry, make_refusal(entry))
    if superfluous := find_superfluous_refusal(load_entries(db, body)):
        _delete_entry(db, body, superfluous)


def remove_caller(db: Connection, body: BodyKey, caller_id: str) -> None:
    for entry in load_entries(db, body):
        _keep_callers(db, body, entry, [caller for caller in entry.callers if caller.caller_id != caller_id])


def remove_owner_callers(db: Connection, owner: str, job: Job, now: float) -> None:
    """Removes the callers that waited for the job in the process of its former owner."""
    if job.body_key is None:
        return
    body = BodyKey(job.team, job.body_key, now)
    for entry in load_entries(db, body):
        if entry.job_id == job.id:
            _keep_callers(
                db, body, entry, [caller for caller in entry.callers if not caller.caller_id.startswith(f"{owner}:")]
            )


def remove_dead_callers(db: Connection, replica_id: str, now: float) -> None:
    """Removes the callers of processes that were killed. Also removes them from ended jobs, since it is unknown whether
    these callers got a response.

    Only one process uses the database, so every other process that left no closed mark was killed.
    """
    oldest_mark = now - CLOSED_MARK_TTL_SECONDS
    db.execute(_DELETE_CLOSED_MARK, (replica_id,))
    db.execute(_DELETE_OLD_CLOSED_MARKS, (oldest_mark,))
    closed_replicas = (closed_id for (closed_id,) in db.execute(_SELECT_CLOSED_REPLICAS, (oldest_mark,)))
    trusted_replicas = {replica_id, *closed_replicas}
    for team, key, *row in db.execute(_SELECT_ALL_ENTRIES, (now,)).fetchall():
        entry = _decode_entry(*row)
        callers = [caller for caller in entry.callers if caller.caller_id.rpartition(":")[0] in trusted_replicas]
        _keep_callers(db, BodyKey(team, key, now), entry, callers)


def mark_replica_closed(db: Connection, replica_id: str, now: float) -> None:
    """Records that this process closes normally: its callers got a response, or are removed."""
    db.execute(_MARK_CLOSED, (replica_id, now))


def _keep_callers(db: Connection, body: BodyKey, entry: BodyEntry, callers: list[JobCaller]) -> None:
    """Keeps only the given callers. A refusal keeps all, since it records that their first requests have arrived."""
    if len(callers) < len(entry.callers) and not entry.is_refused:
        _update_entry(db, body, replace(entry, callers=tuple(callers)))


def _replace_entry(db: Connection, body: BodyKey, entry: BodyEntry, replacement: BodyEntry | None) -> None:
    if replacement is None:
        _delete_entry(db, body, entry)
    else:
        _update_entry(db, body, replacement)


def _delete_entry(db: Connection, body: BodyKey, entry: BodyEntry) -> None:
    db.execute(_DELETE_ENTRY, (body.team, body.key, entry.number))


def load_entries(db: Connection, body: BodyKey) -> Sequence[BodyEntry]:
    """Loads the entries of a body that have not expired."""
    return [_decode_entry(*row) for row in db.execute(_SELECT_ENTRIES, (body.team, body.key, body.now)).fetchall()]


def _decode_entry(number: int, job_id: str, callers: str, *flags: int) -> BodyEntry:
    return BodyEntry(number, job_id, _CALLERS_DECODER.decode(callers), *map(bool, flags))


def _update_entry(db: Connection, body: BodyKey, entry: BodyEntry) -> None:
    flags = entry.awaits_first_request, entry.is_refused
    db.execute(_UPDATE_ENTRY, (_encode_callers(entry.callers), *flags, body.team, body.key, entry.number))


def _encode_callers(callers: tuple[JobCaller, ...]) -> str:
    return msgspec.json.encode(callers).decode()
