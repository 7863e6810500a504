"""A line of a batch: it is parsed, validated and ordered like the request that it contains."""

import hashlib
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.api.batches.batch_principal import find_batch_principal
from gateway.api.batches.batch_records import Batch
from gateway.api.batches.file_content import MAX_LINE_BYTES, InputLine
from gateway.api.client_presence import ClientPresence
from gateway.api.input_images import InputImages, get_mask_ref, list_input_refs, load_input_images
from gateway.api.job_admission import require_allowed_policy
from gateway.api.job_submission import AnyJobRequest, SubmittedJob, submit_job
from gateway.api.parameter_table import EditRequest, GenerationRequest, InputImageParams
from gateway.api.quotes import plan_request
from gateway.api.request_body_reader import decode_json_object
from gateway.api.request_parser_thread import run_off_loop
from gateway.api.request_parsing import Caller, make_job_request
from gateway.api.routing_query_builder import to_routing_query
from gateway.api.validation_errors import MAX_NAME_LENGTH
from gateway.assets.image_header import ImageHeader
from gateway.engine.job_creation import MAX_ROUTE_LENGTH, InputImage
from gateway.jobs.commit import IdempotencyRecord
from gateway.store.base import DAY_SECONDS
from gateway.suggestions import did_you_mean, end_sentence
from providers.orders import Format

ENDPOINTS: dict[str, type[GenerationRequest] | type[EditRequest]] = {
    "/v1/images/generations": GenerationRequest,
    "/v1/images/edits": EditRequest,
}
MAX_CUSTOM_ID_LENGTH = 255
_FIELDS = ("custom_id", "method", "url", "body")
# Linked images are downloaded when the line is ordered. The validation uses this square in their place.
_PLACEHOLDER = InputImage(b"", ImageHeader(Format.PNG, 1024, 1024, has_alpha=True))


class BatchLine(Struct, frozen=True, kw_only=True):
    """A valid line of a batch, and its request."""

    number: int
    custom_id: str
    request: AnyJobRequest


class LineQuote(Struct, frozen=True):
    """The expected cost of a line, and the highest possible one, in micro-USD."""

    cost: int
    ceiling: int


async def parse_line(context: ApiContext, batch: Batch, line: InputLine) -> BatchLine:
    """Parses a line. Raises an ApiError that says what is wrong with it."""
    if line.data is None:
        message = f"The line is longer than {MAX_LINE_BYTES >> 20} MiB. Pass large images as URLs."
        raise ApiError(413, "line_too_long", message)
    return await run_off_loop(len(line.data), _parse_line, context, batch, line)


def _parse_line(context: ApiContext, batch: Batch, line: InputLine) -> BatchLine:
    data = line.data or b""
    fields = decode_line(data)
    custom_id = _read_custom_id(fields)
    _require_fields(fields, batch)
    record = _make_record(batch, line.number, data)
    principal = find_batch_principal(context, batch)
    presence = ClientPresence(context.store.replica_id, None)
    caller = Caller(batch.team, batch.key_id, principal.key_budget, record, presence)
    request: AnyJobRequest = make_job_request(context.catalogue(), caller, ENDPOINTS[batch.endpoint], fields["body"])
    if request.params.stream:
        message = "Invalid value for 'stream': a batch has no stream of images. Omit it."
        raise ApiError(400, "invalid_value", message, param="stream")
    if request.params.response_format == "url":
        _require_lasting_urls(context, batch)
    require_allowed_policy(principal.policies, request.params.policy)
    return BatchLine(number=line.number, custom_id=custom_id, request=replace(request, batch_id=batch.id))


def decode_line(data: bytes) -> dict[str, Any]:
    """Decodes the JSON of a line. Raises ApiError if it is not an object."""
    try:
        return decode_json_object(data)
    except ApiError as error:
        message = error.message.replace("The body", "The line").replace("in the body", "in the line")
        raise ApiError(error.status, error.code, message, param=error.param) from None


def _read_custom_id(fields: dict[str, Any]) -> str:
    custom_id = fields.get("custom_id")
    if isinstance(custom_id, str) and 0 < len(custom_id) <= MAX_CUSTOM_ID_LENGTH:
        return str(custom_id)
    message = f"Invalid custom_id: it must be a text of 1 to {MAX_CUSTOM_ID_LENGTH} characters."
    raise ApiError(400, "invalid_custom_id", message, param="custom_id")


