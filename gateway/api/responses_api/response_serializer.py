"""Serializes jobs as responses of OpenAI's Responses API."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from gateway.api.failed_job_responses import build_failure_response
from gateway.api.responses_api.response_body_types import (
    ImageCallBody,
    InputItemListBody,
    ModelResponseBody,
    ResponseStatus,
    ResponseUsageBody,
)
from gateway.api.responses_api.response_ids import make_call_id, make_message_id, make_response_id
from gateway.api.responses_api.response_parameter_table import IMAGE_TOOL
from gateway.api.serializers import get_common_background, serialize_usage
from gateway.engine.job_documents import SavedRequest, StoredImage
from gateway.jobs.job import Job, JobState

Event = dict[str, Any]
_STATUSES: dict[JobState, ResponseStatus] = {
    JobState.QUEUED: "queued",
    JobState.IN_PROGRESS: "in_progress",
    JobState.COMPLETED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "cancelled",
    JobState.EXPIRED: "failed",
}


class ResponseView(Struct, frozen=True, kw_only=True):
    """A job as a response. `contents`: the JSON values of the images, by index. `safety_identifier`: as the request
    sent it. It is not stored, so only the response to that request has it."""

    job: Job
    request: SavedRequest
    images: Sequence[StoredImage] = ()
    contents: Mapping[int, str | msgspec.Raw] = {}
    safety_identifier: str | None = None

    @property
    def is_background(self) -> bool:
        return bool(self.request.echoed_params.get("background", False))

    @property
    def status(self) -> ResponseStatus:
        """The status of the job. A failed or expired job with some of its images is `incomplete`."""
        status = _STATUSES[self.job.state]
        return "incomplete" if status == "failed" and self.images else status


def serialize_response(view: ResponseView) -> ModelResponseBody:
    job, echoed, status = view.job, view.request.echoed_params, view.status
    has_ended = job.state.is_terminal
    body: ModelResponseBody = {
        "id": make_response_id(job.id),
        "object": "response",
        "created_at": int(job.created_at),
        "completed_at": int(job.finished_at) if job.finished_at and status == "completed" else None,
        "status": status,
        "background": view.is_background,
        "error": None,
        "incomplete_details": {"reason": "images_missing"} if status == "incomplete" else None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "metadata": dict(view.request.routing.metadata),
        "model": echoed.get("model") or job.model,
        "output": [_serialize_call(view, image) for image in view.images],
        "parallel_tool_calls": True,
        "previous_response_id": echoed.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": view.safety_identifier,
        "service_tier": "default",
        "store": True,
        "temperature": None,
        "text": {"format": {"type": "text"}},
        "tool_choice": echoed.get("tool_choice", "auto"),
        "tools": echoed.get("tools", [{"type": IMAGE_TOOL}]),
        "tool_usage": {"image_gen": serialize_usage(job)} if has_ended else None,
        "top_logprobs": None,
        "top_p": None,
        "truncation": "disabled",
        "usage": _serialize_response_usage(job) if has_ended else None,
        "user": None,
    }
    if job.warnings:
        body["warnings"] = list(job.warnings)
    if has_ended and not view.images:
        failure = build_failure_response(job)
        error_type = failure.error_type or "server_error"
        body["error"] = {"code": failure.code, "message": failure.message, "type": error_type, "param": None}
    return body


def _serialize_call(view: ResponseView, image: StoredImage) -> ImageCallBody:
    return {
        "id": make_call_id(view.job.id, image.index),
        "type": "image_generation_call",
        "status": "completed",
        "result": view.contents.get(image.index),
        "action": "edit" if view.request.sources else "generate",
        "size": f"{image.width}x{image.height}",
        "quality": image.quality or "auto",
        "background": get_common_background([image]) or "auto",
        "output_format": image.format,
    }


def _serialize_response_usage(job: Job) -> ResponseUsageBody:
    """Serializes the tokens of the images: no text model runs, so there are no others."""
    usage = serialize_usage(job)
    return {
        "input_tokens": usage["input_tokens"],
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": usage["total_tokens"],
        "cost": usage["cost"],
    }


def serialize_input_item(job: Job, request: SavedRequest, sign_url: Callable[[str], str]) -> dict[str, Any]:
    """Serializes the prompt and the input images as one message."""
    images = [
        {"type": "input_image", "detail": "auto", "image_url": sign_url(source.key), "file_id": None}
        for source in request.sources
    ]
    return {
        "id": make_message_id(job.id),
        "type": "message",
        "role": "user",
        "status": "completed",
        # After its retention there is no prompt.
        "content": [*([{"type": "input_text", "text": request.prompt}] if request.prompt else []), *images],
    }


def serialize_input_items(items: Sequence[dict[str, Any]]) -> InputItemListBody:
    return {
        "object": "list",
        "data": list(items),
        "first_id": items[0]["id"] if items else None,
        "last_id": items[-1]["id"] if items else None,
        "has_more": False,
    }


# --- events: their order is the same for every stream of a job, so that a number means the same event


def serialize_start_events(view: ResponseView) -> list[Event]:
    """Serializes the events before the images, as if the job had just begun."""
    started = _serialize_started_response(view)
    return _number_events(0, _iterate_start_events(view, started))


def serialize_end_events(view: ResponseView) -> list[Event]:
    """Serializes the events of the images, and the last one with the whole response."""
    first_number = len(serialize_start_events(view))
    return _number_events(first_number, _iterate_end_events(view))


def _number_events(first_number: int, events: Iterator[Event]) -> list[Event]:
    return [{**event, "sequence_number": number} for number, event in enumerate(events, first_number)]


def _serialize_started_response(view: ResponseView) -> ModelResponseBody:
    job = msgspec.structs.replace(view.job, state=JobState.IN_PROGRESS)
    return serialize_response(msgspec.structs.replace(view, job=job, images=()))


def _iterate_start_events(view: ResponseView, started: ModelResponseBody) -> Iterator[Event]:
    queued: ModelResponseBody = {**started, "status": "queued"}
    yield {"type": "response.created", "response": queued if view.is_background else started}
    if view.is_background:
        yield {"type": "response.queued", "response": queued}
    yield {"type": "response.in_progress", "response": started}
    for index in range(view.job.n):
        call_id = make_call_id(view.job.id, index)
        item = {"id": call_id, "type": "image_generation_call", "status": "in_progress", "result": None}
        yield {"type": "response.output_item.added", "output_index": index, "item": item}
        yield _make_call_event("in_progress", call_id, index)
        yield _make_call_event("generating", call_id, index)


def _iterate_end_events(view: ResponseView) -> Iterator[Event]:
    for image in view.images:
        item = _serialize_call(view, image)
        yield _make_call_event("completed", item["id"], image.index)
        yield {"type": "response.output_item.done", "output_index": image.index, "item": item}
    yield {"type": f"response.{_get_last_event_name(view)}", "response": serialize_response(view)}


def _get_last_event_name(view: ResponseView) -> str:
    """Returns the name of the last event. OpenAI has none for a cancelled response: it is incomplete if it has images,
    and has failed otherwise."""
    if view.status == "completed":
        return "completed"
    return "incomplete" if view.images else "failed"


def _make_call_event(state: str, call_id: str, index: int) -> Event:
    return {"type": f"response.image_generation_call.{state}", "item_id": call_id, "output_index": index}
