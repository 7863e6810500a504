"""What sellers tell us: only a hint that there is something to ask about."""

from litestar import Response, post

from gateway.api.asking import Asked
from gateway.api.bodies import read_body
from gateway.api.errors import ApiError
from gateway.engine.hearing import NotNow

MOST_BYTES = 1 << 20


@post("/callbacks/{adapter:str}/{job_id:str}/{attempt:int}/{seal:str}", status_code=204)
async def callback(request: Asked, adapter: str, job_id: str, attempt: int, seal: str) -> Response[None]:
    """401 for whoever cannot have got this address, or signature, from us and the seller; else 204, whatever it is.

    503 where it cannot be heard at the moment: sellers call again.
    """
    listener = request.app.state["callbacks"]
    body = await read_body(request.stream(), request.headers.get("content-length"), MOST_BYTES)
    headers = {name.lower(): value for name, value in request.headers.items()}
    try:
        is_ours = await listener.hears((adapter, job_id, attempt, seal), headers, body)
    except NotNow:
        raise ApiError(503, "call_again", "This cannot be heard at the moment: call again.", retry_after=1) from None
    if not is_ours:
        raise ApiError(401, "callback_refused", "This is no callback of ours.")
    return Response(None, status_code=204)
