"""RunAPI's dialect: order a task, ask for it under the action it was ordered by, hear of it by callback.

https://runapi.ai/docs/api/gpt-image-2/text-to-image. What is assumed beyond that: docs/quirks/runapi.md.
"""

import re
from datetime import date
from typing import Any

import msgspec

from providers import reading, runapi_errors
from providers.faults import Fault, FaultKind, unless_refused
from providers.orders import (
    Feature,
    InexpressibleError,
    Link,
    Operation,
    Order,
    Shape,
    Source,
    Speaks,
    Ticket,
    require_words,
)
from providers.progress import Accepted, Failed, Progress, Unanswered, Working
from providers.reading import Object, Unclear, asking, child, ordering
from providers.runapi_errors import error
from providers.runapi_files import INPUTS
from providers.signing import runapi_signature_holds
from providers.sizes import RATIOS, Resolution
from providers.spec import Adapter, Answer, Call, Callback, Step
from providers.writing import bearer, json_call

ACTIONS = {Operation.GENERATE: "text_to_image", Operation.EDIT: "edit_image"}
# The service in a path, by model; a model that is not listed has the service of its own name.
SERVICES = {"gpt-image-2.5-flare": "gpt_image_2_5", "gpt-image-2.5-sunburst": "gpt_image_2_5"}
# The seller sells every named ratio at every tier but these; without a ratio it draws at 1k only.
NOT_SOLD = {("1:1", Resolution.FOUR_K)}

# Four words are documented; the others stand in the vendor's own test fixtures, so they cost nothing to know.
WORKING, COMPLETED, FAILED = "working", "completed", "failed"
STATUSES = {
    "pending": WORKING,
    "processing": WORKING,
    "queued": WORKING,
    "running": WORKING,
    "completed": COMPLETED,
    "succeeded": COMPLETED,
    "failed": FAILED,
}

_BOTH = frozenset({Feature.SHAPE, Feature.AUTO_SIZE, Feature.CALLBACK})
SPEAKS = Speaks(generate=_BOTH, edit=_BOTH | {Feature.LINKED_SOURCES}, most_images=1, most_sources=16)


def to_task(order: Order) -> Call:
    require_words(order, SPEAKS)
    if not re.fullmatch(r"[!-~]{1,512}", order.reference):
        raise InexpressibleError("a reference may hold 1 to 512 printable ASCII characters")
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
    """A header tells that a task exists, and which, even where the body was lost or the answer is a 5xx."""
    progress = _read_submit(answer)
    named = reading.order_id(answer.headers.get("x-runapi-task-id"))
    return Accepted(id=named) if named and isinstance(progress, Unanswered) and answer.status != 409 else progress


def _from_ordered(answer: Answer) -> Progress:
    return _from_task(reading.document(answer.body), just_ordered=True)


_read_submit = ordering(_from_ordered, error)


def to_poll(ticket: Ticket) -> Call:
    return Call(method="GET", location=f"{_action_path(ticket.model, ticket.operation)}/{ticket.id}")


def from_polled(answer: Answer) -> Progress:
    progress = _from_task(reading.document(answer.body), just_ordered=False)
    if isinstance(progress, Working):
        return msgspec.structs.replace(progress, retry_after=reading.retry_after(answer.headers))
    return progress


def _from_task(task: Object, *, just_ordered: bool) -> Progress:
    """A task object. Right after ordering, an id is what counts: whatever else is odd, we have a ticket."""
    task_id = reading.order_id(task.get("id")) or reading.order_id(task.get("task_id"))
    status = reading.word(task.get("status"))
    state = STATUSES.get((status or "").lower())
    if state is COMPLETED and "images" in task:
        return reading.delivered(_pictures(task), _cost(task), id=task_id)
    if state is FAILED:
        return Failed(fault=_failure(task), id=task_id)
    if just_ordered and task_id:
        return Accepted(id=task_id)
    if just_ordered or status is None or state is COMPLETED:
        raise Unclear(FaultKind.UNREADABLE, message="id, status or images are missing from the task")
    if state is None:
        raise Unclear(FaultKind.UNKNOWN_WORD, code=status)
    return Working(word=status, id=task_id)


def _pictures(task: Object) -> list[Source | None]:
    images = reading.items(task, "images")
    return [reading.picture(image.get("url") if isinstance(image, dict) else image) for image in images]


def _cost(task: Object) -> object:
    """`usage.cost` in USD; until August 2026 the settlement stood in `billing`, in cents."""
    cost = child(task, "usage").get("cost")
    cents = child(task, "billing", "settlement").get("charged_amount_cents")
    return cents / 100 if cost is None and isinstance(cents, int) and abs(cents) < 10**9 else cost


def _failure(task: Object) -> Fault:
    code, message = runapi_errors.words(task)
    return Fault(kind=unless_refused(FaultKind.FAILED, code, message), code=code, message=message)


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
    callback=Callback(verify=runapi_signature_holds, read=from_callback),
    inputs=INPUTS,
    replay_key=True,
)
