"""Whose a job or a webhook is, and until when. Each function is one step of the writer's transaction."""

from collections.abc import Mapping
from sqlite3 import Connection

import msgspec
from msgspec import Struct

from gateway.jobs.commit import Delivery
from gateway.store.base import BEATS_PER_LEASE, EARLY_DEATHS, Claimed, Outgoing, lease_for
from gateway.store.sqlite.bodies import remove_callers_at
from gateway.store.sqlite.reading import Jobs

_DELIVERY = msgspec.json.Decoder(Delivery)

# Here and below, CROSS says what to begin with, and + what not to: all open jobs would be looked at otherwise.
_CLAIMABLE = """SELECT jobs.number, jobs.id, owner, fence, rescues, longest, iif(claimed_at IS NULL, 0, lived), blob
FROM due CROSS JOIN jobs ON jobs.id = due.job WHERE due.at <= ? AND +settled IS NULL"""
_DUE = f"{_CLAIMABLE} AND rescues < ? ORDER BY due.at LIMIT ?"
_SUSPECT = f"{_CLAIMABLE} AND rescues >= ? ORDER BY due.at LIMIT 1"
_TAKE = """UPDATE jobs SET fence = fence + 1, rescues = rescues + 1, owner = ?, claimed_at = ?, longest = ?
WHERE number = ?"""
_PUT_OFF = "UPDATE due SET at = ?, lived = 0 WHERE job = ?"
# One statement for all leases: nothing else of the process can come between and make them late.
_RENEW = """INSERT INTO due (job, at, lived)
SELECT jobs.id, ?, round(? - jobs.claimed_at, 3) FROM json_each(?) AS lease CROSS JOIN jobs ON jobs.id = lease.key
WHERE jobs.fence = lease.value AND jobs.owner = ? AND +jobs.settled IS NULL
ON CONFLICT (job) DO UPDATE SET at = max(at, excluded.at), lived = excluded.lived RETURNING job"""
_SURVIVED = """UPDATE jobs SET rescues = 0 WHERE id = ? AND rescues > 0
AND (longest = 0 OR (SELECT lived FROM due WHERE job = jobs.id) > 2 * (longest + ?))"""
# For jobs that are not suspects any more: they had longer leases.
_SHORTEN = """UPDATE due SET at = ? WHERE at > ? AND job IN (SELECT value FROM json_each(?))
AND (SELECT rescues FROM jobs WHERE id = due.job) = 0"""
_GIVE_AWAY = """UPDATE jobs SET owner = NULL, rescues = max(0, rescues - 1), claimed_at = NULL
WHERE id = ? AND fence = ? AND owner = ? AND settled IS NULL"""
_PUT_DUE = "INSERT INTO due (job, at) VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET at = excluded.at"

_WAITING = "SELECT job, id, tries, entry FROM outbox WHERE at <= ? ORDER BY at LIMIT ?"
_SENDING = "UPDATE outbox SET at = ?, tries = tries + 1 WHERE job = ? AND id = ?"
_SENT = "DELETE FROM outbox WHERE job = ? AND id = ?"
_LATER = "UPDATE outbox SET at = ? WHERE job = ? AND id = ?"

_TELL = """INSERT INTO signals (name, value, at) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET value = excluded.value, at = excluded.at"""


class Owning(Struct, frozen=True):
    """In whose name jobs are claimed, and for how long."""

    owner: str
    lease: float
    jobs: Jobs

    def claim(self, db: Connection, most: int, now: float) -> tuple[Claimed, ...]:
        """A job that cannot be read is put off, so that it keeps nobody from the others."""
        claimed = []
        rows = db.execute(_DUE, (now, EARLY_DEATHS, most)).fetchall()
        rows += db.execute(_SUSPECT, (now, EARLY_DEATHS)).fetchall()
        for number, name, owner, fence, rescues, longest, lived, blob in rows:
            db.execute(_PUT_OFF, (now + lease_for(rescues + 1, self.lease), name))
            if job := self.jobs.try_to_read(name, blob):
                if owner not in (None, self.owner):
                    remove_callers_at(db, owner, job, now)
                    longest = max(longest, lived or 0.0)
                db.execute(_TAKE, (self.owner, now, longest, number))
                claimed.append(Claimed(job=job, fence=fence + 1, rescues=rescues + 1, longest=longest))
        return tuple(claimed)

    def beat(self, db: Connection, leases: Mapping[str, int], now: float) -> frozenset[str]:
        asked, ends = msgspec.json.encode(dict(leases)).decode(), now + self.lease
        renewed = [job for (job,) in db.execute(_RENEW, (ends, now, asked, self.owner))]
        db.executemany(_SURVIVED, [(job, self.lease / BEATS_PER_LEASE) for job in renewed])
        db.execute(_SHORTEN, (ends, ends, msgspec.json.encode(renewed).decode()))
        return frozenset(leases.keys() - set(renewed))

    def snooze(self, db: Connection, job: str, fence: int, at: float) -> bool:
        if db.execute(_GIVE_AWAY, (job, fence, self.owner)).rowcount != 1:
            return False
        db.execute(_PUT_DUE, (job, at))
        return True


def claim_deliveries(db: Connection, most: int, now: float, until: float) -> tuple[Outgoing, ...]:
    rows = db.execute(_WAITING, (now, most)).fetchall()
    db.executemany(_SENDING, [(until, job, name) for job, name, *_ in rows])
    return tuple(Outgoing(delivery=_DELIVERY.decode(entry), tries=tries + 1) for *_, tries, entry in rows)


def delivered(db: Connection, delivery: str, job: str) -> None:
    db.execute(_SENT, (job, delivery))


def postpone(db: Connection, delivery: str, job: str, at: float) -> None:
    """Only changes what still waits: what has arrived does not come back."""
    db.execute(_LATER, (at, job, delivery))


def share(db: Connection, name: str, value: bytes, now: float) -> None:
    db.execute(_TELL, (name, value, now))
