"""The API of webhooks: lists a team's deliveries, requests one again, and sends a test."""

from typing import Any

from litestar import Response, get, post

from gateway.api.access_control import GENERATE, READ, READ_OR_ADMIN
from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_principal, get_team
from gateway.api.json_responses import json_response
from gateway.api.query_params import parse_limit, read_query_params
from gateway.api.request_body_reader import MAX_BODY_BYTES_WITHOUT_IMAGES, parse_json_object, read_body, to_struct
from gateway.api.team_job_loader import find_team_job
from gateway.api.webhooks.webhook_checks import require_signing_secret, require_valid_webhook
from gateway.api.webhooks.webhook_types import DeliveryBody, WebhookTestRequest
from gateway.config.value_types import WebhookUrl
from gateway.store.api_keys import Scope
from gateway.store.team_records import MAX_PAGE_RECORDS, RecordKind, RecordPosition
from gateway.suggestions import did_you_mean, end_sentence
from gateway.webhooks.webhook_records import (
    TEST_EVENT,
    DeliveryStatus,
    WebhookRecord,
    decode_delivery,
    encode_delivery,
    make_delivery_id,
    request_again,
)

DELIVERIES_PATH = "/v1/webhooks/deliveries"
_ONE_DELIVERY = f"{DELIVERIES_PATH}/{{delivery_id:str}}"
# How many pages of records are read for one page of results, if a filter drops most records.
MAX_SCANNED_PAGES = 10
# The webhooks of a job have the time of its end. A replica's clock may be a little ahead.
CLOCK_MARGIN_SECONDS = 60.0


@get(DELIVERIES_PATH, opt=READ)
async def list_deliveries(request: HttpRequest) -> Response[bytes]:
    """Lists the team's deliveries, the newest first. With filters, a page may have fewer than `limit` and still
    `has_more`: each page examines a limited number of deliveries."""
    context, team = get_context(request), get_team(request)
    params = read_query_params(request, "limit", "after", "job", "status")
    limit, status = parse_limit(params["limit"], MAX_PAGE_RECORDS), _parse_status(params["status"])
    job_id = params["job"][-1] if params["job"] else None
    position = await _find_start(context, team, params["after"], job_id)
    found: list[WebhookRecord] = []
    has_more = True
    for _ in range(MAX_SCANNED_PAGES):
        page = await context.store.team_records.list_records(RecordKind.DELIVERY, team, MAX_PAGE_RECORDS, position)
        records = [decode_delivery(stored) for stored in page]
        found += [record for record in records if job_id in (None, record.job) and status in (None, record.status)]
        has_more = len(page) == MAX_PAGE_RECORDS
        if not has_more or len(found) > limit:
            break
        position = page[-1].position
    data = [serialize_delivery(record) for record in found[:limit]]
    scanned_id = position.id if has_more and position and len(found) <= limit else None
    return json_response(
        {
            "object": "list",
            "data": data,
            "has_more": has_more or len(found) > limit,
            "first_id": data[0]["id"] if data else None,
            "last_id": scanned_id or (data[-1]["id"] if data else None),
        },
        200,
        {},
    )


def _parse_status(texts: list[str]) -> DeliveryStatus | None:
    if not texts:
        return None
    try:
        return DeliveryStatus(texts[-1])
    except ValueError:
        choices = ", ".join(DeliveryStatus)
        raise ApiError(
            400, "invalid_value", f"Invalid value for 'status': must be one of {choices}.", param="status"
        ) from None


async def _find_start(context: ApiContext, team: str, after: list[str], job_id: str | None) -> RecordPosition | None:
    """Returns the position behind which the page begins: of the last delivery of the page before, or of the end of the
    job, before which it has no webhooks."""
    if after:
        last = await _get_delivery(context, team, after[-1], is_listed=True)
        return RecordPosition(last.created_at, last.id)
    if job_id is not None and (job := await find_team_job(context, team, job_id)) and job.finished_at is not None:
        return RecordPosition(job.finished_at + CLOCK_MARGIN_SECONDS, "")
    return None


async def _get_delivery(
    context: ApiContext, team: str | None, delivery_id: str, *, is_listed: bool = False
) -> WebhookRecord:
    """Returns the delivery of the team, or of any team if it is None. Raises ApiError if it does not exist: 400 as the
    parameter of a list, else 404."""
    stored = await context.store.team_records.load(delivery_id)
    if stored is not None and stored.kind is RecordKind.DELIVERY and team in (None, stored.team):
        return decode_delivery(stored)
    if is_listed:
        message = "Invalid value for 'after': no such delivery; it may have been deleted. List again without it."
        raise ApiError(400, "invalid_value", message, param="after")
    message = "Delivery not found. It may have been deleted, or belong to another team: list yours."
    raise ApiError(404, "delivery_not_found", message)


