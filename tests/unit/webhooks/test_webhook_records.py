"""The schedule of a webhook's attempts, and its ids."""

import re

import pytest
from msgspec.structs import replace

from gateway.store.team_records import is_record_id
from gateway.timeouts_and_intervals import WebhookTiming
from gateway.upstream.webhook_client import WebhookAnswer
from gateway.webhooks.webhook_attempt import name_outcome
from gateway.webhooks.webhook_records import (
    MAX_ATTEMPTS_KEPT,
    DeliveryStatus,
    WebhookAttempt,
    WebhookOutcome,
    WebhookRecord,
    add_attempt,
    make_delivery_id,
    request_again,
)

MINUTE, HOUR = 60.0, 3_600.0
DELAYS = WebhookTiming().retry_delays_seconds
RECORD = WebhookRecord(id=make_delivery_id("job_1-completed", ""), team="acme", created_at=1.0, event="job.completed")
REFUSED = WebhookAttempt(at=1.0, seconds=0.1, outcome=WebhookOutcome.REFUSED, status=500)
DELIVERED = WebhookAttempt(at=2.0, seconds=0.1, outcome=WebhookOutcome.DELIVERED, status=204)


@pytest.mark.parametrize(("draw", "factor"), [(0.0, 0.8), (0.5, 1.0), (1.0, 1.2)])
def test_delays_are_those_of_the_schedule_with_jitter(draw: float, factor: float) -> None:
    record, delays = RECORD, []
    while record.is_pending:
        record = add_attempt(record, REFUSED, DELAYS, 100.0, draw)
        delays.append(record.due_at - 100.0)
    planned = [5.0, MINUTE, 5 * MINUTE, 30 * MINUTE, 2 * HOUR, 5 * HOUR, 10 * HOUR, 20 * HOUR, 24 * HOUR]
    assert delays[:-1] == pytest.approx([delay * factor for delay in planned])
    assert (record.status, record.tries, len(record.attempts)) == (DeliveryStatus.FAILED, 10, 10)


def test_retry_after_postpones_by_a_day_at_most() -> None:
    for seconds, expected in ((0.0, 5.0), (3.0, 5.0), (600.0, 600.0), (1e9, 24 * HOUR)):
        changed = add_attempt(RECORD, replace(REFUSED, retry_after=seconds), DELAYS, 0.0, 0.5)
        assert changed.due_at == pytest.approx(expected)


def test_delivered_webhook_stays_delivered() -> None:
    """Two replicas sent it, and the one that failed is recorded later."""
    delivered = add_attempt(RECORD, DELIVERED, DELAYS, 0.0, 0.5)
    later = add_attempt(delivered, REFUSED, DELAYS, 0.0, 0.5)
    assert (delivered.status, later.status) == (DeliveryStatus.DELIVERED, DeliveryStatus.DELIVERED)
    assert [attempt.outcome for attempt in later.attempts] == [WebhookOutcome.DELIVERED, WebhookOutcome.REFUSED]


def test_requested_again_it_has_the_whole_schedule_and_a_limited_log() -> None:
    record = RECORD
    for _ in range(5):
        record = request_again(record, 0.0)
        while record.is_pending:
            record = add_attempt(record, REFUSED, DELAYS, 0.0, 0.5)
    assert record.id == RECORD.id
    assert len(record.attempts) == MAX_ATTEMPTS_KEPT


def test_id_follows_from_event_and_target() -> None:
    ids = {make_delivery_id(event, target) for event in ("job_1-failed", "job_2-failed") for target in ("", "a", "b")}
    assert len(ids) == 6
    assert make_delivery_id("job_1-failed", "a") in ids
    for delivery_id in ids:
        assert is_record_id(delivery_id)
        assert re.fullmatch(r"delivery_[a-z2-7]{28}", delivery_id), "Standard Webhooks allows no dot in an id"


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        *((WebhookAnswer(status=status), WebhookOutcome.DELIVERED) for status in (200, 202, 204, 299)),
        *((WebhookAnswer(status=status), WebhookOutcome.REDIRECTED) for status in (301, 302, 304, 308)),
        *((WebhookAnswer(status=status), WebhookOutcome.REFUSED) for status in (101, 400, 404, 429, 500, 503)),
        (WebhookAnswer(status=410), WebhookOutcome.GONE),
        (WebhookAnswer(failure="timeout"), WebhookOutcome.TIMEOUT),
        (WebhookAnswer(failure="tls_failed"), WebhookOutcome.TLS_FAILED),
    ],
)
def test_only_2xx_is_a_delivery(answer: WebhookAnswer, outcome: WebhookOutcome) -> None:
    assert name_outcome(answer) is outcome
