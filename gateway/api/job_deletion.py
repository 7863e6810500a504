"""`DELETE /v1/jobs/{id}`: deletes what a job contains. Its costs stay in the ledger."""

from collections.abc import Callable

from litestar import Response, delete

from gateway.api.access_control import GENERATE
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.json_responses import build_poll_headers, json_response
from gateway.api.team_job_loader import make_job_not_found_error

# The Retry-After while orders of an ended job are still polled: until their own deadline, a few minutes at most.
UNSETTLED_RETRY_SECONDS = 60


@delete("/v1/jobs/{job_id:str}", status_code=200, opt=GENERATE)
async def delete_job(request: HttpRequest, job_id: str) -> Response[bytes]:
    """Deletes the images, the prompt and all other text of a job at once. It may be repeated.

    Refuses a running job, since images that are already paid for would be lost. The client must cancel it first.
    """
    await delete_team_job(request, job_id)
    return json_response({"id": job_id, "object": "job.deleted", "deleted": True}, 200, {})


async def delete_team_job(
    request: HttpRequest, job_id: str, make_not_found_error: Callable[[], ApiError] = make_job_not_found_error
) -> None:
    """Deletes what the team's job contains. Raises ApiError if it does not exist, or is not settled."""
    context, team = get_context(request), get_team(request)
    job = await context.engine.get_job(job_id)
    if job is None or job.team != team:
        raise make_not_found_error()
    request.scope["state"]["job_id"] = job.id
    if (saved := await context.engine.delete_job_content(job_id)) is None:
        raise make_not_found_error()
    if not saved.state.is_terminal:
        message = f"The job is running. Cancel it with POST /v1/jobs/{job_id}/cancel, and delete it when it has ended."
        raise ApiError(409, "job_running", message, headers=build_poll_headers(saved, context.wall_clock()))
    if not saved.is_deleted:
        message = "A seller still works on an order of this job. Delete it later, when its 'kept_until' is set."
        raise ApiError(409, "job_running", message, retry_after=UNSETTLED_RETRY_SECONDS)
