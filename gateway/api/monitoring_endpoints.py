"""Endpoints for monitoring: liveness, readiness, metrics."""

from litestar import Response, get

from gateway.api.access_control import PUBLIC
from gateway.api.api_context import HttpRequest
from gateway.api.json_responses import json_response


@get("/livez", media_type="text/plain", opt=PUBLIC)
async def livez() -> str:
    return "ok\n"


@get("/readyz", opt=PUBLIC)
async def readyz(request: HttpRequest) -> Response[bytes]:
    """Responds whether the gateway accepts jobs, with the reasons if it does not."""
    state = request.app.state["describe_readiness"]()
    return json_response(state, 200 if state["ready"] else 503, {})


@get("/metrics", opt=PUBLIC)
async def metrics(request: HttpRequest) -> Response[bytes]:
    content, media_type = request.app.state["render_metrics"](request.headers.get("accept", ""))
    # Litestar adds the charset of text.
    charset = "" if media_type.startswith("text/") else "; charset=utf-8"
    return Response(content, media_type=media_type + charset)