def _require_fields(fields: dict[str, Any], batch: Batch) -> None:
    """Raises ApiError unless the line has exactly the fields of a line of this batch."""
    if (unknown := next((name for name in fields if name not in _FIELDS), None)) is not None:
        short_name = unknown[:MAX_NAME_LENGTH]
        message = f"Unknown field: '{short_name}'{did_you_mean(short_name, _FIELDS)}"
        raise ApiError(
            400, "unknown_parameter", f"{end_sentence(message)} A line has {', '.join(_FIELDS)}.", param=short_name
        )
    if fields.get("method") != "POST":
        raise ApiError(400, "invalid_method", "Invalid method: it must be POST.", param="method")
    if fields.get("url") != batch.endpoint:
        message = f"Invalid url: it must be {batch.endpoint}, the endpoint of the batch."
        raise ApiError(400, "mismatched_url", message, param="url")
    if not isinstance(fields.get("body"), dict):
        message = f"Invalid body: it must be the JSON object that you would send to {batch.endpoint}."
        raise ApiError(400, "invalid_body", message, param="body")


def _make_record(batch: Batch, number: int, data: bytes) -> IdempotencyRecord:
    """Makes the idempotency record of a line, so that a resumed batch does not order the line again.

    Its key never equals that of a client: the keys of clients are stored as digests.
    """
    return IdempotencyRecord(
        key=f"{batch.id}:{number}",
        fingerprint=hashlib.sha256(data).hexdigest(),
        ttl_seconds=batch.line_key_ttl_seconds,
    )


def _require_lasting_urls(context: ApiContext, batch: Batch) -> None:
    """Raises ApiError if images are deleted before the batch may have ended, so that its URLs would be dead."""
    days = context.catalogue().get_job_retention(batch.team).image_seconds / DAY_SECONDS
    if days * DAY_SECONDS < batch.expires_at - batch.created_at:
        message = (
            f"Invalid value for 'response_format': this gateway deletes images after {days:g} days, and their URLs "
            "may be dead before the batch ends. Omit it, and the file has the images as base64."
        )
        raise ApiError(400, "invalid_value", message, param="response_format")


async def quote_line(context: ApiContext, line: BatchLine) -> LineQuote:
    """Returns the quote of a line. Raises ApiError if no seller can fulfil it."""
    request = line.request
    input_images = await _load_inline_images(context, request)
    query = to_routing_query(context.catalogue(), request.params, request.team, request.operation, input_images)
    plan = plan_request(context, query)
    if not plan.ranked:
        reasons = "; ".join(f"{offer.seller}: {', '.join(offer.reasons)}" for offer in plan.excluded)
        raise ApiError(400, "no_offer", f"No configured seller can fulfil this request: {reasons[:600]}.")
    ceiling = max(offer.quote.ceiling for offer in plan.ranked[:MAX_ROUTE_LENGTH])
    return LineQuote(plan.ranked[0].quote.total, ceiling)


async def _load_inline_images(context: ApiContext, request: AnyJobRequest) -> InputImages:
    """Loads and checks the input images of an edit. If one of them is linked, placeholders stand for all."""
    if not isinstance(request.params, InputImageParams):
        return InputImages()
    refs, mask = list_input_refs(request.params), get_mask_ref(request.params)
    all_refs = [*(ref for _, ref in refs), *([mask] if mask else [])]
    if not any(ref.is_url for ref in all_refs):
        with context.input_fetcher.open_request(request.team) as fetcher:
            return await load_input_images(fetcher, refs, mask)
    return InputImages((_PLACEHOLDER,) * len(refs), _PLACEHOLDER if mask else None)


async def order_line(context: ApiContext, batch: Batch, line: BatchLine, deadline_seconds: float) -> SubmittedJob:
    """Creates the job of a line, or returns the one that an earlier run created. It is within the present budget of the
    API key, also if the line was parsed before an admin changed it."""
    key_budget = find_batch_principal(context, batch).key_budget
    request = replace(line.request, deadline_seconds=deadline_seconds, key_budget=key_budget)
    if not isinstance(request.params, InputImageParams):
        return await submit_job(context, request)
    with context.input_fetcher.open_request(request.team) as fetcher:
        refs, mask = list_input_refs(request.params), get_mask_ref(request.params)
        input_images = await load_input_images(fetcher, refs, mask)
        return await submit_job(context, replace(request, input_images=input_images))
