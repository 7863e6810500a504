"""Builds OpenAI's response with images. Large images are streamed as base64, so that they are never in memory as
a whole."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import msgspec
from litestar import Response
from litestar.response import Stream
from msgspec import Struct

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.base64_encoder import compute_base64_size
from gateway.api.client_presence import mark_answered
from gateway.api.completed_job_images import SubmittedImages
from gateway.api.json_responses import json_response
from gateway.api.request_lifecycle import get_image_streams, get_response_memory
from gateway.api.serializers import ImagesView, serialize_images
from gateway.api.server_error_responses import service_unavailable_error
from gateway.assets.backend import CHUNK_BYTES
from gateway.assets.storage import ObjectStream
from gateway.engine.job_documents import StoredImage
from gateway.jobs.job import Job
from gateway.memory_budget import SMALL_BODY_BYTES

# Images of this size together are sent in one piece, outside of the memory budget.
MAX_INLINE_BYTES = SMALL_BODY_BYTES
# A streamed response holds at once: a chunk, its base64, and the base64 that the connection has not sent yet; besides,
# what the storage reads ahead.
STREAM_MEMORY_BYTES = CHUNK_BYTES + 2 * compute_base64_size(CHUNK_BYTES)
MEMORY_RETRY_SECONDS = 2
# The field in whose value an image is sent. It cannot occur within a text, where its quotes would be escaped.
_EMPTY_FIELD = b'"b64_json":""'


class OpenedImages(Struct, frozen=True):
    """Images that can be sent. `streams`: of images that are too large for one piece; their contents are empty."""

    view: ImagesView
    streams: Sequence[ObjectStream]


async def build_images_response(
    request: HttpRequest, job: Job, images: Sequence[StoredImage], submitted: SubmittedImages, headers: dict[str, str]
) -> Response[Any]:
    opened = await open_images(request, job, images, submitted)
    body = serialize_images(opened.view)
    if opened.streams:
        return _stream_images(request, msgspec.json.encode(body), opened.streams, headers)
    mark_answered(request.scope["state"])
    return json_response(body, 200, headers)


async def open_images(
    request: HttpRequest, job: Job, images: Sequence[StoredImage], submitted: SubmittedImages
) -> OpenedImages:
    """Reads small images, and opens large ones once there is memory for their streams.

    All images are opened before the first byte is sent.
    """
    context = get_context(request)
    inline_images = images if submitted.response_format != "url" else []
    streams: Sequence[ObjectStream] = ()
    if sum(image.bytes for image in inline_images) > MAX_INLINE_BYTES:
        await _reserve_memory(request)
        streams = [await _open_image(request, image.key) for image in inline_images]
        contents = {image.index: b"" for image in inline_images}
    else:
        image_bytes = await asyncio.gather(*(context.storage.get(image.key) for image in inline_images))
        contents = {image.index: content for image, content in zip(inline_images, image_bytes, strict=True)}
    view = ImagesView(
        job=job,
        images=images,
        contents=contents,
        url_signer=None if submitted.response_format == "b64_json" else context.url_signer,
        now=context.wall_clock(),
        safety_identifier=submitted.safety_identifier,
    )
    return OpenedImages(view, streams)


def _stream_images(
    request: HttpRequest, template: bytes, streams: Sequence[ObjectStream], headers: dict[str, str]
) -> Stream:
    """Streams the JSON of the template.

    If an image cannot be read later, the connection is aborted: then fewer bytes arrive than Content-Length says.
    """
    size_bytes = len(template) + sum(compute_base64_size(stream.size) for stream in streams)
    headers = {"cache-control": "no-store", "content-length": str(size_bytes), **headers}
    return Stream(fill_template(request, template, streams), media_type="application/json", headers=headers)


async def _reserve_memory(request: HttpRequest) -> None:
    context, memory = get_context(request), get_response_memory(request.scope["state"])
    try:
        async with asyncio.timeout(context.timing.api.memory_timeout_seconds):
            await memory.grow_to(STREAM_MEMORY_BYTES + context.storage.stream_buffer_bytes)
    except TimeoutError:
        cause = "Too many responses with large images at once."
        raise service_unavailable_error(request.scope, "images_unavailable", cause, MEMORY_RETRY_SECONDS) from None


async def _open_image(request: HttpRequest, key: str) -> ObjectStream:
    stream = await get_context(request).storage.open_stream(key)
    get_image_streams(request.scope["state"]).append(stream)
    return stream


async def fill_template(request: HttpRequest, template: bytes, streams: Sequence[ObjectStream]) -> AsyncIterator[bytes]:
    """Yields the template, in which the `b64_json` of each image with a stream is empty, with the images in place."""
    # Without streams, the images are in the template.
    start, *continuations = template.split(_EMPTY_FIELD) if streams else [template]
    yield start
    for stream, continuation in zip(streams, continuations, strict=True):
        yield _EMPTY_FIELD[:-1]
        async for chunk in get_context(request).base64_encoder.encode(stream):
            yield chunk
        stream.close()
        yield _EMPTY_FIELD[-1:] + continuation
    mark_answered(request.scope["state"])
