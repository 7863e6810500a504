"""RunAPI's dialect: order a task, ask for it under the action it was ordered by, hear of it by callback.

https://runapi.ai/docs/api/gpt-image-2/text-to-image. What is assumed beyond that: docs/quirks/runapi.md.
"""

from datetime import date
from typing import Any

import msgspec

from providers import reading
from providers.orders import (
    Feature,
    InexpressibleError,
    Link,
    Operation,
    Order,
    Shape,
    Speaks,
    Ticket,
    require_words,
)
from providers.progress import Accepted, Progress, Unanswered, Working
from providers.reading import Unclear, asking, ordering
from providers.runapi_errors import error
from providers.runapi_files import INPUTS
from providers.runapi_tasks import from_task
from providers.signing import runapi_signature_holds
from providers.sizes import RATIOS, Resolution
from providers.spec import Adapter, Answer, Call, Callback, Step
from providers.writing import bearer, json_call

ACTIONS = {Operation.GENERATE: "text_to_image", Operation.EDIT: "edit_image"}
# The service in a path, by model; a model that is not listed has the service of its own name.
SERVICES = {"gpt-image-2.5-flare": "gpt_image_2_5", "gpt-image-2.5-sunburst": "gpt_image_2_5"}
# The seller sells every named ratio at every tier but these; without a ratio it draws at 1k only.
NOT_SOLD = {("1:1", Resolution.FOUR_K)}

_BOTH = frozenset({Feature.SHAPE, Feature.AUTO_SIZE, Feature.CALLBACK})
SPEAKS = Speaks(generate=_BOTH, edit=_BOTH | {Feature.LINKED_SOURCES}, most_images=1, most_sources=16)


def to_task(order: Order) -> Call:
    require_words(order, SPEAKS)
    fields = {
        "model": order.model,
        "prompt": order.prompt,
        **_to_shape(order),
        "source_image_urls": [source.url for source in order.sources if isinstance(source, Link)] or None,
        "callback_url": order.callback_url,
    }
    path = _action_path(order.model, order.operation)
    return json_call("POST", path, fields, idempotency_key=order.reference, x_client_request_id=order.reference)


def _to_shape(order: Order) -> dict[str, Any]:
    if not isinstance(order.size, Shape):
        return {"aspect_ratio": "auto", "output_resolution": Resolution.ONE_K}
    ratio, resolution = order.size.ratio, order.size.resolution
    if ratio not in RATIOS or (ratio, resolution) in NOT_SOLD:
        raise InexpressibleError(f"ratio {ratio} at {resolution} is not among those that can be asked for")
    return {"aspect_ratio": ratio, "output_resolution": resolution}


def _action_path(model: str, operation: Operation) -> str:
    service = SERVICES.get(model) or model.replace("-", "_")
    return f"/api/v1/{service}/{ACTIONS[operation]}"


def from_submit(answer: Answer) -> Progress:
    """A header tells that a task exists, and which: it outranks a lost body and any refusal.

    But not a 409, where the task may be one that was ordered with other bytes.
    """
    progress = _read_submit(answer)
    named = reading.order_id(answer.headers.get("x-runapi-task-id"))
    lost = isinstance(progress, Unanswered) or not answer.success
    return Accepted(id=named) if named and lost and answer.status != 409 else progress


def _from_ordered(answer: Answer) -> Progress:
    return from_task(reading.document(answer.body), just_ordered=True)


_read_submit = ordering(_from_ordered, error)


def to_poll(ticket: Ticket) -> Call:
    return Call(method="GET", location=f"{_action_path(ticket.model, ticket.operation)}/{ticket.id}")


def from_polled(answer: Answer) -> Progress:
    progress = from_task(reading.document(answer.body), just_ordered=False)
    if isinstance(progress, Working):
        return msgspec.structs.replace(progress, retry_after=reading.retry_after(answer.headers))
    return progress


def from_callback(body: bytes) -> str | None:
    try:
        return reading.order_id(reading.document(body).get("id"))
    except Unclear:
        return None


ADAPTER = Adapter(
    name="runapi",
    docs="https://runapi.ai/docs/api/gpt-image-2/text-to-image",
    checked=date(2026, 11, 21),
    speaks=SPEAKS,
    authorize=bearer,
    error=error,
    submit=Step(ask=to_task, read=from_submit),
    poll=Step(ask=to_poll, read=asking(from_polled, error)),
    callback=Callback(verify=runapi_signature_holds, read=from_callback, id_header="x-callback-id"),
    inputs=INPUTS,
    replay_key=True,
)
