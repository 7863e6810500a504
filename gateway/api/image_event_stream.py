"""Streams the images of a job as OpenAI's server-sent events: one `completed` event for each image.

The status line is held for one heartbeat interval: a request that fails within it gets a normal HTTP error, which
clients retry if that is safe. A later failure is an `error` event, from which OpenAI's SDKs raise an exception. No
other events are sent, since the SDKs return any event as an image. Heartbeats are comments, which every client ignores.
"""

from collections.abc import AsyncIterator

import msgspec
from litestar.response import Stream

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.authentication import get_team
from gateway.api.completed_job_images import SubmittedImages, load_images_of_ended_job
from gateway.api.error_translator import get_error_translator
from gateway.api.job_wait import confirm_job, wait_for_job
from gateway.api.json_responses import build_job_headers, build_replay_headers
from gateway.api.openai_images_response import fill_template, open_images
from gateway.api.serializers import serialize_image_events
from gateway.api.server_error_responses import select_charge_sentence
from gateway.api.team_job_loader import get_team_job
from gateway.jobs.job import Job
from providers.orders import Operation

HEARTBEAT = b": ping\n\n"
# The second one stops nginx from collecting the events in a buffer.
STREAM_HEADERS = {"cache-control": "no-cache, no-store", "x-accel-buffering": "no"}
_EVENT_TYPES = {Operation.GENERATE: "image_generation.completed", Operation.EDIT: "image_edit.completed"}


async def stream_image_events(request: HttpRequest, submitted: SubmittedImages) -> Stream:
    """Builds the response once the job has ended, or after one heartbeat interval.

    Raises the error of a job that has failed by then.
    """
    context = get_context(request)
    job = await wait_for_job(request, submitted.job.job_id, context.timing.api.heartbeat_interval_seconds)
    if job.state.is_terminal or context.engine.is_stopped:
        chunks = await _prepare_events(request, job, submitted)
    else:
        job = await confirm_job(request, job)
        chunks = _generate_stream(request, job, submitted)
    headers = STREAM_HEADERS | _build_headers(job, submitted)
    return Stream(chunks, media_type="text/event-stream", headers=headers)


async def _generate_stream(request: HttpRequest, job: Job, submitted: SubmittedImages) -> AsyncIterator[bytes]:
    """Yields heartbeats until the job ends, then the events.

    An error within an image is raised instead, which aborts the connection: an event cannot be sent within another one.
    """
    try:
        while _is_awaited(request, job):
            yield HEARTBEAT
            job = await _wait_for_heartbeat(request, job)
        chunks = await _prepare_events(request, job, submitted)
    except Exception as error:  # noqa: BLE001  the status line is sent, so every error becomes an event
        yield _render_error_event(request, error)
        return
    async for chunk in chunks:
        yield chunk


def _is_awaited(request: HttpRequest, job: Job) -> bool:
    context = get_context(request)
    is_late = request.scope["state"]["waited_seconds"] > context.timing.api.job_wait_timeout_seconds
    return not (job.state.is_terminal or context.engine.is_stopped or is_late)


async def _wait_for_heartbeat(request: HttpRequest, job: Job) -> Job:
    """Returns the job when the next heartbeat is due, or earlier when the job has ended."""
    context, started_at = get_context(request), get_context(request).wall_clock()
    timeout_seconds = context.timing.api.heartbeat_interval_seconds
    job = await get_team_job(context, get_team(request), job.id, timeout_seconds)
    request.scope["state"]["waited_seconds"] += context.wall_clock() - started_at
    return job


async def _prepare_events(request: HttpRequest, job: Job, submitted: SubmittedImages) -> AsyncIterator[bytes]:
    """Opens the images and returns their events. Raises if the job has no images, or if they cannot be read."""
    images = await load_images_of_ended_job(request, job, _build_headers(job, submitted))
    opened = await open_images(request, job, images, submitted)
    events = serialize_image_events(opened.view, _EVENT_TYPES[submitted.operation])
    template = b"".join(_render_event(event["type"], event) for event in events)
    return fill_template(request, template, opened.streams)


def _build_headers(job: Job, submitted: SubmittedImages) -> dict[str, str]:
    return build_job_headers(job) | build_replay_headers(submitted.job.is_replayed)


def _render_event(event_type: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event_type.encode(), msgspec.json.encode(data))


def _render_error_event(request: HttpRequest, error: Exception) -> bytes:
    api_error = get_error_translator(request).translate(request, error)
    body = api_error.build_openai_body(select_charge_sentence(request.scope))
    return _render_event("error", {"type": "error", **body})
