"""Delivered pictures, for whoever holds a link that we signed."""

from litestar import HttpMethod, route
from litestar.response import Stream

from gateway.api import counter
from gateway.api.asking import Asked, tools_of
from gateway.api.errors import ApiError
from gateway.assets.links import PATH


@route("/files/{key:path}", http_method=[HttpMethod.GET, HttpMethod.HEAD], status_code=200)
async def file(request: Asked, key: str) -> Stream:
    """`key` has been through the framework, to which `//`, `%2F` and a `/` at the end make no difference."""
    tools, name = tools_of(request), _signed_key(request)
    if not tools.links.check(name, request.scope["query_string"].decode("latin-1"), tools.now()):
        raise ApiError(403, "link_invalid", "This link is wrong or has expired: ask for the job again.")
    stream = await counter.stream_of(tools, name)
    request.state["streams"].append(stream)
    headers = {
        "content-length": str(stream.size),
        "x-content-type-options": "nosniff",
        "content-security-policy": "sandbox; default-src 'none'",
        "cache-control": "private, max-age=3600, immutable",
    }
    return Stream(stream, media_type=counter.media_type_of(name), headers=headers)


def _signed_key(request: Asked) -> str:
    """Exactly as it was written: empty, which no link holds, where something else than a link of ours stands."""
    path: bytes = request.scope["raw_path"]
    return path.decode("latin-1").removeprefix(PATH) if path.startswith(PATH.encode()) else ""
