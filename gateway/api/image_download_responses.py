"""Responses with the bytes of one stored image: ranges, validators, and headers that make browsers harmless."""

import re
from typing import Any

from litestar import Response
from litestar.response import Stream
from msgspec import Struct

from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.request_lifecycle import get_image_streams
from gateway.api.team_job_loader import get_media_type
from gateway.assets.storage import ObjectStream

_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})", re.ASCII)


class ByteRange(Struct, frozen=True):
    """A part of an image: from `start` to before `end`."""

    start: int
    end: int


async def build_stored_image_response(
    request: HttpRequest, key: str, headers: dict[str, str] | None = None
) -> Response[Any]:
    """Streams the image, or the range of it that the client asks for. Responds 304 if the client has it already.

    A key contains a digest of its image, so the name is a strong validator. Several ranges in one request are not
    supported: the whole image is sent, as RFC 9110 allows.
    """
    stream = await get_context(request).storage.open_stream(key)
    get_image_streams(request.scope["state"]).append(stream)
    etag = f'"{key.rpartition("/")[2]}"'
    all_headers = {
        "etag": etag,
        "accept-ranges": "bytes",
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private, max-age=3600, immutable",
        **(headers or {}),
    }
    if has_matching_etag(request, etag):
        return Response(b"", status_code=304, headers=all_headers)
    byte_range = _parse_range(request, etag, stream)
    if byte_range is None:
        byte_range, status = ByteRange(0, stream.size), 200
    else:
        all_headers["content-range"] = f"bytes {byte_range.start}-{byte_range.end - 1}/{stream.size}"
        status = 206
    all_headers["content-length"] = str(byte_range.end - byte_range.start)
    content = stream.read_range(byte_range.start, byte_range.end)
    return Stream(content, media_type=get_media_type(key), headers=all_headers, status_code=status)


def has_matching_etag(request: HttpRequest, etag: str) -> bool:
    """Returns whether If-None-Match contains the tag. Weak and strong tags match (RFC 9110, 13.1.2)."""
    header = request.headers.get("if-none-match", "")
    tags = (tag.strip().removeprefix("W/") for tag in header.split(","))
    return header.strip() == "*" or etag.removeprefix("W/") in tags


def _parse_range(request: HttpRequest, etag: str, stream: ObjectStream) -> ByteRange | None:
    """Returns the requested range; None if the whole image is to be sent. Raises ApiError (416) if no byte is in it."""
    match = _RANGE.fullmatch(request.headers.get("range", "").strip())
    if match is None or not any(match.groups()) or request.headers.get("if-range", etag) != etag:
        return None
    first, last = match.groups()
    if first and last and int(last) < int(first):
        return None
    start = int(first) if first else max(0, stream.size - int(last))
    end = min(stream.size, int(last) + 1) if first and last else stream.size
    if start >= end:
        message = f"Invalid range: the image has {stream.size} bytes. Request a range within them."
        headers = {"content-range": f"bytes */{stream.size}"}
        raise ApiError(416, "range_not_satisfiable", message, param="Range", headers=headers)
    return ByteRange(start, end)
