"""OpenAI's Images API. Responds when the images are complete, or with a stream of events.

Each route has OpenAI's path, Azure's paths (classic and v1), and the path of base URLs without a version.
"""

from typing import Any

from litestar import Response, post

from gateway.api.access_control import GENERATE
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.completed_job_images import SubmittedImages, load_images_of_ended_job
from gateway.api.image_event_stream import ImageEvents
from gateway.api.image_request_submission import submit_image_request
from gateway.api.job_result_event_stream import stream_job_result
from gateway.api.job_wait import wait_for_job
from gateway.api.json_responses import build_job_headers, build_replay_headers
from gateway.api.openai_images_response import build_images_response
from gateway.api.parameter_table import EditRequest, GenerationRequest
from gateway.api.request_parsing import parse_request

_PATH_PREFIXES = ("/v1/images", "/openai/deployments/{deployment:str}/images", "/openai/v1/images", "/images")
GENERATION_PATHS = [f"{prefix}/generations" for prefix in _PATH_PREFIXES]
EDIT_PATHS = [f"{prefix}/edits" for prefix in _PATH_PREFIXES]
VARIATION_PATHS = [f"{prefix}/variations" for prefix in _PATH_PREFIXES]


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
    params = job_request.params
    return SubmittedImages(
        job=await submit_image_request(request, job_request),
        operation=job_request.operation,
        # Most DALL-E clients that set no response_format expect URLs, others expect base64: send both.
        response_format=params.response_format or ("both" if job_request.is_dalle_client else "b64_json"),
        is_streamed=params.stream,
        safety_identifier=params.safety_identifier or params.user,
    )


async def _respond_with_images(request: HttpRequest, submitted: SubmittedImages) -> Response[Any]:
    if submitted.is_streamed:
        return await stream_job_result(request, submitted.job.job_id, ImageEvents(request, submitted))
    timeout_seconds = get_context(request).timing.api.job_wait_timeout_seconds
    job = await wait_for_job(request, submitted.job.job_id, timeout_seconds)
    headers = build_job_headers(job) | build_replay_headers(submitted.job.is_replayed)
    images = await load_images_of_ended_job(request, job, headers)
    return await build_images_response(request, job, images, submitted, headers)
