"""OpenAI's Batch API for images: create, list, get, cancel."""

from typing import Any

import msgspec
from litestar import Response, get, post

from gateway.api.access_control import GENERATE, READ
from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_principal, get_team
from gateway.api.batches.batch_records import (
    MAX_SHOWN_ERRORS,
    Batch,
    BatchError,
    BatchStatus,
    OutputFile,
    decode_batch,
)
from gateway.api.batches.batch_request_types import CreateBatchRequest
from gateway.api.batches.file_content import FileContent
from gateway.api.batches.file_library import extend_file, get_team_file
from gateway.api.batches.file_records import DEFAULT_TTL_SECONDS, INPUT_PURPOSE
from gateway.api.batches.record_listing import list_team_records
from gateway.api.batches.team_batch_loader import get_team_batch, iterate_open_batches
from gateway.api.json_responses import json_response
from gateway.api.request_body_reader import (
    MAX_BODY_BYTES_WITHOUT_IMAGES,
    parse_json_object,
    read_body,
    to_struct,
)
from gateway.api.routing_query_builder import parse_usd_param
from gateway.api.serializers import encode_usd
from gateway.store.base import DAY_SECONDS
from gateway.store.partitions import BATCH, FILE, new_resource_id
from gateway.store.team_records import RecordKind, TeamRecord, encode_record

BATCH_PREFIXES = ("/v1/batches", "/openai/v1/batches", "/batches")
_ONE_BATCH = [f"{prefix}/{{batch_id:str}}" for prefix in BATCH_PREFIXES]
OPEN_BATCH_RETRY_SECONDS = 60
_error_decoder = msgspec.json.Decoder(BatchError)


@post(list(BATCH_PREFIXES), status_code=200, opt=GENERATE)
async def create_batch(request: HttpRequest) -> Response[bytes]:
    """Creates a batch from an uploaded file. All lines are validated before anything is ordered."""
    context, team, principal = get_context(request), get_team(request), get_principal(request)
    params = await _read_params(request)
    if context.is_draining():
        raise ApiError(503, "draining", "This gateway is shutting down. Retry in 1 second.", retry_after=1)
    max_cost = _parse_max_cost(params)
    file = await get_team_file(context, team, params.input_file_id)
    if file.purpose != INPUT_PURPOSE:
        message = f"Invalid value for 'input_file_id': upload the file with the purpose {INPUT_PURPOSE}."
        raise ApiError(400, "invalid_value", message, param="input_file_id")
    await _require_room(context, team)
    now, retention = context.wall_clock(), context.catalogue().get_file_retention(team)
    output_ttl_seconds = params.output_expires_after.seconds if params.output_expires_after else DEFAULT_TTL_SECONDS
    batch = Batch(
        id=_make_id(context, BATCH, team),
        team=team,
        key_id=principal.key_id,
        policies=principal.policies,
        limits=principal.limits,
        limits_id=principal.limits_id,
        budget=principal.budget,
        created_at=now,
        expires_at=now + context.timing.api.batch_window_seconds,
        endpoint=params.endpoint,
        input_file_id=file.id,
        output=OutputFile(id=_make_id(context, FILE, team)),
        errors_output=OutputFile(id=_make_id(context, FILE, team)),
        metadata=params.metadata or {},
        max_cost=max_cost,
        input_ttl_seconds=min(DEFAULT_TTL_SECONDS, retention.prompt_seconds),
        output_ttl_seconds=min(output_ttl_seconds, retention.image_seconds),
    )
    await extend_file(context, file, batch.expires_at + DAY_SECONDS)
    await context.store.team_records.save(encode_record(RecordKind.BATCH, batch), 0.0)
    return json_response(serialize_batch(batch, batch.errors), 200, {})


def _make_id(context: ApiContext, kind: str, team: str) -> str:
    return new_resource_id(kind, team, context.engine.context.draw_bytes, context.wall_clock)


async def _read_params(request: HttpRequest) -> CreateBatchRequest:
    headers = request.headers
    body = await read_body(request.stream(), headers.get("content-length"), MAX_BODY_BYTES_WITHOUT_IMAGES)
    fields = parse_json_object(body, headers.get("content-type", ""))
    return to_struct({name: value for name, value in fields.items() if value is not None}, CreateBatchRequest)


def _parse_max_cost(params: CreateBatchRequest) -> int | None:
    """Returns the narrower of the maximum costs in the body and in its metadata."""
    in_body = parse_usd_param("max_cost", params.max_cost)
    in_metadata = parse_usd_param("metadata.max_cost", (params.metadata or {}).get("max_cost"))
    return min((amount for amount in (in_body, in_metadata) if amount is not None), default=None)


