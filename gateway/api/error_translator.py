"""Translates every exception of a request into the ApiError of its response."""

from typing import Any

from litestar.exceptions import HTTPException

from gateway.api.api_context import HttpRequest
from gateway.api.api_errors import ApiError
from gateway.api.server_error_responses import internal_error, service_unavailable_error
from gateway.api.unknown_routes import describe_unknown_route
from gateway.assets.storage import ObjectNotFound, StorageError, StorageUnavailable
from gateway.events import ErrorReported, EventSink, describe_exception
from gateway.store.base import StoreError, StoreFull, StoreMisconfigured, StoreReadOnly, StoreUnavailable
from gateway.timeouts_and_intervals import ApiTiming


class ErrorTranslator:
    """Translates exceptions. Emits an event for each error that operators should see.

    A mistake of the client is never a 5xx. No text of an exception reaches the client, except that of an ApiError.
    """

    def __init__(self, emit: EventSink, timing: ApiTiming) -> None:
        self._emit, self._timing = emit, timing

    def translate(self, request: HttpRequest, error: Exception) -> ApiError:
        match error:
            case ApiError():
                return error
            case HTTPException() if error.status_code < 500:
                return _translate_http_exception(request, error)
            case ObjectNotFound():
                message = "The image no longer exists: it was deleted with its job, or at the end of its retention."
                return ApiError(410, "image_deleted", message)
            case StoreError():
                return self._translate_store_error(request, error)
            case StorageError():
                return self._translate_storage_error(request, error)
            case _:
                self._report("api", describe_exception(error), request)
                return internal_error(request.scope)

    def _translate_store_error(self, request: HttpRequest, error: StoreError) -> ApiError:
        """Builds an error that permits a retry, since the client did not cause it."""
        if not isinstance(error, StoreUnavailable):
            self._report("store", str(error), request)
        cause, retry_after = _describe_store_error(error), self._timing.store_retry_after_seconds
        return service_unavailable_error(request.scope, "store_unavailable", cause, retry_after)

    def _translate_storage_error(self, request: HttpRequest, error: StorageError) -> ApiError:
        if not isinstance(error, StorageUnavailable):
            self._report("storage", str(error), request)
        cause, retry_after = "The image storage is unavailable.", self._timing.store_retry_after_seconds
        return service_unavailable_error(request.scope, "images_unavailable", cause, retry_after)

    def _report(self, component: str, message: str, request: HttpRequest) -> None:
        request_id = request.scope["state"].get("request_id")
        self._emit(ErrorReported(component=component, message=message, request=request_id))


def _describe_store_error(error: StoreError) -> str:
    """Says what is wrong without the details, which are for operators."""
    match error:
        case StoreFull():
            return "The job store of this gateway is full: it accepts no new jobs until its operators make room."
        case StoreReadOnly():
            return "The job store of this gateway is read-only at the moment: no job can be created or changed."
        case StoreMisconfigured():
            return "The job store of this gateway might lose jobs, so it accepts no new ones until that is corrected."
        case _:
            return "The job store is unavailable."


def get_error_translator(request: HttpRequest) -> ErrorTranslator:
    translator: ErrorTranslator = request.app.state["error_translator"]
    return translator


def _translate_http_exception(request: HttpRequest, error: HTTPException) -> ApiError:
    """Translates what the framework raises before a route handler runs."""
    if error.status_code == 404:
        routes = [route.path_format for route in request.app.routes]
        return ApiError(404, "route_not_found", describe_unknown_route(request.scope["path"], routes))
    if error.status_code == 405:
        message = (
            f"This route does not support {request.scope['state']['client_method']}. Use a method of the Allow header."
        )
        return ApiError(405, "method_not_allowed", message, headers=_build_allow_header(error))
    return ApiError(error.status_code, "invalid_request", "Invalid request. Check its path and headers.")


def _build_allow_header(error: HTTPException) -> dict[str, str]:
    """Lists the route's methods in `Allow`."""
    headers: dict[str, Any] = {name.lower(): value for name, value in (error.headers or {}).items()}
    # Litestar would list OPTIONS, which is not supported here, but not HEAD, which is supported wherever GET is.
    methods = {name for name in headers.get("allow", "").split(", ") if name not in ("", "OPTIONS")}
    methods |= {"HEAD"} if "GET" in methods else set()
    return {"allow": ", ".join(sorted(methods))} if methods else {}
