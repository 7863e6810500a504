"""Code that both Runflow adapters share: error bodies, run statuses, images in a run."""

from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode

from msgspec.structs import replace

from providers import parsing
from providers.account_status import AccountStatus
from providers.adapter import Answer, Call, Endpoint
from providers.charge_list import ChargePage, ChargeQuery, ListedCharge
from providers.faults import Fault, FaultKind, detect_content_refusal, fault_kind_from_status
from providers.order_status import Accepted, Failed, InProgress, NoAnswer, Progress, Ready
from providers.orders import (
    Capabilities,
    Feature,
    ImageSource,
    ImageUrl,
    Operation,
    Order,
    PixelSize,
    PresetSize,
    SizeSpec,
    Ticket,
)
from providers.parsing import JsonObject, ParseError, get_object, make_query_reader

# Two pages spell "cancelled" differently, and "errored" appears in one client only: all are accepted.
WORKING, SUCCEEDED, FAILED, CANCELLED = "working", "succeeded", "failed", "cancelled"
STATES_BY_STATUS = {
    "queued": WORKING,
    "dispatching": WORKING,
    "running": WORKING,
    "succeeded": SUCCEEDED,
    "partial_succeeded": SUCCEEDED,
    "failed": FAILED,
    "errored": FAILED,
    "canceled": CANCELLED,
    "cancelled": CANCELLED,
}

# The seller's error codes that are more precise than the HTTP status.
FAULTS_BY_CODE = {
    "INSUFFICIENT_CREDIT": FaultKind.NO_CREDIT,
    "INSUFFICIENT_CREDITS": FaultKind.NO_CREDIT,
    "RATE_LIMITED": FaultKind.RATE_LIMITED,
    "MODEL_UNAVAILABLE": FaultKind.UNAVAILABLE,
}
FAULTS_BY_FAILURE_CODE = {"INPUT_VALIDATION_FAILED": FaultKind.INVALID_ORDER}

# The pages say 4 and 10 images, the generated schema says 4. The limit of 16 inputs is that of other sellers of this
# model.
MAX_IMAGES, MAX_INPUT_IMAGES = 4, 16
_COMMON_FEATURES = {
    Feature.MULTIPLE_IMAGES,
    Feature.PIXEL_SIZE,
    Feature.PRESET_SIZE,
    Feature.QUALITY,
    Feature.OUTPUT_FORMAT,
}
_EDIT_FEATURES = {Feature.INPUT_URLS, Feature.MASK}


def build_capabilities(*extra_features: Feature) -> Capabilities:
    """Returns the capabilities that both adapters share, and the extra ones of one adapter."""
    return Capabilities(
        generate_features=frozenset({*_COMMON_FEATURES, *extra_features}),
        edit_features=frozenset({*_COMMON_FEATURES, *_EDIT_FEATURES, *extra_features}),
        max_images=MAX_IMAGES,
        max_input_images=MAX_INPUT_IMAGES,
        qualities=frozenset({"low", "medium", "high"}),
    )


