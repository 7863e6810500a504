"""Adapter for RunAPI: submit a task, poll it under the action it was submitted with, receive its callback.

https://runapi.ai/docs/api/gpt-image-2/text-to-image. Assumptions beyond that: docs/quirks/runapi.md.
"""

from datetime import date
from typing import Any

import msgspec

from providers import parsing
from providers.account_status import AccountStatus
from providers.adapter import Adapter, Answer, Call, CallbackSpec, Endpoint
from providers.call_builders import build_json_call
from providers.callback_signatures import verify_runapi_signature
from providers.image_sizes import RATIOS
from providers.order_status import Accepted, InProgress, NoAnswer, Progress
from providers.orders import (
    Capabilities,
    Feature,
    ImageUrl,
    Operation,
    Order,
    RatioSize,
    Ticket,
    UnsupportedOrder,
    check_supported,
)
from providers.parsing import make_callback_reader, make_query_reader, make_submit_reader
from providers.runapi.errors import parse_error
from providers.runapi.files import INPUT_TRANSPORTS
from providers.runapi.tasks import from_task

ACTIONS = {Operation.GENERATE: "text_to_image", Operation.EDIT: "edit_image"}
# The service in the path, by model; the default is the model's own name.
SERVICES = {"gpt-image-2.5-flare": "gpt_image_2_5", "gpt-image-2.5-sunburst": "gpt_image_2_5"}
# The seller offers every named ratio at every resolution, except these.
UNSUPPORTED_SIZES = {("1:1", "4k")}

_COMMON_FEATURES = frozenset({Feature.RATIO_SIZE, Feature.CALLBACK})
CAPABILITIES = Capabilities(
    generate_features=_COMMON_FEATURES,
    edit_features=_COMMON_FEATURES | {Feature.INPUT_URLS},
    max_images=1,
    max_input_images=16,
    resolutions=frozenset({"1k", "2k", "4k"}),
)


def to_task(order: Order) -> Call:
    check_supported(order, CAPABILITIES)
    fields = {
        "model": order.model,
        "prompt": order.prompt,
        **_to_ratio_and_resolution(order),
        "source_image_urls": [image.url for image in order.input_images if isinstance(image, ImageUrl)] or None,
        "callback_url": order.callback_url,
    }
    path = _build_action_path(order.model, order.operation)
    return build_json_call("POST", path, fields, idempotency_key=order.reference, x_client_request_id=order.reference)


def _to_ratio_and_resolution(order: Order) -> dict[str, Any]:
    if not isinstance(order.size, RatioSize):
        raise UnsupportedOrder(f"the adapter does not support sizes of type {type(order.size).__name__}")
    ratio, resolution = order.size.ratio, order.size.resolution
    if ratio not in RATIOS or (ratio, resolution) in UNSUPPORTED_SIZES:
        raise UnsupportedOrder(f"the adapter does not support ratio {ratio} at {resolution}")
    return {"aspect_ratio": ratio, "output_resolution": resolution}


def _build_action_path(model: str, operation: Operation) -> str:
    service = SERVICES.get(model) or model.replace("-", "_")
    return f"/api/v1/{service}/{ACTIONS[operation]}"


def from_submit(answer: Answer) -> Progress:
    """Reads the answer to a submit.

    The x-runapi-task-id header proves that a task exists. It takes precedence over an unreadable body or a rejection,
    but not over a 409: then the existing task may have another body.
    """
    progress = _read_submit(answer)
    task_id = parsing.parse_order_id(answer.headers.get("x-runapi-task-id"))
    is_unreliable = isinstance(progress, NoAnswer) or not answer.is_success
    return Accepted(id=task_id) if task_id and is_unreliable and answer.status != 409 else progress


def _from_ordered(answer: Answer) -> Progress:
    return from_task(parsing.parse_json_object(answer.body), is_new=True)


_read_submit = make_submit_reader(_from_ordered, parse_error)


def to_poll(ticket: Ticket) -> Call:
    return Call(method="GET", location=f"{_build_action_path(ticket.model, ticket.operation)}/{ticket.id}")


def from_polled(answer: Answer) -> Progress:
    progress = from_task(parsing.parse_json_object(answer.body), is_new=False)
    if isinstance(progress, InProgress):
        return msgspec.structs.replace(progress, retry_after=parsing.parse_retry_after(answer.headers))
    return progress


def to_check(_: None) -> Call:
    return Call(method="GET", location="/api/v1/me/balance")


def from_check(answer: Answer) -> AccountStatus:
    cents = parsing.parse_json_object(answer.body).get("balance_cents")
    return parsing.require_balance(parsing.convert_to_usd(cents, units_per_usd=100))


ADAPTER = Adapter(
    name="runapi",
    docs_url="https://runapi.ai/docs/api/gpt-image-2/text-to-image",
    checked_on=date(2026, 11, 21),
    capabilities=CAPABILITIES,
    parse_error=parse_error,
    submit=Endpoint(build_call=to_task, read_answer=from_submit),
    poll=Endpoint(build_call=to_poll, read_answer=make_query_reader(from_polled, parse_error)),
    check=Endpoint(build_call=to_check, read_answer=make_query_reader(from_check, parse_error)),
    callback=CallbackSpec(
        verify=verify_runapi_signature, parse_order_id=make_callback_reader("id"), id_header="x-callback-id"
    ),
    input_transports=INPUT_TRANSPORTS,
    has_idempotency_key=True,
)
