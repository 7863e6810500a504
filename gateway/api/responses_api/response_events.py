"""The events of a streamed response: all, or those after the last one that the client has.

A failed job ends its stream with `response.failed`, and with an `error` event, from which OpenAI's SDKs raise an
exception.
"""

from collections.abc import AsyncIterator, Iterable

from msgspec.structs import replace

from gateway.api.api_context import HttpRequest
from gateway.api.api_errors import ApiError
from gateway.api.base64_image_output import fill_template, open_base64_images
from gateway.api.completed_job_images import load_images_of_ended_job
from gateway.api.job_result_event_stream import render_event
from gateway.api.json_responses import build_job_headers
from gateway.api.responses_api.response_serializer import (
    Event,
    ResponseView,
    serialize_end_events,
    serialize_start_events,
)
from gateway.api.server_error_responses import select_charge_sentence
from gateway.engine.job_documents import StoredImage
from gateway.jobs.job import Job


class ResponseEvents:
    """The `ResultEvents` of the Responses API. `view`: the response as it began. `starting_after`: the number of the
    last event that the client has."""

    def __init__(
        self, request: HttpRequest, view: ResponseView, headers: dict[str, str], starting_after: int = -1
    ) -> None:
        self._request, self._view, self._starting_after = request, view, starting_after
        self._extra_headers = headers

    def build_headers(self, job: Job) -> dict[str, str]:
        return build_job_headers(job) | self._extra_headers

    async def prepare_start(self, job: Job) -> bytes:
        return self._render(serialize_start_events(self._view))

    async def prepare_end(self, job: Job) -> AsyncIterator[bytes]:
        images = await load_images_of_ended_job(self._request, job, self.build_headers(job))
        view = replace(self._view, job=job, images=images)
        base64_images = await open_base64_images(self._request, self._list_sent_images(view))
        template = self._render(serialize_end_events(replace(view, contents=base64_images.contents)))
        return fill_template(self._request, template, base64_images.streams)

    def render_error(self, job: Job, error: ApiError) -> bytes:
        events = serialize_start_events(self._view)
        last_number = events[-1]["sequence_number"]
        failure: list[Event] = []
        if job.state.is_terminal and not job.delivered_images:
            failure = serialize_end_events(replace(self._view, job=job))
            last_number += len(failure) + 1
        body = error.build_openai_body(select_charge_sentence(self._request.scope))
        error_event = {**body["error"], **body, "type": "error", "sequence_number": last_number}
        return self._render(failure) + render_event("error", error_event)

    def _render(self, events: Iterable[Event]) -> bytes:
        return b"".join(render_event(event["type"], event) for event in events if self._is_new(event))

    def _is_new(self, event: Event) -> bool:
        number: int = event["sequence_number"]
        return number > self._starting_after

    def _list_sent_images(self, view: ResponseView) -> list[StoredImage]:
        """Lists the images as often as the events have them: those of their own events, and all in the last one."""
        by_index = {image.index: image for image in view.images}
        sent: list[StoredImage] = []
        for event in filter(self._is_new, serialize_end_events(view)):
            if "item" in event:
                sent.append(by_index[event["output_index"]])
            elif "response" in event:
                sent += view.images
        return sent
