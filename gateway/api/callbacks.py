"""Receives sellers' callbacks. A callback only triggers a poll; its content is not trusted."""

from litestar import Response, post

from gateway.api.access_control import PUBLIC
from gateway.api.api_context import HttpRequest
from gateway.api.api_errors import ApiError
from gateway.api.request_body_reader import read_body
from gateway.engine.callback_handler import RetryLater

MAX_CALLBACK_BYTES = 1 << 20


@post("/callbacks/{adapter:str}/{job_id:str}/{attempt:int}/{signature:str}", status_code=204, opt=PUBLIC)
async def receive_callback(
    request: HttpRequest, adapter: str, job_id: str, attempt: int, signature: str
) -> Response[None]:
    """Responds 401 to an invalid URL or signature, else 204, whatever the body contains.

    Responds 503 if the callback cannot be processed at the moment: the seller then sends it again.
    """
    handler = request.app.state["callback_handler"]
    body = await read_body(request.stream(), request.headers.get("content-length"), MAX_CALLBACK_BYTES)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        is_verified = await handler.handle((adapter, job_id, attempt, signature), headers, body)
    except RetryLater:
        message = "The callback cannot be processed at the moment. Retry in 1 second."
        raise ApiError(503, "call_again", message, retry_after=1) from None
    if not is_verified:
        raise ApiError(401, "callback_refused", "Invalid callback URL or signature.")
    return Response(None, status_code=204)
