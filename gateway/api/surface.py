"""The routes joined into one application, with errors told as each route's callers expect."""

import asyncio
from collections.abc import Callable
from typing import Any

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from gateway.api.callbacks import callback
from gateway.api.errors import ApiError
from gateway.api.exchange import Exchange
from gateway.api.files import file
from gateway.api.images import generations
from gateway.api.jobs import new_job, one_job
from gateway.api.probes import livez, metrics, readyz
from gateway.api.receiving import Receiving
from gateway.api.signals import signals
from gateway.events import Emit, Trouble, fault_of
from gateway.upstream.budget import ByteBudget

# Of all bodies together that have not become jobs yet; reading one takes several times its size for a moment.
BODIES_BYTES = 256 << 20
ROUTES = [generations, new_job, one_job, signals, file, callback, livez, readyz, metrics]


class Application(Litestar):
    """Gives each request an id, and tells of its answer: also of those that no route is there for."""

    def __init__(self, emit: Emit, **parts: Any) -> None:
        super().__init__(**parts)
        self._emit = emit
        self._bodies = ByteBudget(BODIES_BYTES)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        exchange = Exchange(scope, send, Receiving(receive, self._bodies))
        try:
            await super().__call__(scope, exchange.receiving, exchange.send)
        except asyncio.CancelledError:
            await exchange.break_off()
            raise
        finally:
            exchange.receiving.let_go()
            self._emit(exchange.answered())


def application(state: dict[str, Any], emit: Emit, lifespan: list[Any]) -> Litestar:
    return Application(
        emit,
        route_handlers=ROUTES,
        state=State(state),
        lifespan=lifespan,
        exception_handlers={ApiError: _told, HTTPException: _told_by_framework, Exception: _told_of_fault(emit)},
        # Bodies are read and capped by `bodies.py`.
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _told(request: Request[Any, Any, Any], error: ApiError) -> Response[bytes]:
    content, media_type = error.told(request.scope["path"], request.scope["state"].get("request_id"))
    return Response(content, media_type=media_type, status_code=error.status, headers=error.answer_headers())


def _told_by_framework(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    words = {404: "There is no such route.", 405: "This route does not answer to this method."}
    code = {404: "route_not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = words.get(error.status_code, "The request is not understood.")
    return _told(request, ApiError(error.status_code, code, message, headers=_allowed(error)))


def _allowed(error: HTTPException) -> dict[str, str]:
    """Whoever uses the wrong method is told the right ones."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    # The framework would answer to OPTIONS itself; nobody is told of it, since nobody is answered.
    methods = [name for name in headers.get("allow", "").split(", ") if name not in ("", "OPTIONS")]
    return {"allow": ", ".join(sorted(methods))} if methods else {}


def _told_of_fault(emit: Emit) -> Callable[[Request[Any, Any, Any], Exception], Response[bytes]]:
    def told(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        emit(Trouble(where="api", what=fault_of(error), request=request.scope["state"].get("request_id")))
        message = "Something went wrong here. If a job was accepted, it goes on."
        return _told(request, ApiError(500, "internal_error", message, final=True))

    return told
