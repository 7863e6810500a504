"""OpenAI's Images API. Responds when the images are complete."""

from typing import Any

from litestar import Response, post

from gateway.api.access_control import GENERATE
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.client_presence import mark_answered
from gateway.api.failed_job_responses import build_failure_error
from gateway.api.image_responses import build_images_response
from gateway.api.job_submission import find_existing_job, submit_or_reuse_job
from gateway.api.job_wait import wait_for_job
from gateway.api.json_responses import build_job_headers, build_replay_headers
from gateway.api.parameters import GenerationRequest
from gateway.api.request_parsing import parse_request
from gateway.api.server_errors import SHUTDOWN_RETRY_SECONDS, service_unavailable_error
from gateway.api.team_job_loader import load_stored_images
from gateway.assets.storage import ObjectNotFound

# OpenAI's path, Azure's (classic and v1), and the path of base URLs without a version.
GENERATION_PATHS = [
    "/v1/images/generations",
    "/openai/deployments/{deployment:str}/images/generations",
    "/openai/v1/images/generations",
    "/images/generations",
]


@post(GENERATION_PATHS, status_code=200, opt=GENERATE)
async def create_generation(request: HttpRequest) -> Response[Any]:
    """Generates images from a prompt."""
    context, state = get_context(request), request.scope["state"]
    job_request = await parse_request(context, request, GenerationRequest)
    if job_request.params.stream:
        message = "'stream' is not supported yet: omit it. The response has all images."
        raise ApiError(400, "unsupported_parameter", message, param="stream")
    submitted = await submit_or_reuse_job(context, state, job_request, await find_existing_job(context, job_request))
    job = await wait_for_job(request, submitted.job_id, context.timing.api.job_wait_timeout_seconds)
    headers = build_job_headers(job) | build_replay_headers(submitted.is_replayed)
    if not job.state.is_terminal:
        raise _still_running_error(request, headers)
    if not job.delivered_images:
        mark_answered(state)
        raise build_failure_error(job, headers)
    images = await load_stored_images(context, job)
    if not images:
        raise ObjectNotFound(f"the image documents of {job.id} were deleted")
    # Most DALL-E clients that set no response_format expect URLs, others expect base64: send both.
    response_format = job_request.params.response_format or ("both" if job_request.is_dalle_client else "b64_json")
    return await build_images_response(request, job, images, response_format, headers)


def _still_running_error(request: HttpRequest, headers: dict[str, str]) -> ApiError:
    if get_context(request).is_draining():
        return service_unavailable_error(
            request.scope, "draining", "This gateway is shutting down.", SHUTDOWN_RETRY_SECONDS
        )
    message = (
        "The images were not completed in time for this response. The job continues: "
        "GET /v1/jobs/{id} with the id from x-igw-job-id."
    )
    return ApiError(424, "still_running", message, headers=headers)
