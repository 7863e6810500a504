"""Images as base64 within JSON. Large images are streamed, so that they are never in memory as a whole."""

import asyncio
import base64
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import msgspec
from litestar import Response
from litestar.response import Stream
from msgspec import Struct

from gateway.api.api_context import ApiContext, HttpRequest, get_context
from gateway.api.base64_encoder import Base64Encoder, compute_base64_size
from gateway.api.client_presence import mark_answered
from gateway.api.json_responses import json_response
from gateway.api.request_lifecycle import get_image_streams, get_response_memory
from gateway.api.server_error_responses import service_unavailable_error
from gateway.assets.backend import CHUNK_BYTES
from gateway.assets.storage import ObjectStream
from gateway.engine.job_documents import StoredImage
from gateway.memory_budget import SMALL_BODY_BYTES

# Images of at most this total size are sent in one piece, outside of the memory budget.
MAX_INLINE_BYTES = SMALL_BODY_BYTES
# A streamed response holds a chunk, its base64, and the base64 that the connection has not sent yet. The memory that
# the storage reads ahead is added to it.
STREAM_MEMORY_BYTES = CHUNK_BYTES + 2 * compute_base64_size(CHUNK_BYTES)
MEMORY_RETRY_SECONDS = 2
# A placeholder for the JSON value of a streamed image. It is unique: the encoder writes no space before other values,
# and escapes quotes within a text.
STREAMED_CONTENT = msgspec.Raw(b' ""')
_MARKER = b': ""'


class Base64Images(Struct, frozen=True):
    """Images that can be sent. `contents`: their JSON values, by index. `streams`: of images that are too large for one
    piece, in the order in which they are sent."""

    contents: Mapping[int, str | msgspec.Raw] = {}
    streams: Sequence[ObjectStream] = ()


async def open_base64_images(request: HttpRequest, images: Sequence[StoredImage]) -> Base64Images:
    """Reads small images, and opens large ones once there is memory for their streams.

    All images are opened before the first byte is sent. `images`: in the order in which they are sent; one that is sent
    twice occurs twice.
    """
    if sum(image.bytes for image in images) > MAX_INLINE_BYTES:
        await _reserve_memory(request)
        streams = [await _open_image(request, image.key) for image in images]
        return Base64Images({image.index: STREAMED_CONTENT for image in images}, streams)
    contents = await _read_images(get_context(request), images)
    return Base64Images({index: base64.b64encode(content).decode() for index, content in contents.items()})


async def _read_images(context: ApiContext, images: Sequence[StoredImage]) -> dict[int, bytes]:
    """Returns the content of small images, by index. Reads those from the storage that this process has not just
    stored."""
    unread = context.engine.context.unread_images
    contents = {image.index: content for image in images if (content := unread.take(image.key)) is not None}
    missing = {image.index: image.key for image in images if image.index not in contents}
    read = await asyncio.gather(*map(context.storage.get, missing.values())) if missing else ()
    return contents | dict(zip(missing, read, strict=True))


async def _reserve_memory(request: HttpRequest) -> None:
    context, memory = get_context(request), get_response_memory(request.scope["state"])
    try:
        async with asyncio.timeout(context.timing.api.memory_timeout_seconds):
            await memory.grow_to(STREAM_MEMORY_BYTES + context.storage.stream_buffer_bytes)
    except TimeoutError:
        cause = "Too many concurrent responses with large images."
        raise service_unavailable_error(request.scope, "images_unavailable", cause, MEMORY_RETRY_SECONDS) from None


async def _open_image(request: HttpRequest, key: str) -> ObjectStream:
    stream = await get_context(request).storage.open_stream(key)
    get_image_streams(request.scope["state"]).append(stream)
    return stream


def build_response_with_images(
    request: HttpRequest, body: object, streams: Sequence[ObjectStream], headers: dict[str, str]
) -> Response[Any]:
    """Builds the JSON response of a body with images.

    If a large image cannot be read later, the connection is aborted: then fewer bytes arrive than Content-Length says.
    """
    if not streams:
        mark_answered(request.scope["state"])
        return json_response(body, 200, headers)
    template = msgspec.json.encode(body)
    size_bytes = len(template) + sum(compute_base64_size(stream.size) for stream in streams)
    headers = {"cache-control": "no-store", "content-length": str(size_bytes), **headers}
    return Stream(fill_template(request, template, streams), media_type="application/json", headers=headers)


async def fill_template(request: HttpRequest, template: bytes, streams: Sequence[ObjectStream]) -> AsyncIterator[bytes]:
    """Yields the filled template, and marks the request as answered."""
    async for piece in insert_images(get_context(request).base64_encoder, template, streams):
        yield piece
    mark_answered(request.scope["state"])


async def insert_images(
    encoder: Base64Encoder, template: bytes, streams: Sequence[ObjectStream]
) -> AsyncIterator[bytes]:
    """Yields the template with the images of the streams instead of its placeholders."""
    # Without streams, the images are in the template.
    start, *continuations = template.split(_MARKER) if streams else [template]
    yield start
    for stream, continuation in zip(streams, continuations, strict=True):
        yield _MARKER[:-1]
        async for chunk in encoder.encode(stream):
            yield chunk
        stream.close()
        yield _MARKER[-1:] + continuation
