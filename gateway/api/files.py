"""Delivered pictures, for whoever holds a link that we signed."""

from litestar import HttpMethod, route
from litestar.response import Stream

from gateway.api import counter
from gateway.api.asking import Asked, tools_of
from gateway.api.errors import ApiError


@route("/files/{key:path}", http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)
async def file(request: Asked, key: str) -> Stream:
    tools, name = tools_of(request), key.lstrip("/")
    if not tools.links.check(name, request.scope["query_string"].decode("latin-1"), tools.now()):
        raise ApiError(403, "link_invalid", "This link is wrong or has expired: ask for the job again.")
    stream = await counter.stream_of(tools, name)
    headers = {
        "content-length": str(stream.size),
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private, max-age=3600, immutable",
    }
    return Stream(stream, media_type=counter.media_type_of(name), headers=headers)
