"""The record of each webhook: its event, its target, and its attempts. The team's list of them is the delivery log."""

import hashlib
from base64 import b32encode
from collections.abc import Sequence
from enum import StrEnum

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from gateway.store.team_records import RecordContent, RecordKind, TeamRecord, encode_record

# Each delay differs by up to this share, so that the webhooks of an outage do not all return at once.
JITTER = 0.2
MAX_RETRY_AFTER_SECONDS = 86_400.0
# Of a delivery that is requested again and again, the last attempts are kept.
MAX_ATTEMPTS_KEPT = 30
DELIVERY_PREFIX = "delivery_"
TEST_EVENT = "webhook.test"
_ID_LENGTH, _ID_BYTES = 28, 18


class DeliveryStatus(StrEnum):
    """`pending` until a target has accepted the webhook, or it is given up."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class WebhookOutcome(StrEnum):
    """What became of one attempt."""

    DELIVERED = "delivered"
    REFUSED = "refused"
    REDIRECTED = "redirected"
    GONE = "gone"
    TIMEOUT = "timeout"
    NAME_NOT_FOUND = "name_not_found"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    CONNECTION_LOST = "connection_lost"
    ADDRESS_BLOCKED = "address_blocked"
    GATEWAY_BUSY = "gateway_busy"
    NO_SECRET = "no_secret"  # noqa: S105 - not a secret
    JOB_DELETED = "job_deleted"
    TARGET_REMOVED = "target_removed"


# After these, another attempt is useless. All others may have a temporary reason.
FINAL_OUTCOMES = {WebhookOutcome.GONE, WebhookOutcome.JOB_DELETED, WebhookOutcome.TARGET_REMOVED}
# These are reasons of the gateway, not of the target.
OWN_OUTCOMES = {
    *(WebhookOutcome.GATEWAY_BUSY, WebhookOutcome.NO_SECRET, WebhookOutcome.JOB_DELETED),
    WebhookOutcome.TARGET_REMOVED,
}


class WebhookAttempt(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt: when it began, how long it took, and its outcome. `status`: of the response, if there was one."""

    at: float
    seconds: float
    outcome: WebhookOutcome
    status: int | None = None
    retry_after: float = 0.0


class WebhookRecord(RecordContent, frozen=True, kw_only=True, omit_defaults=True):
    """A webhook to one target. The record has no content of the job, and the URL only of a test.

    `created_at`: of the event. `target`: its name in the configuration; empty for the URL that the job, or the test,
    names itself. `host`: of that URL. `tries`: since the delivery was created or requested again. `due_at`: of the next
    attempt, while it is pending. `data`: of an event that is not of a job.
    """

    event: str
    job: str = ""
    target: str = ""
    host: str = ""
    url: str = ""
    status: DeliveryStatus = DeliveryStatus.PENDING
    attempts: tuple[WebhookAttempt, ...] = ()
    tries: int = 0
    due_at: float = 0.0
    traceparent: str | None = None
    data: dict[str, object] | None = None

    @property
    def is_pending(self) -> bool:
        return self.status is DeliveryStatus.PENDING


_decoder = msgspec.msgpack.Decoder(WebhookRecord)


def decode_delivery(record: TeamRecord) -> WebhookRecord:
    return _decoder.decode(record.content)


def encode_delivery(record: WebhookRecord) -> TeamRecord:
    """Encodes the next version of the record, to be saved."""
    return encode_record(RecordKind.DELIVERY, record)


def make_delivery_id(event_id: str, target: str) -> str:
    """Makes the id of a webhook. It follows from its event and its target, so that all replicas make the same one."""
    digest = hashlib.blake2b(f"{event_id} {target}".encode(), digest_size=_ID_BYTES, person=b"igw.webhook").digest()
    return DELIVERY_PREFIX + b32encode(digest).decode().lower()[:_ID_LENGTH]


def add_attempt(
    record: WebhookRecord, attempt: WebhookAttempt, retry_delays: Sequence[float], now: float, draw: float
) -> WebhookRecord:
    """Adds an attempt, and decides what follows. `draw`: a random number from 0 to 1.

    A webhook that another attempt has delivered meanwhile stays delivered.
    """
    attempts, tries = (*record.attempts, attempt)[-MAX_ATTEMPTS_KEPT:], record.tries + 1
    status, due_at = DeliveryStatus.PENDING, 0.0
    if record.status is DeliveryStatus.DELIVERED or attempt.outcome is WebhookOutcome.DELIVERED:
        status = DeliveryStatus.DELIVERED
    elif attempt.outcome in FINAL_OUTCOMES or tries > len(retry_delays):
        status = DeliveryStatus.FAILED
    else:
        delay = retry_delays[tries - 1] * (1 - JITTER + 2 * JITTER * draw)
        due_at = now + max(delay, min(attempt.retry_after, MAX_RETRY_AFTER_SECONDS))
    return replace(record, attempts=attempts, tries=tries, status=status, due_at=due_at)


def request_again(record: WebhookRecord, now: float) -> WebhookRecord:
    """Returns the record with a whole schedule of attempts before it, beginning now. Its id stays the same."""
    return replace(record, status=DeliveryStatus.PENDING, tries=0, due_at=now)
