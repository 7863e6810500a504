"""The images of a request's job, or the error of a job without images."""

from typing import Literal

from msgspec import Struct

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.client_presence import mark_answered
from gateway.api.failed_job_responses import build_failure_error
from gateway.api.job_submission import SubmittedJob
from gateway.api.server_error_responses import SHUTDOWN_RETRY_SECONDS, service_unavailable_error
from gateway.api.team_job_loader import load_stored_images
from gateway.assets.storage import ObjectNotFound
from gateway.engine.job_documents import StoredImage
from gateway.jobs.job import Job
from providers.orders import Operation

ResponseFormat = Literal["b64_json", "url", "both"]


class SubmittedImages(Struct, frozen=True, kw_only=True):
    """A request's job, and the form of the images in its response. `is_streamed`: as a stream of events."""

    job: SubmittedJob
    operation: Operation
    response_format: ResponseFormat
    is_streamed: bool
    safety_identifier: str | None


async def load_images_of_ended_job(request: HttpRequest, job: Job, headers: dict[str, str]) -> list[StoredImage]:
    """Returns the delivered images. Raises the ApiError of a job that still runs, or that has no images."""
    if not job.state.is_terminal:
        raise _still_running_error(request, headers)
    if not job.delivered_images:
        mark_answered(request.scope["state"])
        raise build_failure_error(job, headers)
    images = await load_stored_images(get_context(request), job)
    if not images:
        raise ObjectNotFound(f"the image documents of {job.id} were deleted")
    return images


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
