"""Waits until a job ends or is confirmed. Stops waiting when its client disconnects."""

import asyncio
import re
from collections.abc import Iterator
from contextlib import contextmanager

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.failed_job_responses import build_failure_error
from gateway.api.http_protocol import ClientConnection
from gateway.api.incoming_body_limiter import get_incoming_body
from gateway.api.job_submission import wait_for_confirmation
from gateway.api.json_responses import build_job_headers
from gateway.api.team_job_loader import get_team_job
from gateway.jobs.job import Job
from gateway.store.base import StoreUnavailable

MAX_WAIT_SECONDS = 300.0
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", re.IGNORECASE)


async def wait_for_job(http_request: HttpRequest, job_id: str, timeout_seconds: float) -> Job:
    """Returns the team's job when it has ended, or after `timeout_seconds`."""
    context, team = get_context(http_request), get_team(http_request)
    state = http_request.scope["state"]
    # Many requests may wait here for long, so the body's memory is released first.
    get_incoming_body(state).release()
    started_at = context.wall_clock()
    with stop_on_disconnect(http_request):
        job = await get_team_job(context, team, job_id, timeout_seconds)
    state["waited_seconds"] = context.wall_clock() - started_at
    # The path may contain any text, so the id is recorded only if the job exists.
    state["job_id"] = job.id
    return job


async def confirm_job(http_request: HttpRequest, job: Job) -> Job:
    """Makes sure that the job is ordered even if this process ends. A response may promise the job only after that.

    Raises ApiError if another replica has withdrawn the job, and StoreUnavailable if that is not saved in time.
    """
    if not (job.state.is_terminal or job.is_confirmed):
        context = get_context(http_request)
        try:
            with stop_on_disconnect(http_request):
                async with asyncio.timeout(context.timing.api.confirmation_timeout_seconds):
                    job = await wait_for_confirmation(context, job.id)
        except TimeoutError:
            raise StoreUnavailable(f"the confirmation of {job.id} was not saved in time") from None
    if job.is_withdrawn:
        raise build_failure_error(job, build_job_headers(job))
    return job


@contextmanager
def stop_on_disconnect(http_request: HttpRequest) -> Iterator[None]:
    """Cancels the block, and raises ApiError, if the client disconnects. The job itself continues."""
    connection: ClientConnection | None = http_request.scope["state"].get("client_connection")
    task = asyncio.current_task()
    if connection is None or task is None:
        yield
        return
    cancellations = task.cancelling()
    if not connection.is_disconnected:
        try:
            with connection.call_on_disconnect(task.cancel):
                yield
            return
        except asyncio.CancelledError:
            # The shutdown and the end of the API key may cancel the request at the same time.
            if not connection.is_disconnected or task.uncancel() > cancellations:
                raise
    raise ApiError(499, "client_left", "The client disconnected. The job continues.")


def parse_prefer_wait(header: str | None) -> float | None:
    """Parses `Prefer: wait=N` and ignores all other preferences. Returns None without `wait`."""
    match = _PREFER_WAIT.search(header or "")
    return min(float(match[1]), MAX_WAIT_SECONDS) if match else None


def parse_wait_param(texts: list[str]) -> float:
    if not texts:
        return 0.0
    [text] = texts
    if not text.isascii() or not text.isdigit():
        raise ApiError(
            400, "invalid_value", "Invalid value for 'wait': must be a whole number of seconds.", param="wait"
        )
    return min(float(text[:9]), MAX_WAIT_SECONDS)