def to_input(order: Order) -> dict[str, Any]:
    """Builds the input fields of the model, which are the same in both adapters."""
    fields = {
        "prompt": order.prompt,
        "num_images": order.image_count,
        "image_size": _to_image_size(order.size),
        "quality": order.quality,
        "output_format": order.output_format,
        "image_urls": [image.url for image in order.input_images if isinstance(image, ImageUrl)] or None,
        "mask_url": order.mask.url if isinstance(order.mask, ImageUrl) else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _to_image_size(size: SizeSpec) -> object:
    match size:
        case PixelSize(width=width, height=height):
            return {"width": width, "height": height}
        case PresetSize(name=name):
            return name
    return None


def to_model_path(order: Order) -> str:
    """Returns `openai/gpt-image-2`, followed by `/edit` for edits."""
    return order.model + ("/edit" if order.operation is Operation.EDIT else "")


def parse_error(answer: Answer) -> Fault:
    """Parses errors: flat `{code, message, errors}` as documented, nested, or FastAPI's `detail` as clients saw it."""
    body = parsing.parse_error_body(answer)
    envelope = body if "code" in body else get_object(body, "error") or body
    code, messages = parsing.parse_code(envelope.get("code")), parsing.list_error_messages(body)
    return Fault(
        kind=detect_content_refusal(
            FAULTS_BY_CODE.get(code or "", fault_kind_from_status(answer.status)), code, *messages
        ),
        status=answer.status,
        code=code,
        message=parsing.join_messages(messages, answer),
        retry_after=parsing.parse_retry_after(answer.headers),
    )


def from_run(run: JsonObject, *, is_new: bool) -> Progress:
    """Parses a run. The answer to a submit needs only an id, with which the order can be polled."""
    run_id, reference = parsing.parse_order_id(run.get("id")), parsing.parse_text(run.get("client_ref"))
    status = parsing.parse_code(run.get("status_code")) or parsing.parse_code(run.get("status"))
    state = STATES_BY_STATUS.get(status or "")
    if state is SUCCEEDED and run.get("output") is not None:
        images = parse_images(run["output"])
        progress = parsing.status_from_images(images, (run.get("cost"),), id=run_id, reference=reference)
        finished_at = parsing.parse_timestamp(run.get("completed_at"))
        return replace(progress, finished_at=finished_at) if isinstance(progress, Ready) else progress
    if state in (FAILED, CANCELLED):
        return Failed(fault=_parse_failure(run, state), id=run_id, reference=reference)
    if is_new and run_id:
        return Accepted(id=run_id, reference=reference)
    if is_new or status is None or state is SUCCEEDED:
        raise ParseError(FaultKind.UNREADABLE, message="id, status or output is missing from the run")
    if state is None:
        raise ParseError(FaultKind.UNKNOWN_STATUS, code=status)
    return InProgress(status=status, id=run_id, reference=reference)


def _parse_failure(run: JsonObject, state: str) -> Fault:
    nested = get_object(run, "error")
    code = parsing.parse_code(run.get("failure_code") or nested.get("code"))
    message = parsing.sanitize_text(run.get("failure_message") or nested.get("message") or run.get("error"))
    kind = (
        FaultKind.ORDER_CANCELLED
        if state is CANCELLED
        else FAULTS_BY_FAILURE_CODE.get(code or "", FaultKind.ORDER_FAILED)
    )
    kind = detect_content_refusal(kind, code, message)
    amount, _ = parsing.parse_cost(run.get("cost"))
    return Fault(kind=kind, code=code, message=message, cost=amount)


# The fields in which answers contained images, the documented one first.
_IMAGE_FIELDS = ("outputs", "images", "image_urls", "image", "url", "output_url")


def parse_images(output: object) -> list[ImageSource | None]:
    """Returns the images of the first field that contains a readable one. Unreadable images are returned as None."""
    values = [output.get(name) for name in _IMAGE_FIELDS] if isinstance(output, dict) else [output]
    lists = [_parse_entries(value) for value in values if value]
    return next((images for images in lists if any(images)), lists[0] if lists else [])


def _parse_entries(value: object) -> list[ImageSource | None]:
    entries = value if isinstance(value, list) else [value]
    return [_parse_image(entry) for entry in entries if not _is_other_media(entry)]


def _is_other_media(entry: object) -> bool:
    """Returns whether the entry is a video or a sound, which does not count as an unreadable image."""
    kind = entry.get("type") if isinstance(entry, dict) else None
    return isinstance(kind, str) and kind.lower().startswith(("video", "audio"))


def _parse_image(entry: object) -> ImageSource | None:
    return parsing.parse_image(entry.get("url") if isinstance(entry, dict) else entry)


def _to_poll(ticket: Ticket) -> Call:
    return Call(method="GET", location=f"/v1/runs/{ticket.id}")


def _from_polled(answer: Answer) -> Progress:
    return from_run(parsing.parse_json_object(answer.body), is_new=False)


def _to_check(_: None) -> Call:
    """Builds the call for the balance. A key without the scope credit_balance:read is answered with 403."""
    return Call(method="GET", location="/v1/billing/balance")


def _from_check(answer: Answer) -> AccountStatus:
    """Parses the balance: two pages show it differently."""
    body = parsing.parse_json_object(answer.body)
    return parsing.require_balance(
        body.get("balance"), parsing.convert_to_usd(body.get("balance_cents"), units_per_usd=100)
    )


def _to_charge_list(query: ChargeQuery) -> Call:
    """Builds the call for a page of runs, the oldest first."""
    since = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=query.first_at)).isoformat(timespec="seconds")
    parameters = {"q": f"created_at>={since}", "limit": "500", "sort_by": "created_at:asc"}
    parameters |= {"pq": query.cursor} if query.cursor else {}
    return Call(method="GET", location=f"/v1/runs?{urlencode(parameters)}")


def _from_charge_list(answer: Answer) -> ChargePage:
    """Parses the finished runs of a page. Two pages of the documentation name the cursor differently."""
    body = parsing.parse_json_object(answer.body)
    if not isinstance(body.get("items"), list):
        raise ParseError(FaultKind.UNREADABLE, message="the answer has no list of runs")
    charges = [charge for run in body["items"] if isinstance(run, dict) and (charge := _parse_charge(run))]
    cursor = parsing.parse_text(body.get("next")) or parsing.parse_text(body.get("next_pq"))
    return ChargePage(tuple(charges), cursor or "")


def _parse_charge(run: JsonObject) -> ListedCharge | None:
    """Parses a run; None while it is in progress. A successful run without a cost is an error, not a free one."""
    run_id, amount = parsing.parse_order_id(run.get("id")), parsing.parse_cost(run.get("cost"))[0]
    state = STATES_BY_STATUS.get(parsing.parse_code(run.get("status_code")) or "")
    if run_id is None or state not in (SUCCEEDED, FAILED, CANCELLED):
        return None
    if amount is None and state is SUCCEEDED:
        raise ParseError(FaultKind.UNREADABLE, message="the list does not show what a successful run cost")
    return ListedCharge(
        order_id=run_id,
        amount=amount or 0,
        reference=parsing.parse_text(run.get("client_ref")) or "",
        charged_at=parsing.parse_timestamp(run.get("completed_at") or run.get("created_at")),
    )


LIST_CHARGES: Endpoint[ChargeQuery, ChargePage | NoAnswer] = Endpoint(
    build_call=_to_charge_list, read_answer=make_query_reader(_from_charge_list, parse_error)
)
CHECK: Endpoint[None, AccountStatus | NoAnswer] = Endpoint(
    build_call=_to_check, read_answer=make_query_reader(_from_check, parse_error)
)
POLL: Endpoint[Ticket, Progress] = Endpoint(
    build_call=_to_poll, read_answer=make_query_reader(_from_polled, parse_error)
)
