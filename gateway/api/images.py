"""OpenAI's Images API. Responds when the images are complete.

Each route has OpenAI's path, Azure's paths (classic and v1), and the path of base URLs without a version.
"""

from typing import Any

from litestar import Response, post
from msgspec import Struct

from gateway.api.access_control import GENERATE
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.client_presence import mark_answered
from gateway.api.failed_job_responses import build_failure_error
from gateway.api.image_request_submission import submit_image_request
from gateway.api.image_responses import ResponseFormat, build_images_response
from gateway.api.job_submission import SubmittedJob
from gateway.api.job_wait import wait_for_job
from gateway.api.json_responses import build_job_headers, build_replay_headers
from gateway.api.parameters import EditRequest, GenerationRequest
from gateway.api.request_parsing import parse_request
from gateway.api.server_errors import SHUTDOWN_RETRY_SECONDS, service_unavailable_error
from gateway.api.team_job_loader import load_stored_images
from gateway.assets.storage import ObjectNotFound

_PATH_PREFIXES = ("/v1/images", "/openai/deployments/{deployment:str}/images", "/openai/v1/images", "/images")
GENERATION_PATHS = [f"{prefix}/generations" for prefix in _PATH_PREFIXES]
EDIT_PATHS = [f"{prefix}/edits" for prefix in _PATH_PREFIXES]
VARIATION_PATHS = [f"{prefix}/variations" for prefix in _PATH_PREFIXES]


class SubmittedImages(Struct, frozen=True):
    """A request's job, and the form of the images in its response."""

    job: SubmittedJob
    response_format: ResponseFormat


@post(GENERATION_PATHS, status_code=200, opt=GENERATE)
async def create_generation(request: HttpRequest) -> Response[Any]:
    """Generates images from a prompt."""
    return await _respond_with_images(request, await _submit_images(request, GenerationRequest))


@post(EDIT_PATHS, status_code=200, opt=GENERATE)
async def create_edit(request: HttpRequest) -> Response[Any]:
    """Edits images as a prompt says. The body is a form with files, or JSON."""
    return await _respond_with_images(request, await _submit_images(request, EditRequest))


@post(VARIATION_PATHS, opt=GENERATE)
async def create_variation(request: HttpRequest) -> None:
    """Refuses variations, which OpenAI has retired, too."""
    message = (
        "Variations are retired, as at OpenAI. Send the image with a prompt that describes the variation to "
        f"{request.scope['path'].removesuffix('variations')}edits."
    )
    raise ApiError(410, "endpoint_retired", message)


async def _submit_images(
    request: HttpRequest, body_type: type[GenerationRequest] | type[EditRequest]
) -> SubmittedImages:
    """Submits the job. A separate function, so that the body is freed before the request waits."""
    job_request = await parse_request(get_context(request), request, body_type)
    if job_request.params.stream:
        message = "'stream' is not supported yet: omit it. The response has all images."
        raise ApiError(400, "unsupported_parameter", message, param="stream")
    # Most DALL-E clients that set no response_format expect URLs, others expect base64: send both.
    response_format = job_request.params.response_format or ("both" if job_request.is_dalle_client else "b64_json")
    return SubmittedImages(await submit_image_request(request, job_request), response_format)


async def _respond_with_images(request: HttpRequest, submitted: SubmittedImages) -> Response[Any]:
    context, state = get_context(request), request.scope["state"]
    job = await wait_for_job(request, submitted.job.job_id, context.timing.api.job_wait_timeout_seconds)
    headers = build_job_headers(job) | build_replay_headers(submitted.job.is_replayed)
    if not job.state.is_terminal:
        raise _still_running_error(request, headers)
    if not job.delivered_images:
        mark_answered(state)
        raise build_failure_error(job, headers)
    images = await load_stored_images(context, job)
    if not images:
        raise ObjectNotFound(f"the image documents of {job.id} were deleted")
    return await build_images_response(request, job, images, submitted.response_format, headers)


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
