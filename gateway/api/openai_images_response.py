"""Builds OpenAI's response to a generation or an edit."""

from collections.abc import Sequence
from typing import Any

from litestar import Response

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.base64_image_output import Base64Images, build_response_with_images, open_base64_images
from gateway.api.completed_job_images import SubmittedImages
from gateway.api.serializers import ImagesView, serialize_images
from gateway.engine.job_documents import StoredImage
from gateway.jobs.job import Job


async def build_images_response(
    request: HttpRequest, job: Job, images: Sequence[StoredImage], submitted: SubmittedImages, headers: dict[str, str]
) -> Response[Any]:
    base64_images = await open_requested_images(request, images, submitted)
    view = make_images_view(request, job, images, submitted, base64_images)
    return build_response_with_images(request, serialize_images(view), base64_images.streams, headers)


async def open_requested_images(
    request: HttpRequest, images: Sequence[StoredImage], submitted: SubmittedImages
) -> Base64Images:
    """Opens the images that are sent as base64: none if the client asked for URLs."""
    return await open_base64_images(request, images if submitted.response_format != "url" else [])


def make_images_view(
    request: HttpRequest,
    job: Job,
    images: Sequence[StoredImage],
    submitted: SubmittedImages,
    base64_images: Base64Images,
) -> ImagesView:
    context = get_context(request)
    return ImagesView(
        job=job,
        images=images,
        contents=base64_images.contents,
        url_signer=None if submitted.response_format == "b64_json" else context.url_signer,
        now=context.wall_clock(),
        safety_identifier=submitted.safety_identifier,
    )
