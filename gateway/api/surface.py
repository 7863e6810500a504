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
from gateway.api.interruption import STORE_SECONDS, internal_error, interruption_error
from gateway.api.jobs import new_job, one_job
from gateway.api.probes import livez, metrics, readyz
from gateway.api.receiving import Receiving
from gateway.api.signals import signals
from gateway.api.unknown_routes import describe_unknown_route
from gateway.assets.shelf import Missing, ShelfError, ShelfUnavailable
from gateway.events import Emit, Trouble, fault_of
from gateway.store.base import StoreError, StoreUnavailable
from gateway.upstream.budget import ByteBudget

# Of all bodies together that have not become jobs yet; reading one takes several times its size for a moment.
BODIES_BYTES = 256 << 20
Handler = Callable[[Request[Any, Any, Any], Any], Response[bytes]]
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
            exchange.let_go()
            self._remove_departed_caller(exchange)
            self._emit(exchange.answered())

    def _remove_departed_caller(self, exchange: Exchange) -> None:
        """Removes a client that left without its answer from the callers of its job."""
        if (record := exchange.find_departed_record()) is not None:
            self.state["tools"].engine.departures.add(exchange.team, record)


def application(state: dict[str, Any], emit: Emit, lifespan: list[Any]) -> Litestar:
    return Application(
        emit,
        route_handlers=ROUTES,
        state=State(state),
        lifespan=lifespan,
        exception_handlers={
            ApiError: _told,
            HTTPException: _told_by_framework,
            StoreError: _store_error_handler(emit),
            ShelfError: _storage_error_handler(emit),
            Missing: _handle_missing_image,
            Exception: _fault_handler(emit),
        },
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
    code = {404: "route_not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = _words(request, error.status_code)
    return _told(request, ApiError(error.status_code, code, message, headers=_allowed(error)))


def _words(request: Request[Any, Any, Any], status: int) -> str:
    if status == 404:
        return describe_unknown_route(request.scope["path"], [route.path_format for route in request.app.routes])
    return "This route does not answer to this method." if status == 405 else "The request is not understood."


def _allowed(error: HTTPException) -> dict[str, str]:
    """Whoever uses the wrong method is told the right ones."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    # The framework would answer to OPTIONS itself; nobody is told of it, since nobody is answered.
    methods = [name for name in headers.get("allow", "").split(", ") if name not in ("", "OPTIONS")]
    return {"allow": ", ".join(sorted(methods))} if methods else {}


def _store_error_handler(emit: Emit) -> Handler:
    """A store error is not the fault of the request: the client may repeat it when the store is back."""

    def handle(request: Request[Any, Any, Any], error: StoreError) -> Response[bytes]:
        if not isinstance(error, StoreUnavailable):
            emit(Trouble(where="store", what=str(error), request=request.scope["state"].get("request_id")))
        cause = "The gateway's job store does not answer at the moment."
        return _told(request, interruption_error(request.scope, "store_unavailable", cause, STORE_SECONDS))

    return handle


def _storage_error_handler(emit: Emit) -> Handler:
    def handle(request: Request[Any, Any, Any], error: ShelfError) -> Response[bytes]:
        if not isinstance(error, ShelfUnavailable):
            emit(Trouble(where="images", what=str(error), request=request.scope["state"].get("request_id")))
        cause = "The gateway's images cannot be read or kept at the moment."
        return _told(request, interruption_error(request.scope, "images_unavailable", cause, STORE_SECONDS))

    return handle


def _handle_missing_image(request: Request[Any, Any, Any], error: Missing) -> Response[bytes]:
    return _told(request, ApiError(410, "image_expired", "The image has expired and was deleted."))


def _fault_handler(emit: Emit) -> Handler:
    def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        emit(Trouble(where="api", what=fault_of(error), request=request.scope["state"].get("request_id")))
        return _told(request, internal_error(request.scope))

    return handle
