"""For whoever watches over the gateway: is it alive, may it be sent requests, what has it counted."""

from litestar import HttpMethod, Response, get, route

from gateway.api.request_parsing import HttpRequest, json_response

READ_METHODS = [HttpMethod.GET, HttpMethod.HEAD]


@route("/livez", http_method=READ_METHODS, status_code=200, media_type="text/plain")
async def livez() -> str:
    return "ok\n"


@route("/readyz", http_method=READ_METHODS, status_code=200)
async def readyz(request: HttpRequest) -> Response[bytes]:
    """Why not, if not."""
    state = request.app.state["readiness"]()
    return json_response(state, 200 if state["ready"] else 503, {})


@get("/metrics")
async def metrics(request: HttpRequest) -> Response[bytes]:
    content: bytes = request.app.state["metrics"]()
    return Response(content, media_type="text/plain; version=0.0.4; charset=utf-8")
