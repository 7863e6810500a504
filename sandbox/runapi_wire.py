"""RunAPI's letter paper: the key, the headers, JSON in, errors out. The same on every route."""

import uuid
from collections.abc import Mapping
from typing import Any, Literal

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.handlers import BaseRouteHandler

KEY = "sk-sandbox"
MAX_HEADER_CHARACTERS = 512

HttpRequest = Request[Any, Any, State]
ErrorStyle = Literal["plain", "nested", "top_level_code"]

# Texts and codes as the vendor's fixtures have them, where they have any.
MEANINGS = {
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
UNLISTED = ("request_failed", "Request failed")


class RefusalError(Exception):
    """An answer other than 2xx; `errors` names fields and what is wrong with each."""

    def __init__(self, status: int, message: str | None = None, errors: Mapping[str, list[str]] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.errors = errors


def invalid(errors: Mapping[str, list[str]]) -> RefusalError:
    return RefusalError(422, errors=errors)


def error_body(
    style: ErrorStyle, status: int, code: str | None = None, message: str | None = None
) -> dict[str, object]:
    """A plain body cannot hold a code: one that somebody asked for by name comes nested, as in the fixtures."""
    usual_code, usual_message = MEANINGS.get(status, UNLISTED)
    text = message or usual_message
    if style == "nested" or (style == "plain" and code):
        return {"error": {"code": code or usual_code, "message": text}}
    if style == "top_level_code":
        return {"error": text, "code": code or usual_code}
    return {"error": text}


def refused(request: HttpRequest, refusal: RefusalError) -> Response[dict[str, object]]:
    style = request.app.state.world.switches.runapi.error_body
    body = error_body(style, refusal.status, message=refusal.message)
    if refusal.errors:
        body["errors"] = refusal.errors
    return Response(body, status_code=refusal.status)


def signed_in(connection: ASGIConnection[Any, Any, Any, Any], _: BaseRouteHandler) -> None:
    """A guard: wants the one good key."""
    scheme, _space, key = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer" or key.strip() != KEY:
        raise RefusalError(401)


def letterhead(asked: Mapping[str, str]) -> dict[str, str]:
    head = {"x-request-id": str(uuid.uuid4())}
    reference = asked.get("x-client-request-id", "")
    if reference and _fits(reference):
        head["x-client-request-id"] = reference
    return head


def short_header(request: HttpRequest, name: str) -> str | None:
    """A caller's own reference: absent, or ASCII of a limited length."""
    value = request.headers.get(name, "").strip()
    if not _fits(value):
        raise RefusalError(400, f"{name} must be at most {MAX_HEADER_CHARACTERS} ASCII characters")
    return value or None


def _fits(value: str) -> bool:
    return len(value) <= MAX_HEADER_CHARACTERS and value.isascii()


def fields(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body."""
    try:
        decoded: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RefusalError(400, "The request body must be a JSON object") from error
    return decoded


def blank(value: object) -> bool:
    """Nothing in it: such a field counts as left out, as in the vendor's clients."""
    if isinstance(value, str):
        return not value.strip()
    if isinstance(value, list):
        return all(blank(item) for item in value)
    return value is None or value == {}
