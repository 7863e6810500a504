"""The Litestar application: routes, error handlers, request ids and events."""

import asyncio
from collections.abc import Callable
from typing import Any

from litestar import Litestar, Request, Response
from litestar.datastructures import State
from litestar.exceptions import HTTPException

from gateway.api.access_control import authorize_request, require_declared_scopes
from gateway.api.admin_api import ADMIN_HANDLERS
from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.api.callbacks import receive_callback
from gateway.api.image_files import get_image_file
from gateway.api.images import create_edit, create_generation, create_variation
from gateway.api.incoming_body_limiter import IncomingBodyLimiter
from gateway.api.jobs import create_job, get_job
from gateway.api.monitoring_endpoints import livez, metrics, readyz
from gateway.api.request_lifecycle import RequestLifecycle
from gateway.api.server_errors import (
    internal_error,
    select_charge_sentence,
    service_unavailable_error,
)
from gateway.api.signals_endpoint import list_signals
from gateway.api.unknown_routes import describe_unknown_route
from gateway.assets.storage import ObjectNotFound, StorageError, StorageUnavailable
from gateway.events import ErrorReported, EventSink, describe_exception
from gateway.memory_budget import MemoryBudget
from gateway.store.base import StoreError, StoreUnavailable
from gateway.timeouts_and_intervals import ApiTiming

ErrorHandler = Callable[[Request[Any, Any, Any], Any], Response[bytes]]
ROUTE_HANDLERS = [
    *ADMIN_HANDLERS,
    create_generation,
    create_edit,
    create_variation,
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
    """Assigns each request an id and emits an event for its response, also for unknown routes."""

    def __init__(self, emit: EventSink, timing: ApiTiming, **options: Any) -> None:
        super().__init__(**options)
        self._emit, self._timing = emit, timing
        self._body_budget = MemoryBudget(timing.max_total_body_bytes)
        self._disk_budget = MemoryBudget(timing.max_total_upload_bytes)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return await super().__call__(scope, receive, send)
        lifecycle = RequestLifecycle(
            scope,
            send,
            IncomingBodyLimiter(receive, self._body_budget, self._disk_budget, self._timing),
            self._body_budget.make_outgoing_reservation(),
        )
        try:
            await super().__call__(scope, lifecycle.incoming_body, lifecycle.send)
        except asyncio.CancelledError:
            await lifecycle.send_shutdown_error()
            raise
        except Exception as error:
            if not lifecycle.is_response_started:
                raise
            self._emit(_build_response_error_event(error, lifecycle.request_id))
            lifecycle.abort_response()
        finally:
            lifecycle.close()
            self._remove_departed_caller(lifecycle)
            self._emit(lifecycle.build_completed_event())

    def _remove_departed_caller(self, lifecycle: RequestLifecycle) -> None:
        """Removes a client that disconnected without a response from its job's callers."""
        record, team = lifecycle.find_abandoned_record(), lifecycle.team
        if record is not None and team is not None:
            context: ApiContext = self.state["context"]
            context.engine.disconnected_client_remover.remove_in_background(team, record)


def _build_response_error_event(error: BaseException, request_id: str) -> ErrorReported:
    """Builds the event for an error in the middle of a response."""
    # Litestar wraps it in its own exception, and its task group wraps it in another.
    cause = error.__cause__ or error
    while isinstance(cause, BaseExceptionGroup):
        cause = cause.exceptions[0]
    if isinstance(cause, StorageError):
        return ErrorReported(component="storage", message=str(cause), request=request_id)
    return ErrorReported(component="api", message=describe_exception(cause), request=request_id)


def create_application(state: dict[str, Any], emit: EventSink, lifespan: list[Any], timing: ApiTiming) -> Litestar:
    require_declared_scopes(ROUTE_HANDLERS)
    return Application(
        emit,
        timing,
        route_handlers=ROUTE_HANDLERS,
        guards=[authorize_request],
        state=State(state),
        lifespan=lifespan,
        exception_handlers={
            ApiError: _handle_api_error,
            HTTPException: _handle_http_exception,
            StoreError: _make_store_error_handler(emit, timing),
            StorageError: _make_storage_error_handler(emit, timing),
            ObjectNotFound: _handle_missing_image,
            Exception: _make_unexpected_error_handler(emit),
        },
        # `request_body.py` reads bodies and limits their size.
        request_max_body_size=None,
        openapi_config=None,
        logging_config=None,
        debug=False,
    )


def _handle_api_error(request: Request[Any, Any, Any], error: ApiError) -> Response[bytes]:
    request_id = request.scope["state"].get("request_id")
    content, media_type = error.render(request.scope["path"], request_id, select_charge_sentence(request.scope))
    return Response(content, media_type=media_type, status_code=error.status, headers=error.build_response_headers())


def _handle_http_exception(request: Request[Any, Any, Any], error: HTTPException) -> Response[bytes]:
    if error.status_code == 404:
        routes = [route.path_format for route in request.app.routes]
        api_error = ApiError(404, "route_not_found", describe_unknown_route(request.scope["path"], routes))
    elif error.status_code == 405:
        message = f"This route does not support {request.method}. Use a method of the Allow header."
        api_error = ApiError(405, "method_not_allowed", message, headers=_build_allow_header(error))
    else:
        api_error = ApiError(error.status_code, "invalid_request", "Invalid request. Check its path and headers.")
    return _handle_api_error(request, api_error)


def _build_allow_header(error: HTTPException) -> dict[str, str]:
    """Lists the route's methods in `Allow`."""
    headers = {name.lower(): value for name, value in (error.headers or {}).items()}
    # Litestar would list OPTIONS, which is not supported here.
    methods = [name for name in headers.get("allow", "").split(", ") if name not in ("", "OPTIONS")]
    return {"allow": ", ".join(sorted(methods))} if methods else {}


def _make_store_error_handler(emit: EventSink, timing: ApiTiming) -> ErrorHandler:
    """Makes the handler of store errors. The client may retry after such an error, since it did not cause it."""

    def handle(request: Request[Any, Any, Any], error: StoreError) -> Response[bytes]:
        if not isinstance(error, StoreUnavailable):
            emit(ErrorReported(component="store", message=str(error), request=request.scope["state"].get("request_id")))
        cause = "The job store is unavailable."
        return _handle_api_error(
            request,
            service_unavailable_error(request.scope, "store_unavailable", cause, timing.store_retry_after_seconds),
        )

    return handle


def _make_storage_error_handler(emit: EventSink, timing: ApiTiming) -> ErrorHandler:
    def handle(request: Request[Any, Any, Any], error: StorageError) -> Response[bytes]:
        if not isinstance(error, StorageUnavailable):
            emit(
                ErrorReported(component="storage", message=str(error), request=request.scope["state"].get("request_id"))
            )
        cause = "The image storage is unavailable."
        return _handle_api_error(
            request,
            service_unavailable_error(request.scope, "images_unavailable", cause, timing.store_retry_after_seconds),
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