async def _require_room(context: ApiContext, team: str) -> None:
    limit = context.catalogue().gateway.batches.max_open
    open_count = len([batch async for batch in iterate_open_batches(context, team)])
    if open_count >= limit:
        message = f"Your team has {open_count} open batches, of at most {limit}. Wait until one ends, or cancel one."
        raise ApiError(429, "too_many_batches", message, retry_after=OPEN_BATCH_RETRY_SECONDS)


@get(list(BATCH_PREFIXES), opt=READ)
async def list_batches(request: HttpRequest) -> Response[bytes]:
    """Lists the team's batches, the newest first, each with its first errors."""
    return json_response(await list_team_records(request, RecordKind.BATCH, _serialize_listed_batch), 200, {})


def _serialize_listed_batch(record: TeamRecord, _: dict[str, list[str]]) -> dict[str, Any]:
    batch = decode_batch(record)
    return serialize_batch(batch, batch.errors)


@get(_ONE_BATCH, opt=READ)
async def get_batch(request: HttpRequest, batch_id: str) -> Response[bytes]:
    """Returns the batch, with all errors of its lines if it failed."""
    context = get_context(request)
    batch = await get_team_batch(context, get_team(request), batch_id)
    return json_response(serialize_batch(batch, await _load_errors(context, batch)), 200, {})


async def _load_errors(context: ApiContext, batch: Batch) -> tuple[BatchError, ...]:
    """Returns all errors of a failed batch. The record has the first ones, the error file has all."""
    if batch.error_count <= MAX_SHOWN_ERRORS:
        return batch.errors
    try:
        file = await get_team_file(context, batch.team, batch.errors_output.id)
    except ApiError:
        # The team deleted the file, or it has expired.
        return batch.errors
    pieces = [piece async for piece in FileContent(context.storage, file).read()]
    return tuple(_error_decoder.decode_lines(b"".join(pieces)))


@post([f"{path}/cancel" for path in _ONE_BATCH], status_code=200, opt=GENERATE)
async def cancel_batch(request: HttpRequest, batch_id: str) -> Response[bytes]:
    """Cancels the batch. Lines that are not ordered yet are dropped; running orders are followed to their end."""
    context, team = get_context(request), get_team(request)
    while True:
        batch = await get_team_batch(context, team, batch_id)
        if batch.is_cancelling and not batch.status.has_ended:
            return json_response(serialize_batch(batch, batch.errors), 200, {})
        if batch.status not in (BatchStatus.VALIDATING, BatchStatus.IN_PROGRESS):
            message = f"The batch cannot be cancelled: its status is '{batch.status}'. GET the batch for its results."
            raise ApiError(409, "batch_ended", message)
        cancelling = batch.with_status(BatchStatus.CANCELLING, context.wall_clock())
        # The replica that works on the batch renews its lease before this time. If there is none, one claims the batch.
        due_in_seconds = context.catalogue().gateway.jobs.lease_seconds
        if await context.store.team_records.save(encode_record(RecordKind.BATCH, cancelling), due_in_seconds):
            return json_response(serialize_batch(cancelling, ()), 200, {})


def serialize_batch(batch: Batch, errors: tuple[BatchError, ...]) -> dict[str, Any]:
    """Serializes OpenAI's batch, with the gateway's own `max_cost`, `estimate`, `cost` and `key`."""
    progress, reached_at = batch.progress, batch.reached_at
    moments = {
        f"{status}_at": int(reached_at[status]) if status in reached_at else None
        for status in BatchStatus
        if status is not BatchStatus.VALIDATING
    }
    has_files = batch.status.has_ended
    return {
        "id": batch.id,
        "object": "batch",
        "endpoint": batch.endpoint,
        "errors": {"object": "list", "data": [msgspec.structs.asdict(error) for error in errors]} if errors else None,
        "input_file_id": batch.input_file_id,
        "completion_window": "24h",
        "status": batch.status,
        "output_file_id": batch.output.id if has_files and batch.output.lines else None,
        "error_file_id": batch.errors_output.id if has_files and batch.errors_output.lines else None,
        "created_at": int(batch.created_at),
        "expires_at": int(batch.expires_at),
        **moments,
        "request_counts": {"total": batch.total, "completed": progress.completed, "failed": progress.failed},
        "metadata": batch.metadata or None,
        "max_cost": None if batch.max_cost is None else encode_usd(batch.max_cost),
        "estimate": batch.estimate
        and {"cost": encode_usd(batch.estimate.cost), "max_cost": encode_usd(batch.estimate.ceiling)},
        "cost": encode_usd(progress.cost),
        "key": batch.key_id or None,
    }
