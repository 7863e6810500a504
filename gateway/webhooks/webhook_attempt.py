"""Makes one attempt: finds the webhook's URL, builds and signs its body, sends it, and names the outcome."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from gateway.catalogue import Catalogue
from gateway.config.schema import TeamConfig
from gateway.config.value_types import Secret
from gateway.events import EventSink
from gateway.jobs.document_names import WEBHOOK
from gateway.jobs.job import Job
from gateway.store.base import Store
from gateway.timeouts_and_intervals import WebhookTiming
from gateway.upstream.webhook_client import WebhookAnswer, WebhookClient, WebhookRequest
from gateway.webhooks.signature import build_signed_headers
from gateway.webhooks.webhook_body import build_body, build_thin_data
from gateway.webhooks.webhook_records import TEST_EVENT, WebhookAttempt, WebhookOutcome, WebhookRecord

TRACEPARENT = "traceparent"
GONE = 410
NO_WEBHOOKS = TeamConfig().webhooks


class WebhookContext(Struct, frozen=True, kw_only=True):
    """What sending webhooks needs. `refresh_targets`: loads the targets that admins added. `load_job_body`: returns the
    job as `GET /v1/jobs/{id}` does, or None if its content was deleted."""

    store: Store
    client: WebhookClient
    catalogue: Callable[[], Catalogue]
    emit: EventSink
    wall_clock: Callable[[], float]
    draw_random: Callable[[], float]
    timing: WebhookTiming
    refresh_targets: Callable[[], Awaitable[None]]
    load_job_body: Callable[[Job], Awaitable[Mapping[str, Any] | None]]


class _Destination(Struct, frozen=True):
    """The URL of a webhook, whether it may be private, what its body contains, and the secrets that sign it."""

    url: str
    is_private: bool
    payload: str
    secrets: tuple[Secret, ...]


async def make_attempt(context: WebhookContext, record: WebhookRecord) -> WebhookAttempt:
    began_at = context.wall_clock()
    answer = await _send(context, record)
    seconds = max(0.0, context.wall_clock() - began_at)
    if isinstance(answer, WebhookOutcome):
        return WebhookAttempt(at=began_at, seconds=seconds, outcome=answer)
    return WebhookAttempt(
        at=began_at,
        seconds=seconds,
        outcome=name_outcome(answer),
        status=answer.status,
        retry_after=answer.retry_after,
    )


async def _send(context: WebhookContext, record: WebhookRecord) -> WebhookAnswer | WebhookOutcome:
    """Sends the webhook. Returns the reason if there is nothing to send, or no place to send it to."""
    destination = await _find_destination(context, record)
    if isinstance(destination, WebhookOutcome):
        return destination
    if not destination.secrets:
        return WebhookOutcome.NO_SECRET
    body = await _render_body(context, record, destination.payload)
    headers = build_signed_headers(record.id, context.wall_clock(), body, destination.secrets)
    if record.traceparent is not None:
        headers[TRACEPARENT] = record.traceparent
    request = WebhookRequest(
        url=destination.url, is_private=destination.is_private, tenant=record.team, headers=headers, body=body
    )
    return await context.client.send(request, context.timing.request_timeout_seconds)


async def _find_destination(context: WebhookContext, record: WebhookRecord) -> _Destination | WebhookOutcome:
    if record.target:
        return await _find_target(context, record)
    catalogue = context.catalogue()
    team = catalogue.teams.get(record.team)
    payload, secrets = (team.webhooks if team else NO_WEBHOOKS).payload, catalogue.webhook_secrets.get(record.team, ())
    if record.url:
        return _Destination(record.url, False, payload, secrets)
    documents = await context.store.load_documents(record.job, WEBHOOK)
    url = documents.get(WEBHOOK)
    return _Destination(url.decode(), False, payload, secrets) if url else WebhookOutcome.JOB_DELETED


async def _find_target(context: WebhookContext, record: WebhookRecord) -> _Destination | WebhookOutcome:
    """Finds the target. Another replica may have added one that is unknown here, or changed one that is being tested, a
    moment ago."""
    if record.event == TEST_EVENT or record.target not in context.catalogue().get_webhook_targets(record.team):
        await context.refresh_targets()
    target = context.catalogue().get_webhook_targets(record.team).get(record.target)
    if target is None:
        return WebhookOutcome.TARGET_REMOVED
    return _Destination(target.config.url, target.config.private, target.config.payload, target.secrets)


async def _render_body(context: WebhookContext, record: WebhookRecord, payload: str) -> bytes:
    """Renders the body from the job as it is now. The body of a deleted job is thin."""
    if payload == "full" and record.job:
        job = await context.store.load_job(record.job)
        data = None if job is None or job.is_deleted else await context.load_job_body(job)
        if data is not None:
            return build_body(record, data)
    return build_body(record, build_thin_data(record))


def name_outcome(answer: WebhookAnswer) -> WebhookOutcome:
    """Names the outcome. Only a status of 2xx is a delivery."""
    if answer.status is None:
        return WebhookOutcome(answer.failure or WebhookOutcome.CONNECTION_LOST)
    if answer.status == GONE:
        return WebhookOutcome.GONE
    outcomes = {2: WebhookOutcome.DELIVERED, 3: WebhookOutcome.REDIRECTED}
    return outcomes.get(answer.status // 100, WebhookOutcome.REFUSED)
