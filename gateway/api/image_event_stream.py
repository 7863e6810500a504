"""The events of a streamed generation or edit: one `completed` event for each image.

No other events are sent, since OpenAI's SDKs return any event as an image.
"""

from collections.abc import AsyncIterator

from gateway.api.api_context import HttpRequest
from gateway.api.api_errors import ApiError
from gateway.api.base64_image_output import fill_template
from gateway.api.completed_job_images import SubmittedImages, load_images_of_ended_job
from gateway.api.job_result_event_stream import render_event
from gateway.api.json_responses import build_job_headers, build_replay_headers
from gateway.api.openai_images_response import make_images_view, open_requested_images
from gateway.api.serializers import serialize_image_events
from gateway.api.server_error_responses import select_charge_sentence
from gateway.jobs.job import Job
from providers.orders import Operation

_EVENT_TYPES = {Operation.GENERATE: "image_generation.completed", Operation.EDIT: "image_edit.completed"}


class ImageEvents:
    """The `ResultEvents` of OpenAI's Images API."""

    def __init__(self, request: HttpRequest, submitted: SubmittedImages) -> None:
        self._request, self._submitted = request, submitted

    def build_headers(self, job: Job) -> dict[str, str]:
        return build_job_headers(job) | build_replay_headers(self._submitted.job.is_replayed)

    async def prepare_start(self, job: Job) -> bytes:
        return b""

    async def prepare_end(self, job: Job) -> AsyncIterator[bytes]:
        images = await load_images_of_ended_job(self._request, job, self.build_headers(job))
        base64_images = await open_requested_images(self._request, images, self._submitted)
        view = make_images_view(self._request, job, images, self._submitted, base64_images)
        events = serialize_image_events(view, _EVENT_TYPES[self._submitted.operation])
        template = b"".join(render_event(event["type"], event) for event in events)
        return fill_template(self._request, template, base64_images.streams)

    def render_error(self, job: Job, error: ApiError) -> bytes:
        body = error.build_openai_body(select_charge_sentence(self._request.scope))
        return render_event("error", {"type": "error", **body})
