"""Claims, acknowledges and retries webhooks. Each function is one step of the writer's transaction."""

from sqlite3 import Connection

import msgspec

from gateway.jobs.commit import WebhookDelivery
from gateway.store.base import ClaimedDelivery

_DELIVERY_DECODER = msgspec.json.Decoder(WebhookDelivery)

_SELECT_DUE = "SELECT job_id, delivery_id, attempts, entry FROM outbox WHERE due_at <= ? ORDER BY due_at LIMIT ?"
_LEASE_DELIVERY = "UPDATE outbox SET due_at = ?, attempts = attempts + 1 WHERE job_id = ? AND delivery_id = ?"
_DELETE_DELIVERY = "DELETE FROM outbox WHERE job_id = ? AND delivery_id = ?"
_RESCHEDULE_DELIVERY = "UPDATE outbox SET due_at = ? WHERE job_id = ? AND delivery_id = ?"


def claim_deliveries(db: Connection, limit: int, now: float, lease_ends_at: float) -> tuple[ClaimedDelivery, ...]:
    rows = db.execute(_SELECT_DUE, (now, limit)).fetchall()
    db.executemany(_LEASE_DELIVERY, [(lease_ends_at, job_id, delivery_id) for job_id, delivery_id, *_ in rows])
    return tuple(
        ClaimedDelivery(delivery=_DELIVERY_DECODER.decode(entry), attempts=attempts + 1) for *_, attempts, entry in rows
    )


def ack_delivery(db: Connection, delivery_id: str, job_id: str) -> None:
    db.execute(_DELETE_DELIVERY, (job_id, delivery_id))


def retry_delivery(db: Connection, delivery_id: str, job_id: str, due_at: float) -> None:
    """Schedules another attempt, unless the webhook was delivered meanwhile."""
    db.execute(_RESCHEDULE_DELIVERY, (due_at, job_id, delivery_id))
