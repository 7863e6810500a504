"""`GET /v1/jobs/{id}/events`: the job's milestones as server-sent events, until the job ends."""

from collections.abc import AsyncIterator

import msgspec
from litestar import Response, get
from litestar.response import Stream

from gateway.api.access_control import READ
from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.incoming_body_limiter import get_incoming_body
from gateway.api.query_params import read_query_params
from gateway.api.response_types import JobEventBody
from gateway.api.serializers import encode_usd
from gateway.api.team_job_loader import get_team_job
from gateway.jobs.commit import Milestone
from gateway.jobs.job import Job, JobState
from gateway.store.base import StoreUnavailable

HEADERS = {"cache-control": "no-store", "x-accel-buffering": "no"}
HEARTBEAT = b": heartbeat\n\n"


@get("/v1/jobs/{job_id:str}/events", opt=READ)
async def stream_job_events(request: HttpRequest, job_id: str) -> Response[None] | Stream:
    """Streams the events after the one that `Last-Event-ID` or `?starting_after=` names, or all of them.

    A stream that ends without a final event was interrupted: the client connects again, and misses nothing. Browsers
    connect again after the final event, too: only a 204 ends their EventSource.
    """
    context = get_context(request)
    after_number = _parse_position(request)
    job = await get_team_job(context, get_team(request), job_id)
    request.scope["state"]["job_id"] = job.id
    headers = {**HEADERS, "x-igw-job-id": job.id}
    if job.state.is_terminal and after_number >= job.milestone_count:
        return Response(None, status_code=204, headers=headers)
    # Many requests may listen for long, so the body's memory is released first.
    get_incoming_body(request.scope["state"]).release()
    events = _generate_events(context, job.id, min(after_number, job.milestone_count))
    return Stream(events, media_type="text/event-stream", headers=headers)


def _parse_position(request: HttpRequest) -> int:
    """Returns the higher of both: an EventSource that connects again repeats its URL, and adds the header."""
    values = read_query_params(request, "starting_after")["starting_after"]
    last_event_id = request.headers.get("last-event-id", "")
    return max(
        _parse_event_number("starting_after", values[-1] if values else ""),
        _parse_event_number("Last-Event-ID", last_event_id),
    )


def _parse_event_number(name: str, text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdigit()):
        raise ApiError(400, "invalid_value", f"Invalid value for '{name}': must be the number of an event.", param=name)
    # A longer number is beyond every event, too.
    return int(text.lstrip("0")[:9] or "0")


async def _generate_events(context: ApiContext, job_id: str, after_number: int) -> AsyncIterator[bytes]:
    """Yields the events, and a comment when none was sent for a while: proxies close silent connections.

    Ends early if this process stops or the store fails. The client then connects again.
    """
    timing = context.timing.api
    yield b"retry: %d\n\n" % (timing.event_retry_seconds * 1000)
    with context.engine.watch_job(job_id) as watch:
        while True:
            try:
                job = await context.engine.get_job(job_id)
                milestones = await _list_milestones(context, job, after_number)
            except StoreUnavailable:
                return
            if job is None:
                return
            for milestone in milestones:
                after_number = milestone.number
                yield _format_event(job, milestone)
            if job.state.is_terminal or context.engine.is_stopped:
                return
            if not await watch.wait_for_change(timing.event_heartbeat_seconds):
                yield HEARTBEAT


async def _list_milestones(context: ApiContext, job: Job | None, after_number: int) -> tuple[Milestone, ...]:
    """Returns the milestones after this number. Reads the store only if the job has any, so waiting costs the store
    little."""
    if job is None or job.milestone_count <= after_number:
        return ()
    return await context.store.list_milestones(job.id, after_number)


def _format_event(job: Job, milestone: Milestone) -> bytes:
    """Formats the event from its milestone and from what never changes in a job: it is always the same bytes."""
    name = f"job.{milestone.name}"
    data: JobEventBody = {
        "type": name,
        "number": milestone.number,
        "created_at": round(milestone.reached_at, 3),
        "job": {
            "id": job.id,
            "object": "job",
            "status": JobState.IN_PROGRESS if milestone.image is not None else JobState(milestone.name),
            "n": job.n,
            "delivered": milestone.delivered_count,
            "cost": encode_usd(milestone.cost),
        },
    }
    if milestone.image is not None:
        data["image"] = milestone.image
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (milestone.number, name.encode(), msgspec.json.encode(data))
