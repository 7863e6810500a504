"""Runflow's HTTP conventions, the same on every route: API keys, error bodies, ids, timestamps."""

import os
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal

from litestar import Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from sandbox.http_requests import HttpRequest, decode_json_object, get_bearer_key
from sandbox.switches import RunflowSwitches

API_KEY = "rf_sandbox"
# May read everything and change nothing, like a key without the scope `runs:create`.
READ_ONLY_KEY = "rf_sandbox_readonly"
KEY_PREFIXES = ("rf_live_", "rf_svc_", "rfk_", "rf_")

ErrorStyle = Literal["flat", "nested", "detail"]

ERRORS_BY_STATUS = {
    400: ("BAD_REQUEST", "The request could not be understood."),
    401: ("UNAUTHORIZED", "Missing or invalid authentication token."),
    402: ("INSUFFICIENT_CREDIT", "The organization has insufficient credit."),
    403: ("PERMISSION_DENIED", "Your account is not authorized to access this resource."),
    404: ("NOT_FOUND", "The resource was not found."),
    405: ("METHOD_NOT_ALLOWED", "This method is not allowed here."),
    409: ("CONFLICT", "The idempotency key was used with a different request body."),
    422: ("VALIDATION_ERROR", "The request did not pass validation."),
    429: ("RATE_LIMITED", "Rate limit exceeded: too many requests."),
    503: ("MODEL_UNAVAILABLE", "The model is temporarily unavailable."),
}
DEFAULT_ERROR = ("INTERNAL_ERROR", "An internal error occurred.")


class RunflowError(Exception):
    """An error response; `errors` name fields in FastAPI's format."""

    def __init__(
        self,
        status: int,
        code: str | None = None,
        message: str | None = None,
        errors: list[dict[str, Any]] | None = None,
    ) -> None:
        super().__init__(message or code)
        self.status, self.code, self.message, self.errors = status, code, message, errors


def build_field_error(message: str, *location: str | int, kind: str = "value_error") -> dict[str, Any]:
    return {"loc": ["body", *location], "msg": message, "type": kind}


def validation_error(*errors: dict[str, Any]) -> RunflowError:
    return RunflowError(422, errors=list(errors))


def build_error_body(
    style: ErrorStyle,
    status: int,
    code: str | None = None,
    message: str | None = None,
    errors: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    usual_code, usual_message = ERRORS_BY_STATUS.get(status, DEFAULT_ERROR)
    flat = {"code": code or usual_code, "message": message or usual_message, "errors": errors}
    if style == "nested":
        return {"error": flat}
    return {"detail": errors or flat["message"]} if style == "detail" else flat


def render_error(request: HttpRequest, error: RunflowError) -> Response[dict[str, Any]]:
    style = get_switches(request).error_body
    body = build_error_body(style, error.status, error.code, error.message, error.errors)
    return Response(body, status_code=error.status)


def get_switches(connection: ASGIConnection[Any, Any, Any, Any]) -> RunflowSwitches:
    result: RunflowSwitches = connection.app.state.sandbox.switches.runflow
    return result


def require_api_key(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Rejects a request without a valid key, or with a read-only key on a route that writes.

    Litestar calls it before the route's handler.
    """
    key = get_bearer_key(connection) or ""
    is_accepted = get_switches(connection).accepts_any_key and key.startswith(KEY_PREFIXES)
    if not (key in (API_KEY, READ_ONLY_KEY) or is_accepted):
        raise RunflowError(401)
    if key == READ_ONLY_KEY and connection.scope.get("method") != "GET":
        raise RunflowError(403)


def build_rate_limit_headers(request_headers: Mapping[str, str]) -> dict[str, str]:
    """Builds the headers of the older version of the rate-limit page."""
    return {"x-ratelimit-limit": "600", "x-ratelimit-remaining": "599", "x-ratelimit-reset": str(int(time.time()) + 60)}


def parse_json_object(body: bytes) -> dict[str, Any]:
    """Parses the request body as a JSON object."""
    if (decoded := decode_json_object(body)) is None:
        raise validation_error(build_field_error("The body must be a JSON object.", kind="json_invalid"))
    return decoded


def generate_uuid7() -> str:
    """Generates a UUID that sorts by time, like Runflow's ids."""
    timestamp = int(time.time() * 1_000) << 80
    random_bits = int.from_bytes(os.urandom(10)) & ((1 << 80) - 1)
    number = (timestamp | random_bits) & ~(0xF << 76) & ~(0x3 << 62) | (0x7 << 76) | (0x2 << 62)
    return str(uuid.UUID(int=number))


def is_uuid(text: str) -> bool:
    try:
        return str(uuid.UUID(text)) == text.lower()
    except ValueError:
        return False


def format_timestamp(timestamp: float | None) -> str | None:
    """Formats a timestamp as in API responses, ending in Z."""
    return None if timestamp is None else format_callback_timestamp(timestamp).replace("+00:00", "Z")


def format_callback_timestamp(timestamp: float) -> str:
    """Formats a timestamp as in callbacks, ending in +00:00: their signatures depend on it."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="milliseconds")
