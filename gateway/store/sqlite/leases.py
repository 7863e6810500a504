"""Whose a job or a webhook is, and until when. Each function is one step of the writer's transaction."""

from collections.abc import Mapping
from sqlite3 import Connection

import msgspec
from msgspec import Struct

from gateway.jobs.commit import WebhookDelivery
from gateway.store.base import MAX_EARLY_CRASHES, RENEWALS_PER_LEASE, ClaimedDelivery, ClaimedJob, initial_lease_seconds
from gateway.store.sqlite.body_rows import remove_owner_callers
from gateway.store.sqlite.queries import JobQueries

_DELIVERY_DECODER = msgspec.json.Decoder(WebhookDelivery)

# Here and below, CROSS says what to begin with, and + what not to: all open jobs would be looked at otherwise.
_SELECT_CLAIMABLE = """SELECT jobs.number, jobs.id, owner, fence, rescues, longest, iif(claimed_at IS NULL, 0, lived), blob
FROM due CROSS JOIN jobs ON jobs.id = due.job WHERE due.at <= ? AND +settled IS NULL"""
_SELECT_DUE = f"{_SELECT_CLAIMABLE} AND rescues < ? ORDER BY due.at LIMIT ?"
_SELECT_SUSPECT = f"{_SELECT_CLAIMABLE} AND rescues >= ? ORDER BY due.at LIMIT 1"
_CLAIM_JOB = """UPDATE jobs SET fence = fence + 1, rescues = rescues + 1, owner = ?, claimed_at = ?, longest = ?
WHERE number = ?"""
_EXTEND_DUE = "UPDATE due SET at = ?, lived = 0 WHERE job = ?"
# One statement for all leases: nothing else of the process can come between and make them late.
_RENEW_LEASES = """INSERT INTO due (job, at, lived)
SELECT jobs.id, ?, round(? - jobs.claimed_at, 3) FROM json_each(?) AS lease CROSS JOIN jobs ON jobs.id = lease.key
WHERE jobs.fence = lease.value AND jobs.owner = ? AND +jobs.settled IS NULL
ON CONFLICT (job) DO UPDATE SET at = max(at, excluded.at), lived = excluded.lived RETURNING job"""
_RESET_RECLAIMS = """UPDATE jobs SET rescues = 0 WHERE id = ? AND rescues > 0
AND (longest = 0 OR (SELECT lived FROM due WHERE job = jobs.id) > 2 * (longest + ?))"""
# For jobs that are not suspects any more: they had longer leases.
_SHORTEN_LEASES = """UPDATE due SET at = ? WHERE at > ? AND job IN (SELECT value FROM json_each(?))
AND (SELECT rescues FROM jobs WHERE id = due.job) = 0"""
_RELEASE_JOB = """UPDATE jobs SET owner = NULL, rescues = max(0, rescues - 1), claimed_at = NULL
WHERE id = ? AND fence = ? AND owner = ? AND settled IS NULL"""
_UPSERT_DUE = "INSERT INTO due (job, at) VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET at = excluded.at"

_SELECT_DUE_DELIVERIES = "SELECT job, id, tries, entry FROM outbox WHERE at <= ? ORDER BY at LIMIT ?"
_LEASE_DELIVERY = "UPDATE outbox SET at = ?, tries = tries + 1 WHERE job = ? AND id = ?"
_DELETE_DELIVERY = "DELETE FROM outbox WHERE job = ? AND id = ?"
_RESCHEDULE_DELIVERY = "UPDATE outbox SET at = ? WHERE job = ? AND id = ?"

_UPSERT_SIGNAL = """INSERT INTO signals (name, value, at) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at"""


class SqliteLeaseManager(Struct, frozen=True):
    """In whose name jobs are claimed, and for how long."""

    replica_id: str
    lease: float
    decoder: JobQueries

    def claim_jobs(self, db: Connection, limit: int, now: float) -> tuple[ClaimedJob, ...]:
        """A job that cannot be read is put off, so that it keeps nobody from the others."""
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

    def release_job(self, db: Connection, job_id: str, fence: int, due_at: float) -> bool:
        if db.execute(_RELEASE_JOB, (job_id, fence, self.replica_id)).rowcount != 1:
            return False
        db.execute(_UPSERT_DUE, (job_id, due_at))
        return True


def claim_deliveries(db: Connection, limit: int, now: float, lease_ends_at: float) -> tuple[ClaimedDelivery, ...]:
    rows = db.execute(_SELECT_DUE_DELIVERIES, (now, limit)).fetchall()
    db.executemany(_LEASE_DELIVERY, [(lease_ends_at, job_id, delivery_id) for job_id, delivery_id, *_ in rows])
    return tuple(
        ClaimedDelivery(delivery=_DELIVERY_DECODER.decode(entry), attempts=attempts + 1) for *_, attempts, entry in rows
    )


def ack_delivery(db: Connection, delivery_id: str, job_id: str) -> None:
    db.execute(_DELETE_DELIVERY, (job_id, delivery_id))


def retry_delivery(db: Connection, delivery_id: str, job_id: str, due_at: float) -> None:
    """Only changes what still waits: what has arrived does not come back."""
    db.execute(_RESCHEDULE_DELIVERY, (due_at, job_id, delivery_id))


def publish_signal(db: Connection, name: str, value: bytes, now: float) -> None:
    db.execute(_UPSERT_SIGNAL, (name, value, now))
