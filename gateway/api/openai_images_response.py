"""Builds OpenAI's response to a generation or an edit."""

from collections.abc import Sequence
from typing import Any

from litestar import Response

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.completed_job_images import SubmittedImages
from gateway.api.inline_images import InlineImages, build_response_with_images, open_inline_images
from gateway.api.serializers import ImagesView, serialize_images
from gateway.engine.job_documents import StoredImage
from gateway.jobs.job import Job


async def build_images_response(
    request: HttpRequest, job: Job, images: Sequence[StoredImage], submitted: SubmittedImages, headers: dict[str, str]
) -> Response[Any]:
    inline_images = await open_requested_images(request, images, submitted)
    view = make_images_view(request, job, images, submitted, inline_images)
    return build_response_with_images(request, serialize_images(view), inline_images.streams, headers)


async def open_requested_images(
    request: HttpRequest, images: Sequence[StoredImage], submitted: SubmittedImages
) -> InlineImages:
    """Opens the images that are sent as base64: none if the client asked for URLs."""
    return await open_inline_images(request, images if submitted.response_format != "url" else [])


def make_images_view(
    request: HttpRequest,
    job: Job,
    images: Sequence[StoredImage],
    submitted: SubmittedImages,
    inline_images: InlineImages,
) -> ImagesView:
    context = get_context(request)
    return ImagesView(
        job=job,
        images=images,
        contents=inline_images.contents,
        url_signer=None if submitted.response_format == "b64_json" else context.url_signer,
        now=context.wall_clock(),
        safety_identifier=submitted.safety_identifier,
    )
