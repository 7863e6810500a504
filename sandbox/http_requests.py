"""HTTP requests as all simulated vendors read them: API keys and JSON bodies."""

from typing import Any

import msgspec
from litestar import Request
from litestar.connection import ASGIConnection
from litestar.datastructures import State

HttpRequest = Request[Any, Any, State]


def get_bearer_key(connection: ASGIConnection[Any, Any, Any, Any]) -> str | None:
    """Returns the key of the authorization header, or None if it has another scheme."""
    scheme, _space, key = connection.headers.get("authorization", "").partition(" ")
    return key if scheme.lower() == "bearer" else None


def decode_json_object(body: bytes) -> dict[str, Any] | None:
    """Returns None if the body is not a JSON object."""
    try:
        decoded: dict[str, Any] = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return decoded
