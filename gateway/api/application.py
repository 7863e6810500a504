"""The routes joined into one application, with errors told as each route's callers expect."""

import asyncio
from collections.abc import Callable
from typing import Any

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from gateway.api.api_errors import ApiError
from gateway.api.body_receiver import BodyReceiver
from gateway.api.callbacks import receive_callback
from gateway.api.http_exchange import HttpExchange
from gateway.api.image_files import get_image_file
from gateway.api.images import create_generation
from gateway.api.jobs import create_job, get_job
from gateway.api.monitoring_endpoints import livez, metrics, readyz
from gateway.api.routing_signals import list_signals
from gateway.api.server_errors import STORE_RETRY_SECONDS, internal_error, service_unavailable_error
from gateway.api.unknown_routes import describe_unknown_route
from gateway.assets.storage import ObjectNotFound, StorageError, StorageUnavailable
from gateway.events import ErrorReported, EventSink, describe_exception
from gateway.memory_budget import MemoryBudget
from gateway.store.base import StoreError, StoreUnavailable

# Of all bodies together that have not become jobs yet; reading one takes several times its size for a moment.
MAX_TOTAL_BODY_BYTES = 256 << 20
ErrorHandler = Callable[[Request[Any, Any, Any], Any], Response[bytes]]
ROUTE_HANDLERS = [
    create_generation,
    create_job,
    get_job,
    list_signals,
    get_image_file,
    receive_callback,
    livez,
    readyz,
    metrics,
]


class Application(Litestar):
    """Gives each request an id, and tells of its answer: also of those that no route is there for."""

    def __init__(self, emit: EventSink, **options: Any) -> None:
        super().__init__(**options)
        self._emit = emit
        self._body_budget = MemoryBudget(MAX_TOTAL_BODY_BYTES)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        exchange = HttpExchange(scope, send, BodyReceiver(receive, self._body_budget))
        try:
            await super().__call__(scope, exchange.body_receiver, exchange.send)
        except asyncio.CancelledError:
            await exchange.send_shutdown_error()
            raise
        finally:
            exchange.close()
            self._remove_departed_caller(exchange)
            self._emit(exchange.build_completed_event())

    def _remove_departed_caller(self, exchange: HttpExchange) -> None:
        """Removes a client that left without its answer from the callers of its job."""
        if (record := exchange.find_abandoned_record()) is not None:
            self.state["context"].engine.departures.add(exchange.team, record)


def create_application(state: dict[str, Any], emit: EventSink, lifespan: list[Any]) -> Litestar:
    return Application(
        emit,
        route_handlers=ROUTE_HANDLERS,
        state=State(state),
        lifespan=lifespan,
        exception_handlers={
            ApiError: _handle_api_error,
            HTTPException: _handle_http_exception,
            StoreError: _make_store_error_handler(emit),
            StorageError: _make_storage_error_handler(emit),
            ObjectNotFound: _handle_missing_image,
            Exception: _make_unexpected_error_handler(emit),
        },
        # Bodies are read and capped by `bodies.py`.
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _handle_api_error(request: Request[Any, Any, Any], error: ApiError) -> Response[bytes]:
    content, media_type = error.render(request.scope["path"], request.scope["state"].get("request_id"))
    return Response(content, media_type=media_type, status_code=error.status, headers=error.response_headers())


def _handle_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    code = {404: "route_not_found", 405: "method_not_allowed"}.get(error.status_code, "invalid_request")
    message = _describe_http_error(request, error.status_code)
    return _handle_api_error(request, ApiError(error.status_code, code, message, headers=_build_allow_header(error)))


def _describe_http_error(request: Request[Any, Any, Any], status: int) -> str:
    if status == 404:
        return describe_unknown_route(request.scope["path"], [route.path_format for route in request.app.routes])
    return "This route does not answer to this method." if status == 405 else "The request is not understood."


def _build_allow_header(error: HTTPException) -> dict[str, str]:
    """Whoever uses the wrong method is told the right ones."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    # The framework would answer to OPTIONS itself; nobody is told of it, since nobody is answered.
    methods = [name for name in headers.get("allow", "").split(", ") if name not in ("", "OPTIONS")]
    return {"allow": ", ".join(sorted(methods))} if methods else {}


def _make_store_error_handler(emit: EventSink) -> ErrorHandler:
    """A store error is not the fault of the request: the client may repeat it when the store is back."""

    def handle(request: Request[Any, Any, Any], error: StoreError) -> Response[bytes]:
        if not isinstance(error, StoreUnavailable):
            emit(ErrorReported(component="store", message=str(error), request=request.scope["state"].get("request_id")))
        cause = "The gateway's job store does not answer at the moment."
        return _handle_api_error(
            request, service_unavailable_error(request.scope, "store_unavailable", cause, STORE_RETRY_SECONDS)
        )

    return handle


def _make_storage_error_handler(emit: EventSink) -> ErrorHandler:
    def handle(request: Request[Any, Any, Any], error: StorageError) -> Response[bytes]:
        if not isinstance(error, StorageUnavailable):
            emit(
                ErrorReported(component="images", message=str(error), request=request.scope["state"].get("request_id"))
            )
        cause = "The gateway's images cannot be read or kept at the moment."
        return _handle_api_error(
            request, service_unavailable_error(request.scope, "images_unavailable", cause, STORE_RETRY_SECONDS)
        )

    return handle


def _handle_missing_image(request: Request[Any, Any, Any], error: ObjectNotFound) -> Response[bytes]:
    return _handle_api_error(request, ApiError(410, "image_expired", "The image has expired and was deleted."))


def _make_unexpected_error_handler(emit: EventSink) -> ErrorHandler:
    def handle(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
        emit(
            ErrorReported(
                component="api", message=describe_exception(error), request=request.scope["state"].get("request_id")
            )
        )
        return _handle_api_error(request, internal_error(request.scope))

    return handle
