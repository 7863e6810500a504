"""Delivered pictures, for whoever holds a link that we signed."""

from litestar import HttpMethod, route
from litestar.response import Stream

from gateway.api import job_submission
from gateway.api.api_errors import ApiError
from gateway.api.request_parsing import HttpRequest, get_context
from gateway.assets.signed_urls import FILES_PATH


@route("/files/{key:path}", http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)
async def get_image_file(request: HttpRequest, key: str) -> Stream:
    """`key` has been through the framework, to which `//`, `%2F` and a `/` at the end make no difference."""
    context, signed_key = get_context(request), _parse_signed_key(request)
    if not context.url_signer.verify(signed_key, request.scope["query_string"].decode("latin-1"), context.wall_clock()):
        raise ApiError(403, "link_invalid", "This link is wrong or has expired: ask for the job again.")
    stream = await job_submission.open_image_stream(context, signed_key)
    request.state["streams"].append(stream)
    headers = {
        "content-length": str(stream.size),
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private, max-age=3600, immutable",
    }
    return Stream(stream, media_type=job_submission.get_media_type(signed_key), headers=headers)


def _parse_signed_key(request: HttpRequest) -> str:
    """Exactly as it was written: empty, which no link holds, where something else than a link of ours stands."""
    path: bytes = request.scope["raw_path"]
    return path.decode("latin-1").removeprefix(FILES_PATH) if path.startswith(FILES_PATH.encode()) else ""
