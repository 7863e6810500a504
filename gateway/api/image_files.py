"""Serves stored images by signed URL."""

from typing import Any

from litestar import Response, get

from gateway.api.access_control import PUBLIC
from gateway.api.api_context import HttpRequest, get_context
from gateway.api.api_errors import ApiError
from gateway.api.image_download_responses import build_stored_image_response
from gateway.assets.signed_urls import FILES_PATH


@get("/files/{key:path}", opt=PUBLIC)
async def get_image_file(request: HttpRequest, key: str) -> Response[Any]:
    """Streams the image.

    The signature covers the raw path, since the `key` of Litestar is the same for `//`, `%2F` and a trailing `/`.
    """
    context, signed_key = get_context(request), _parse_signed_key(request)
    if not context.url_signer.verify(signed_key, request.scope["query_string"].decode("latin-1"), context.wall_clock()):
        message = "Invalid or expired image URL. Get a new one with GET /v1/jobs/{id}."
        raise ApiError(403, "link_invalid", message)
    return await build_stored_image_response(request, signed_key)


def _parse_signed_key(request: HttpRequest) -> str:
    """Returns the key exactly as the URL spells it. Returns an empty key, which is never signed, if this is not an
    image URL."""
    path: bytes = request.scope["raw_path"]
    return path.decode("latin-1").removeprefix(FILES_PATH) if path.startswith(FILES_PATH.encode()) else ""
