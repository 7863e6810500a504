"""OpenAI's Images API: any of its clients may ask here. It answers when the images are there, never before."""

import asyncio

from litestar import Response, post

from gateway.api import job_submission
from gateway.api.api_errors import ApiError
from gateway.api.failure_responses import build_failure_error
from gateway.api.request_parsing import (
    HttpRequest,
    build_replay_headers,
    get_context,
    json_response,
    mark_answered,
    parse_request,
    submit_or_reuse_job,
    wait_for_job,
)
from gateway.api.request_schemas import GenerationRequest
from gateway.api.serializers import build_job_headers, serialize_images
from gateway.api.server_errors import SHUTDOWN_RETRY_SECONDS, service_unavailable_error
from gateway.assets.storage import ObjectNotFound

# Longer than any job: what outlives its deadline is pictures that exist and are on their way.
MAX_JOB_WAIT_SECONDS = 3_600.0


# OpenAI's own path, those of Azure (classic and v1), and the one without a version that some base URLs lead to.
GENERATION_PATHS = [
    "/v1/images/generations",
    "/openai/deployments/{deployment:str}/images/generations",
    "/openai/v1/images/generations",
    "/images/generations",
]


@post(GENERATION_PATHS, status_code=200)
async def create_generation(request: HttpRequest) -> Response[bytes]:
    """Draw images from a prompt."""
    context = get_context(request)
    job_request, params = await parse_request(request, GenerationRequest)
    submitted = await submit_or_reuse_job(
        request, job_request, await job_submission.find_existing_job(context, job_request)
    )
    job = await wait_for_job(request, submitted.job_id, MAX_JOB_WAIT_SECONDS)
    headers = build_job_headers(job) | build_replay_headers(submitted.is_replayed)
    if not job.state.is_terminal:
        raise _still_running_error(request, headers)
    if not job.delivered_images:
        mark_answered(request)
        raise build_failure_error(job, headers)
    images = await job_submission.load_stored_images(context, job)
    if not images:
        raise ObjectNotFound(f"what is known of the images of {job.id} is gone")
    # Clients of DALL-E that name no format read links by its default, and some of them base64.
    response_format = params.response_format or ("both" if job_request.is_dalle_client else "b64_json")
    inline_images = images if response_format != "url" else []
    image_bytes = await asyncio.gather(*(job_submission.read_image(context, image) for image in inline_images))
    contents = {image.index: content for image, content in zip(inline_images, image_bytes, strict=True)}
    url_signer = None if response_format == "b64_json" else context.url_signer
    mark_answered(request)
    return json_response(serialize_images(job, images, contents, url_signer, context.wall_clock()), 200, headers)


def _still_running_error(request: HttpRequest, headers: dict[str, str]) -> ApiError:
    if get_context(request).is_draining():
        return service_unavailable_error(
            request.scope, "draining", "This gateway is shutting down.", SHUTDOWN_RETRY_SECONDS
        )
    message = (
        "The images take longer than this request can wait. The job goes on: GET /v1/jobs/{id}, id as in x-igw-job-id."
    )
    return ApiError(424, "still_running", message, headers=headers)
