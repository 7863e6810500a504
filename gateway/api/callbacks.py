"""What sellers tell us: only a hint that there is something to ask about."""

from litestar import Response, post

from gateway.api.api_errors import ApiError
from gateway.api.request_body import read_body
from gateway.api.request_parsing import HttpRequest
from gateway.engine.callback_handler import RetryLater

MAX_CALLBACK_BYTES = 1 << 20


@post("/callbacks/{adapter:str}/{job_id:str}/{attempt:int}/{signature:str}", status_code=204)
async def receive_callback(
    request: HttpRequest, adapter: str, job_id: str, attempt: int, signature: str
) -> Response[None]:
    """401 for whoever cannot have got this address, or signature, from us and the seller; else 204, whatever it is.

    503 where it cannot be heard at the moment: sellers call again.
    """
    handler = request.app.state["callback_handler"]
    body = await read_body(request.stream(), request.headers.get("content-length"), MAX_CALLBACK_BYTES)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        is_verified = await handler.handle((adapter, job_id, attempt, signature), headers, body)
    except RetryLater:
        raise ApiError(503, "call_again", "This cannot be heard at the moment: call again.", retry_after=1) from None
    if not is_verified:
        raise ApiError(401, "callback_refused", "This is no callback of ours.")
    return Response(None, status_code=204)
