"""Streams the result of a job as server-sent events: the first ones before the job has ended, the others after.

The status line is held for one heartbeat interval: a request that fails within it gets a normal HTTP error, which
clients retry if that is safe. A later failure is an event, from which OpenAI's SDKs raise an exception. Heartbeats are
comments, which every client ignores.
"""

from collections.abc import AsyncIterator
from typing import Protocol

import msgspec
from litestar.response import Stream

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.error_translator import get_error_translator
from gateway.api.job_wait import confirm_job, wait_for_job
from gateway.api.team_job_loader import get_team_job
from gateway.jobs.job import Job

HEARTBEAT = b": ping\n\n"
# The second one stops nginx from collecting the events in a buffer.
STREAM_HEADERS = {"cache-control": "no-cache, no-store", "x-accel-buffering": "no"}


class ResultEvents(Protocol):
    """The events of one request to one API."""

    def build_headers(self, job: Job) -> dict[str, str]:
        """Builds the headers of the stream."""

    async def prepare_start(self, job: Job) -> bytes:
        """Returns the events with which the stream begins, if it has any."""

    async def prepare_end(self, job: Job) -> AsyncIterator[bytes]:
        """Opens the images and returns their events. Raises if the job has no images, or if they cannot be read."""

    def render_error(self, job: Job, error: ApiError) -> bytes:
        """Renders the events that end a stream without images."""


async def stream_job_result(request: HttpRequest, job_id: str, events: ResultEvents, is_held: bool = True) -> Stream:
    """Builds the response with the events of a job.

    A stream that `is_held` begins when the job has ended, after one heartbeat interval at the latest. If the job has
    failed by then, its error is raised. Any other stream begins at once.
    """
    context = get_context(request)
    hold_seconds = context.timing.api.heartbeat_interval_seconds if is_held else 0.0
    job = await wait_for_job(request, job_id, hold_seconds)
    if is_held and (job.state.is_terminal or context.engine.is_stopped):
        end = await events.prepare_end(job)
        chunks = _join_events(await events.prepare_start(job), end)
    else:
        job = await confirm_job(request, job)
        chunks = _generate_events(request, job, events, await events.prepare_start(job))
    headers = STREAM_HEADERS | events.build_headers(job)
    return Stream(chunks, media_type="text/event-stream", headers=headers)


async def _join_events(start: bytes, end: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if start:
        yield start
    async for chunk in end:
        yield chunk


async def _generate_events(request: HttpRequest, job: Job, events: ResultEvents, start: bytes) -> AsyncIterator[bytes]:
    """Yields the first events, heartbeats until the job ends, then its events.

    An error within an image is raised instead, which aborts the connection: an event cannot be sent within another one.
    """
    try:
        if start:
            yield start
        while _is_awaited(request, job):
            yield HEARTBEAT
            job = await _wait_for_heartbeat(request, job)
        chunks = await events.prepare_end(job)
    except Exception as error:  # noqa: BLE001  the status line is sent, so every error becomes an event
        yield events.render_error(job, get_error_translator(request).translate(request, error))
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


def render_event(event_type: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (event_type.encode(), msgspec.json.encode(data))
