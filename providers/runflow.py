"""What both of Runflow's dialects share: the envelope of errors, the words of a run, where its pictures are."""

from typing import Any

from providers import reading
from providers.faults import Fault, FaultKind, kind_of_status, unless_refused
from providers.orders import (
    Addressing,
    AutoSize,
    Feature,
    Link,
    Operation,
    Order,
    Pixels,
    Preset,
    Source,
    Speaks,
    Ticket,
)
from providers.progress import Accepted, Failed, Progress, Working
from providers.reading import Object, Unclear, asking, child
from providers.spec import Answer, Call, Step

# Two pages spell "cancelled" differently and "errored" stands in one client only; both were seen, so both are read.
WORKING, SUCCEEDED, FAILED, CANCELLED = "working", "succeeded", "failed", "cancelled"
STATUSES = {
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

# The seller's own codes, where they say more than the HTTP status that comes with them.
CODES = {
    "INSUFFICIENT_CREDIT": FaultKind.NO_CREDIT,
    "INSUFFICIENT_CREDITS": FaultKind.NO_CREDIT,
    "RATE_LIMITED": FaultKind.RATE_LIMITED,
    "MODEL_UNAVAILABLE": FaultKind.UNAVAILABLE,
}
FAILURES = {"INPUT_VALIDATION_FAILED": FaultKind.BAD_ORDER}


# The pages say 4 and 10 images; four is what the generated schema says. Sixteen inputs is what other sellers of this
# model take. Only edits document `auto` as a size.
MOST_IMAGES, MOST_SOURCES = 4, 16
_BOTH = {Feature.SEVERAL_IMAGES, Feature.PIXELS, Feature.PRESET, Feature.QUALITY, Feature.OUTPUT_FORMAT}
_EDITS = {Feature.AUTO_SIZE, Feature.LINKED_SOURCES, Feature.MASK}


def speaks(*beside: Feature) -> Speaks:
    """The model's own words, the same in both dialects, and what a dialect has words for beside them."""
    return Speaks(
        generate=frozenset({*_BOTH, *beside}),
        edit=frozenset({*_BOTH, *_EDITS, *beside}),
        most_images=MOST_IMAGES,
        most_sources=MOST_SOURCES,
    )


def to_input(order: Order) -> dict[str, Any]:
    """The model's own fields, the same in both dialects."""
    fields = {
        "prompt": order.prompt,
        "num_images": order.images,
        "image_size": _to_image_size(order.size),
        "quality": order.quality,
        "output_format": order.output_format,
        "image_urls": [source.url for source in order.sources if isinstance(source, Link)] or None,
        "mask_url": order.mask.url if isinstance(order.mask, Link) else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _to_image_size(size: Addressing) -> object:
    match size:
        case Pixels(width=width, height=height):
            return {"width": width, "height": height}
        case Preset(name=name):
            return name
        case AutoSize():
            return "auto"
    return None


def to_model_path(order: Order) -> str:
    """`openai/gpt-image-2`, with `/edit` behind it for the other operation."""
    return order.model + ("/edit" if order.operation is Operation.EDIT else "")


def error(answer: Answer) -> Fault:
    """Flat `{code, message, errors}` as documented; nested and FastAPI's `detail` as seen in clients."""
    try:
        body = reading.document(answer.body)
    except Unclear:
        body = {}
    envelope = body if "code" in body else child(body, "error") or body
    code, said = reading.word(envelope.get("code")), _said(body, envelope)
    return Fault(
        kind=unless_refused(CODES.get(code or "", kind_of_status(answer.status)), code, *said),
        status=answer.status,
        code=code,
        message=reading.shown("; ".join(said)),
        retry_after=reading.retry_after(answer.headers),
    )


def _said(body: Object, envelope: Object) -> list[str]:
    """The message, and what is said of each field; never the fields' names, which may be anything."""
    lists = [value for name in ("errors", "detail") if isinstance(value := envelope.get(name), list)]
    of_fields = [entry.get("msg") for entries in lists for entry in entries[:8] if isinstance(entry, dict)]
    told = [envelope.get("message"), envelope.get("detail"), body.get("error"), *of_fields]
    return [words for value in told if (words := reading.shown(value))]


def from_run(run: Object, *, just_ordered: bool) -> Progress:
    """A run object. Right after ordering, an id is what counts: whatever else is odd, we have a ticket."""
    run_id, reference = reading.order_id(run.get("id")), reading.text(run.get("client_ref"))
    status = reading.word(run.get("status_code")) or reading.word(run.get("status"))
    state = STATUSES.get(status or "")
    if state is SUCCEEDED and run.get("output") is not None:
        return reading.delivered(pictures_of(run["output"]), (run.get("cost"),), id=run_id, reference=reference)
    if state in (FAILED, CANCELLED):
        return Failed(fault=_failure(run, state), id=run_id, reference=reference)
    if just_ordered and run_id:
        return Accepted(id=run_id, reference=reference)
    if just_ordered or status is None or state is SUCCEEDED:
        raise Unclear(FaultKind.UNREADABLE, message="id, status or output is missing from the run")
    if state is None:
        raise Unclear(FaultKind.UNKNOWN_WORD, code=status)
    return Working(word=status, id=run_id, reference=reference)


def _failure(run: Object, state: str) -> Fault:
    nested = child(run, "error")
    code = reading.word(run.get("failure_code") or nested.get("code"))
    message = reading.shown(run.get("failure_message") or nested.get("message") or run.get("error"))
    kind = FaultKind.CANCELLED if state is CANCELLED else FAILURES.get(code or "", FaultKind.FAILED)
    kind = unless_refused(kind, code, message)
    amount, _ = reading.cost(run.get("cost"))
    return Fault(kind=kind, code=code, message=message, cost=amount)


# Where pictures were seen in answers, the documented place first.
_PLACES = ("outputs", "images", "image_urls", "image", "url", "output_url")


def pictures_of(output: object) -> list[Source | None]:
    """All pictures of the first place that has any that can be read. None stands for one that cannot."""
    places = [output.get(place) for place in _PLACES] if isinstance(output, dict) else [output]
    found = [_entries(place) for place in places if place]
    return next((entries for entries in found if any(entries)), found[0] if found else [])


def _entries(place: object) -> list[Source | None]:
    entries = place if isinstance(place, list) else [place]
    return [_picture(entry) for entry in entries if not _is_something_else(entry)]


def _is_something_else(entry: object) -> bool:
    """A video or a sound beside the pictures is no picture that failed to be read."""
    kind = entry.get("type") if isinstance(entry, dict) else None
    return isinstance(kind, str) and kind.lower().startswith(("video", "audio"))


def _picture(entry: object) -> Source | None:
    return reading.picture(entry.get("url") if isinstance(entry, dict) else entry)


def _to_poll(ticket: Ticket) -> Call:
    return Call(method="GET", location=f"/v1/runs/{ticket.id}")


def _from_polled(answer: Answer) -> Progress:
    return from_run(reading.document(answer.body), just_ordered=False)


POLL: Step[Ticket, Progress] = Step(ask=_to_poll, read=asking(_from_polled, error))
