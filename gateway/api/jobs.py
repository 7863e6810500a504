"""The jobs API: create a job, and poll or wait for it."""

from litestar import Response, get, post

from gateway.api.access_control import GENERATE, READ
from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.client_presence import mark_answered
from gateway.api.image_request_submission import submit_image_request
from gateway.api.job_submission import SubmittedJob
from gateway.api.job_wait import confirm_job, parse_prefer_wait, parse_wait_param, wait_for_job
from gateway.api.json_responses import build_job_headers, build_poll_headers, build_replay_headers, json_response
from gateway.api.parameter_table import CreateJobRequest
from gateway.api.request_parsing import parse_request
from gateway.api.response_types import JobBody
from gateway.api.serializers import JobView, serialize_job
from gateway.api.team_job_loader import load_job_documents
from gateway.jobs.job import Job
from gateway.store.base import DAY_SECONDS

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
    body = await _load_serialized_job(context, job)
    mark_answered(request.scope["state"])
    return json_response(body, 200 if job.state.is_terminal else 202, headers)


async def _submit_job(request: HttpRequest) -> SubmittedJob:
    """Submits the job. A separate function, so that the body is freed before the request waits."""
    return await submit_image_request(request, await parse_request(get_context(request), request, CreateJobRequest))


@get(f"{JOBS_PATH}/{{job_id:str}}", opt=READ)
async def get_job(request: HttpRequest, job_id: str) -> Response[bytes]:
    """Returns the job; with `?wait=N`, when it has ended or after N seconds."""
    context = get_context(request)
    job = await wait_for_job(request, job_id, parse_wait_param(request.query_params.get("wait")))
    headers = build_job_headers(job) | build_poll_headers(job, context.wall_clock())
    return json_response(await _load_serialized_job(context, job), 200, headers)


async def _load_serialized_job(context: ApiContext, job: Job) -> JobBody:
    catalogue = context.catalogue()
    retention_seconds = catalogue.gateway.retention.jobs_days * DAY_SECONDS
    model = catalogue.models.get(job.model)
    size_law = model.size_law if model else None
    view = JobView(job, await load_job_documents(context, job), context.wall_clock(), retention_seconds, size_law)
    return serialize_job(view, context.url_signer)
