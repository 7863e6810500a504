"""Claims, renews and releases jobs. Each function is one step of the writer's transaction."""

from collections.abc import Mapping
from sqlite3 import Connection

import msgspec
from msgspec import Struct

from gateway.store.base import MAX_EARLY_CRASHES, RENEWALS_PER_LEASE, ClaimedJob, initial_lease_seconds
from gateway.store.sqlite.due_time_rows import set_due
from gateway.store.sqlite.read_queries import JobQueries
from gateway.store.sqlite.repeated_request_rows import remove_owner_callers

# CROSS makes SQLite start with the left table, and + excludes an index. Otherwise SQLite would scan all open jobs.
_SELECT_CLAIMABLE = """SELECT jobs.number, jobs.id, owner, fence, reclaims, max_owned_seconds,
iif(claimed_at IS NULL, 0, owned_seconds), encoded_job
FROM due CROSS JOIN jobs ON jobs.id = due.job_id WHERE due.due_at <= ? AND +settled_at IS NULL"""
_SELECT_DUE = f"{_SELECT_CLAIMABLE} AND reclaims < ? ORDER BY due.due_at LIMIT ?"
_SELECT_SUSPECT = f"{_SELECT_CLAIMABLE} AND reclaims >= ? ORDER BY due.due_at LIMIT 1"
_CLAIM_JOB = """UPDATE jobs SET fence = fence + 1, reclaims = reclaims + 1, owner = ?, claimed_at = ?,
max_owned_seconds = ? WHERE number = ?"""
_EXTEND_DUE = "UPDATE due SET due_at = ?, owned_seconds = 0 WHERE job_id = ?"
# One statement for all leases, so that no other call of this process delays some of them.
_RENEW_LEASES = """INSERT INTO due (job_id, due_at, owned_seconds)
SELECT jobs.id, ?, round(? - jobs.claimed_at, 3) FROM json_each(?) AS lease CROSS JOIN jobs ON jobs.id = lease.key
WHERE jobs.fence = lease.value AND jobs.owner = ? AND +jobs.settled_at IS NULL
ON CONFLICT (job_id) DO UPDATE SET due_at = max(due_at, excluded.due_at), owned_seconds = excluded.owned_seconds
RETURNING job_id"""
_RESET_RECLAIMS = """UPDATE jobs SET reclaims = 0 WHERE id = ? AND reclaims > 0 AND (max_owned_seconds = 0
OR (SELECT owned_seconds FROM due WHERE job_id = jobs.id) > 2 * (max_owned_seconds + ?))"""
# For jobs that are no longer suspects: the leases of suspects are longer.
_SHORTEN_LEASES = """UPDATE due SET due_at = ? WHERE due_at > ? AND job_id IN (SELECT value FROM json_each(?))
AND (SELECT reclaims FROM jobs WHERE id = due.job_id) = 0"""
_RELEASE_JOB = """UPDATE jobs SET owner = NULL, reclaims = max(0, reclaims - 1), claimed_at = NULL
WHERE id = ? AND fence = ? AND owner = ? AND settled_at IS NULL"""
# Suspects keep their longer leases.
_EXPIRE_OTHER_LEASES = """UPDATE due SET due_at = ? WHERE due_at > ? AND job_id IN
(SELECT id FROM jobs WHERE settled_at IS NULL AND owner != ? AND reclaims < ?)"""


class SqliteLeaseManager(Struct, frozen=True):
    """Claims, renews and releases jobs for one replica."""

    replica_id: str
    lease: float
    decoder: JobQueries

    def claim_jobs(self, db: Connection, limit: int, now: float) -> tuple[ClaimedJob, ...]:
        """Claims due jobs. A job that cannot be read becomes due again after the time of a lease, so that it does not
        block the others."""
        claimed = []
        rows = db.execute(_SELECT_DUE, (now, MAX_EARLY_CRASHES, limit)).fetchall()
        rows += db.execute(_SELECT_SUSPECT, (now, MAX_EARLY_CRASHES)).fetchall()
        for number, job_id, owner, fence, reclaims, max_owned_seconds, owned_seconds, encoded_job in rows:
            db.execute(_EXTEND_DUE, (now + initial_lease_seconds(reclaims + 1, self.lease), job_id))
            if job := self.decoder.try_decode(job_id, encoded_job):
                if owner not in (None, self.replica_id):
                    remove_owner_callers(db, owner, job, now)
                    max_owned_seconds = max(max_owned_seconds, owned_seconds or 0.0)
                db.execute(_CLAIM_JOB, (self.replica_id, now, max_owned_seconds, number))
                claimed.append(
                    ClaimedJob(job=job, fence=fence + 1, reclaims=reclaims + 1, max_owned_seconds=max_owned_seconds)
                )
        return tuple(claimed)

    def renew_leases(self, db: Connection, leases: Mapping[str, int], now: float) -> frozenset[str]:
        leases_json, lease_ends_at = msgspec.json.encode(dict(leases)).decode(), now + self.lease
        renewed = [
            job_id for (job_id,) in db.execute(_RENEW_LEASES, (lease_ends_at, now, leases_json, self.replica_id))
        ]
        db.executemany(_RESET_RECLAIMS, [(job_id, self.lease / RENEWALS_PER_LEASE) for job_id in renewed])
        db.execute(_SHORTEN_LEASES, (lease_ends_at, lease_ends_at, msgspec.json.encode(renewed).decode()))
        return frozenset(leases.keys() - set(renewed))

    def expire_other_leases(self, db: Connection, now: float) -> int:
        """Ends the leases of all other processes, except those of suspects. Returns how many ended."""
        return db.execute(_EXPIRE_OTHER_LEASES, (now, now, self.replica_id, MAX_EARLY_CRASHES)).rowcount

    def release_job(self, db: Connection, job_id: str, fence: int, due_at: float) -> bool:
        if db.execute(_RELEASE_JOB, (job_id, fence, self.replica_id)).rowcount != 1:
            return False
        set_due(db, job_id, due_at)
        return True