@get(_ONE_DELIVERY, opt=READ_OR_ADMIN)
async def get_delivery(request: HttpRequest, delivery_id: str) -> Response[bytes]:
    """Returns the delivery with its attempts: of the team, or for an admin key of any team."""
    principal = get_principal(request)
    is_admin = Scope.READ not in principal.scopes
    record = await _get_delivery(get_context(request), None if is_admin else get_team(request), delivery_id)
    return json_response(serialize_delivery(record), 200, {})


@post(f"{_ONE_DELIVERY}/redeliver", status_code=202, opt=GENERATE)
async def redeliver(request: HttpRequest, delivery_id: str) -> Response[bytes]:
    """Sends the webhook again, with the same id and the whole schedule of attempts."""
    context, team = get_context(request), get_team(request)
    while True:
        record = await _get_delivery(context, team, delivery_id)
        require_signing_secret(context, team, target=record.target)
        again = request_again(record, context.wall_clock())
        if await context.store.team_records.save(encode_delivery(again), 0.0):
            return json_response(serialize_delivery(again), 202, {})


@post("/v1/webhooks/test", status_code=202, opt=GENERATE)
async def send_test_webhook(request: HttpRequest) -> Response[bytes]:
    """Sends a webhook of the type `webhook.test` to a target, or to a URL."""
    context, team = get_context(request), get_team(request)
    params = await _read_params(request)
    if params.target:
        return await queue_target_test(context, team, params.target)
    require_valid_webhook(params.webhook)
    require_signing_secret(context, team)
    return await _queue_test(context, team, url=params.webhook, host=WebhookUrl(params.webhook).host)


async def queue_target_test(context: ApiContext, team: str, name: str) -> Response[bytes]:
    """Queues a test of a target that is in force. Raises ApiError if it is not."""
    targets = context.catalogue().get_webhook_targets(team)
    if (target := targets.get(name)) is None:
        message = f"Invalid value for 'target': not a target of your team{did_you_mean(name, targets)}"
        raise ApiError(400, "invalid_value", end_sentence(message), param="target")
    require_signing_secret(context, team, target=name)
    return await _queue_test(context, team, target=name, host=target.config.url.host)


async def _queue_test(context: ApiContext, team: str, *, host: str, target: str = "", url: str = "") -> Response[bytes]:
    now, event_id = context.wall_clock(), context.engine.context.draw_bytes(16).hex()
    record = WebhookRecord(
        id=make_delivery_id(event_id, target),
        team=team,
        created_at=now,
        event=TEST_EVENT,
        target=target,
        host=host,
        url=url,
        due_at=now,
    )
    await context.store.team_records.save(encode_delivery(record), 0.0)
    return json_response(serialize_delivery(record), 202, {"location": f"{DELIVERIES_PATH}/{record.id}"})


async def _read_params(request: HttpRequest) -> WebhookTestRequest:
    headers = request.headers
    body = await read_body(request.stream(), headers.get("content-length"), MAX_BODY_BYTES_WITHOUT_IMAGES)
    fields = parse_json_object(body, headers.get("content-type", ""))
    params = to_struct({name: value for name, value in fields.items() if value is not None}, WebhookTestRequest)
    if bool(params.target) == bool(params.webhook):
        message = "Invalid value for 'target': send either 'target' or 'webhook'."
        raise ApiError(400, "invalid_value", message, param="target")
    return params


def serialize_delivery(record: WebhookRecord) -> DeliveryBody:
    return {
        "id": record.id,
        "object": "webhook.delivery",
        "event": record.event,
        "job": record.job or None,
        "target": record.target or None,
        "host": record.host,
        "created_at": int(record.created_at),
        "status": record.status,
        "next_attempt_at": int(record.due_at) if record.is_pending else None,
        "attempts": [
            {
                "at": round(attempt.at, 3),
                "seconds": round(attempt.seconds, 3),
                "outcome": attempt.outcome,
                "status": attempt.status,
            }
            for attempt in record.attempts
        ],
    }


WEBHOOK_HANDLERS: list[Any] = [list_deliveries, get_delivery, redeliver, send_test_webhook]
