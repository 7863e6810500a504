"""The jobs API: create a job, poll or wait for it, cancel it."""

from litestar import Response, get, post
from msgspec.structs import replace

from gateway.api.access_control import GENERATE, READ
from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.authentication import get_team
from gateway.api.client_presence import mark_answered
from gateway.api.image_download_responses import has_matching_etag
from gateway.api.image_request_submission import submit_image_request
from gateway.api.job_submission import SubmittedJob
from gateway.api.job_wait import confirm_job, parse_prefer_wait, parse_wait_param, wait_for_job
from gateway.api.json_responses import build_job_headers, build_poll_headers, build_replay_headers, json_response
from gateway.api.parameter_table import CreateJobRequest
from gateway.api.query_params import read_query_params
from gateway.api.request_parsing import parse_request
from gateway.api.response_types import JobBody
from gateway.api.serializers import URL_TTL_SECONDS, JobView, serialize_job
from gateway.api.team_job_loader import get_team_job, load_job_documents, make_job_not_found_error
from gateway.api.webhooks.webhook_checks import require_signing_secret, require_valid_webhook
from gateway.assets.storage import ObjectNotFound
from gateway.jobs.job import Job, JobState

JOBS_PATH = "/v1/jobs"


@post(JOBS_PATH, status_code=202, opt=GENERATE)
async def create_job(request: HttpRequest) -> Response[bytes]:
    """Creates a job. Responds at once, or after `Prefer: wait=N`."""
    context = get_context(request)
    submitted = await _submit_job(request)
    wait_seconds = parse_prefer_wait(request.headers.get("prefer"))
    job = await confirm_job(request, await wait_for_job(request, submitted.job_id, wait_seconds or 0.0))
    headers = build_job_headers(job) | build_replay_headers(submitted.is_replayed)
    headers |= {"location": f"{JOBS_PATH}/{job.id}", "vary": "Prefer"}
    if wait_seconds is not None:
        headers["preference-applied"] = f"wait={wait_seconds:.0f}"
    headers |= build_poll_headers(job, context.wall_clock())
    body = await load_serialized_job(context, job)
    mark_answered(request.scope["state"])
    return json_response(body, 200 if job.state.is_terminal else 202, headers)


async def _submit_job(request: HttpRequest) -> SubmittedJob:
    """Submits the job. A separate function, so that the body is freed before the request waits."""
    job_request = await parse_request(get_context(request), request, CreateJobRequest)
    require_valid_webhook(job_request.params.webhook)
    if job_request.params.webhook is not None:
        require_signing_secret(get_context(request), get_team(request), "webhook")
    return await submit_image_request(request, replace(job_request, webhook=job_request.params.webhook))


@get(f"{JOBS_PATH}/{{job_id:str}}", opt=READ)
async def get_job(request: HttpRequest, job_id: str) -> Response[bytes]:
    """Returns the job; with `?wait=N`, when it has ended or after N seconds."""
    context = get_context(request)
    job = await wait_for_job(request, job_id, parse_wait_param(read_query_params(request, "wait")["wait"]))
    headers = build_job_headers(job) | build_poll_headers(job, context.wall_clock())
    headers["etag"] = _build_etag(job, context.wall_clock())
    if has_matching_etag(request, headers["etag"]):
        return Response(b"", status_code=304, headers=headers)
    return json_response(await load_serialized_job(context, job), 200, headers)


def _build_etag(job: Job, now: float) -> str:
    """Builds a weak tag: it changes with the job, and before the URLs of its images expire."""
    return f'W/"{job.version}-{int(now // (URL_TTL_SECONDS / 2))}"'


@post(f"{JOBS_PATH}/{{job_id:str}}/cancel", status_code=200, opt=GENERATE)
async def cancel_job(request: HttpRequest, job_id: str) -> Response[bytes]:
    """Cancels the job. Images that are not ordered yet are dropped. Running orders cannot be cancelled: the job ends
    with what they deliver. `max_remaining_cost` says how much that may be."""
    context, job = get_context(request), await cancel_team_job(request, job_id)
    headers = build_job_headers(job) | build_poll_headers(job, context.wall_clock())
    headers["location"] = f"{JOBS_PATH}/{job.id}"
    return json_response(await load_serialized_job(context, job), 200 if job.state.is_terminal else 202, headers)


async def cancel_team_job(request: HttpRequest, job_id: str) -> Job:
    """Cancels the team's job. Raises ApiError if it does not exist, or has ended otherwise."""
    context = get_context(request)
    await get_team_job(context, get_team(request), job_id)
    job = await context.engine.cancel_job(job_id)
    if job is None:
        raise make_job_not_found_error()
    request.scope["state"]["job_id"] = job.id
    if job.state.is_terminal and job.state is not JobState.CANCELLED:
        message = f"The job cannot be cancelled: it has ended with the status '{job.state}'."
        raise ApiError(409, "job_ended", message, headers=build_job_headers(job))
    return job


async def load_serialized_job(context: ApiContext, job: Job) -> JobBody:
    catalogue = context.catalogue()
    model = catalogue.models.get(job.model)
    size_law = model.size_law if model else None
    view = JobView(job, await load_job_documents(context, job), context.wall_clock(), size_law)
    return serialize_job(view, context.url_signer)


async def load_job_body(context: ApiContext, job: Job) -> JobBody | None:
    """Loads the job for a webhook. Returns None if its content is deleted at this moment."""
    try:
        return await load_serialized_job(context, job)
    except ObjectNotFound:
        return None
