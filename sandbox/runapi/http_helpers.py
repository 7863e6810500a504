"""RunAPI's HTTP conventions, the same on every route: API key, headers, JSON bodies, errors."""

import uuid
from collections.abc import Mapping
from typing import Any, Literal

from litestar import Response
from litestar.connection import ASGIConnection
from litestar.handlers import BaseRouteHandler

from sandbox.http_requests import HttpRequest, decode_json_object, get_bearer_key

API_KEY = "sk-sandbox"
MAX_HEADER_CHARACTERS = 512

ErrorStyle = Literal["plain", "nested", "top_level_code"]

# Codes and messages as in the vendor's fixtures, where they have any.
ERRORS_BY_STATUS = {
    400: ("bad_request", "Bad request"),
    401: ("unauthorized", "Unauthorized"),
    402: ("insufficient_credits", "Insufficient credits"),
    403: ("forbidden", "Forbidden"),
    404: ("not_found", "Not found"),
    405: ("not_found", "Not found"),
    409: ("request_conflict", "Idempotency-Key was already used with different input"),
    422: ("validation_failed", "Validation failed"),
    429: ("rate_limited", "Too many requests"),
    455: ("service_unavailable", "Service unavailable"),
    500: ("server_error", "Server error"),
    503: ("service_unavailable", "No active channel available"),
}
DEFAULT_ERROR = ("request_failed", "Request failed")


class RunapiError(Exception):
    """An error response; `errors` lists the problems of each field."""

    def __init__(self, status: int, message: str | None = None, errors: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors


def validation_error(errors: Mapping[str, list[str]]) -> RunapiError:
    return RunapiError(422, errors=errors)


def build_error_body(
    style: ErrorStyle, status: int, code: str | None = None, message: str | None = None
) -> dict[str, object]:
    """Builds an error body. A plain body has no code: an explicit code makes it nested, as in the fixtures."""
    usual_code, usual_message = ERRORS_BY_STATUS.get(status, DEFAULT_ERROR)
    text = message or usual_message
    if style == "nested" or (style == "plain" and code):
        return {"error": {"code": code or usual_code, "message": text}}
    if style == "top_level_code":
        return {"error": text, "code": code or usual_code}
    return {"error": text}


def render_error(request: HttpRequest, error: RunapiError) -> Response[dict[str, object]]:
    style = request.app.state.sandbox.switches.runapi.error_body
    body = build_error_body(style, error.status, message=error.message)
    if error.errors:
        body["errors"] = error.errors
    return Response(body, status_code=error.status)


def require_api_key(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """Rejects a request without a valid API key. Litestar calls it before the route's handler."""
    if (get_bearer_key(connection) or "").strip() != API_KEY:
        raise RunapiError(401)


def build_response_headers(request_headers: Mapping[str, str]) -> dict[str, str]:
    headers = {"x-request-id": str(uuid.uuid4())}
    reference = request_headers.get("x-client-request-id", "")
    if reference and _is_short_ascii(reference):
        headers["x-client-request-id"] = reference
    return headers


def get_short_header(request: HttpRequest, name: str) -> str | None:
    """Returns a header of limited ASCII length, or None if it is absent."""
    value = request.headers.get(name, "").strip()
    if not _is_short_ascii(value):
        raise RunapiError(400, f"{name} must be at most {MAX_HEADER_CHARACTERS} ASCII characters")
    return value or None


def _is_short_ascii(value: str) -> bool:
    return len(value) <= MAX_HEADER_CHARACTERS and value.isascii()


def parse_json_object(body: bytes) -> dict[str, Any]:
    """Parses the request body as a JSON object."""
    if (decoded := decode_json_object(body)) is None:
        raise RunapiError(400, "The request body must be a JSON object")
    return decoded


def is_blank(value: object) -> bool:
    """Returns whether the value is empty or blank. The vendor's clients omit such fields."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, list):
        return all(is_blank(item) for item in value)
    return value is None or value == {}
