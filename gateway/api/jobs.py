"""Our own surface: jobs that can be waited for, or asked about later."""

from typing import Any

from litestar import Response, get, post
from msgspec.structs import replace

from gateway.api import job_submission
from gateway.api.input_images import load_input_images
from gateway.api.job_submission import ApiContext, SubmittedJob
from gateway.api.request_parsing import (
    HttpRequest,
    build_replay_headers,
    confirm_job,
    get_context,
    json_response,
    mark_answered,
    parse_prefer_wait,
    parse_request,
    parse_wait_param,
    submit_or_reuse_job,
    wait_for_job,
)
from gateway.api.request_schemas import CreateJobRequest, InputImageRef, list_input_refs
from gateway.api.serializers import JobView, build_job_headers, serialize_job
from gateway.jobs.job import Job
from gateway.store.base import DAY_SECONDS

JOBS_PATH = "/v1/jobs"
MAX_RETRY_AFTER_SECONDS, RETRY_AFTER_SHARE = 10, 0.1


@post(JOBS_PATH, status_code=202)
async def create_job(request: HttpRequest) -> Response[bytes]:
    """Accept a job, and answer at once, or after waiting as `Prefer: wait=N` says."""
    context = get_context(request)
    submitted = await _submit_job(request)
    wait_seconds = parse_prefer_wait(request.headers.get("prefer"))
    job = await confirm_job(request, await wait_for_job(request, submitted.job_id, wait_seconds or 0.0))
    headers = (
        build_job_headers(job)
        | build_replay_headers(submitted.is_replayed)
        | {"location": f"{JOBS_PATH}/{job.id}", "vary": "Prefer"}
    )
    if wait_seconds is not None:
        headers["preference-applied"] = f"wait={wait_seconds:.0f}"
    headers |= _build_retry_after_headers(job, context.wall_clock())
    body = await _load_serialized_job(context, job)
    mark_answered(request)
    return json_response(body, 200 if job.state.is_terminal else 202, headers)


async def _submit_job(request: HttpRequest) -> SubmittedJob:
    """What was sent ends with this, before anybody waits: it may be large."""
    context = get_context(request)
    job_request, params = await parse_request(request, CreateJobRequest)
    if existing := await job_submission.find_existing_job(context, job_request):
        return await submit_or_reuse_job(request, job_request, existing)
    mask = InputImageRef(image_url=params.mask) if isinstance(params.mask, str) else params.mask
    image_refs = list_input_refs(params)
    with context.input_fetcher.open_request(job_request.team) as fetcher:
        input_images = await load_input_images(fetcher, image_refs, mask)
        inline_images = [
            input_image for (_, ref), input_image in zip(image_refs, input_images.inputs, strict=True) if not ref.is_url
        ]
        await request.state["body_receiver"].reserve(
            sum(len(input_image.content.data) for input_image in inline_images)
        )
        return await submit_or_reuse_job(request, replace(job_request, input_images=input_images))


@get(f"{JOBS_PATH}/{{job_id:str}}")
async def get_job(request: HttpRequest, job_id: str) -> Response[bytes]:
    """A job as it is, or, with `?wait=N`, as it is when it has ended or after so many seconds."""
    job = await wait_for_job(request, job_id, parse_wait_param(request.query_params.get("wait")))
    context = get_context(request)
    return json_response(
        await _load_serialized_job(context, job),
        200,
        build_job_headers(job) | _build_retry_after_headers(job, context.wall_clock()),
    )


def _build_retry_after_headers(job: Job, now: float) -> dict[str, str]:
    """Ever more seldom the longer it takes, unless there is nothing more to come."""
    if job.state.is_terminal:
        return {}
    seconds = min(MAX_RETRY_AFTER_SECONDS, 1 + int((now - job.created_at) * RETRY_AFTER_SHARE))
    return {"retry-after": str(seconds), "openai-poll-after-ms": str(seconds * 1000)}


async def _load_serialized_job(context: ApiContext, job: Job) -> dict[str, Any]:
    retention_seconds = context.catalogue().gateway.retention.jobs_days * DAY_SECONDS
    view = JobView(job, await job_submission.load_job_documents(context, job), context.wall_clock(), retention_seconds)
    return serialize_job(view, context.url_signer)
