"""Waits until a job ends or is confirmed. Stops waiting when its client disconnects."""

import asyncio
import re
from collections.abc import Coroutine
from typing import Any

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.failed_job_responses import build_failure_error
from gateway.api.incoming_body_limiter import get_incoming_body
from gateway.api.job_submission import wait_for_confirmation
from gateway.api.json_responses import build_job_headers
from gateway.api.team_job_loader import get_team_job
from gateway.jobs.job import Job

MAX_WAIT_SECONDS = 300.0
_PREFER_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})", re.IGNORECASE)


async def wait_for_job(http_request: HttpRequest, job_id: str, timeout_seconds: float) -> Job:
    """Returns the team's job when it has ended, or after `timeout_seconds`."""
    context, team = get_context(http_request), get_team(http_request)
    state = http_request.scope["state"]
    # Many requests may wait here for long, so the body's memory is released first.
    get_incoming_body(state).release()
    started_at = context.wall_clock()
    job_coroutine = get_team_job(context, team, job_id, timeout_seconds)
    job = await (_cancel_on_disconnect(http_request, job_coroutine) if timeout_seconds > 0 else job_coroutine)
    state["waited_seconds"] = context.wall_clock() - started_at
    # The path may contain any text, so the id is recorded only if the job exists.
    state["job_id"] = job.id
    return job


async def confirm_job(http_request: HttpRequest, job: Job) -> Job:
    """Makes sure that the job is ordered even if this process ends. A response may promise the job only after that.

    Raises ApiError if another replica has withdrawn the job.
    """
    if not (job.state.is_terminal or job.is_confirmed):
        job = await _cancel_on_disconnect(http_request, wait_for_confirmation(get_context(http_request), job.id))
    if job.is_withdrawn:
        raise build_failure_error(job, build_job_headers(job))
    return job


async def _cancel_on_disconnect(http_request: HttpRequest, job_coroutine: Coroutine[Any, Any, Job]) -> Job:
    """Awaits the coroutine, and cancels it when the client disconnects. The job itself continues."""
    job_task = asyncio.create_task(job_coroutine)
    disconnect_task = asyncio.create_task(_wait_for_disconnect(http_request))
    try:
        await asyncio.wait((job_task, disconnect_task), return_when=asyncio.FIRST_COMPLETED)
        if not job_task.done():
            raise ApiError(499, "client_left", "The client disconnected. The job continues.")
        return job_task.result()
    finally:
        job_task.cancel()
        disconnect_task.cancel()


async def _wait_for_disconnect(http_request: HttpRequest) -> None:
    """Returns when the client disconnects. The body has been read, so no other message follows."""
    while (await http_request.receive())["type"] != "http.disconnect":
        pass


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
