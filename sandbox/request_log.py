"""The last requests to the vendors, for debugging: in memory, keys masked, bodies truncated."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from litestar.types import HTTPScope, Receive

from sandbox.vendors import RouteKind, Vendor

MAX_REQUESTS = 1_000
MAX_BODY_BYTES = 64 << 10
SECRET_HEADERS = {b"authorization", b"proxy-authorization", b"x-api-key", b"api-key", b"cookie"}


@dataclass(slots=True)
class LoggedRequest:
    """One request, as raw bytes, which take less than half the memory of text.

    It does not keep the ASGI scope, which references whole bodies and connections.
    """

    vendor: Vendor
    route: RouteKind | None
    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    # Distinguishes connections.
    client_port: int
    received_at: float = field(default_factory=time.time)
    body: bytearray = field(default_factory=bytearray)

    def to_json(self) -> dict[str, object]:
        return {
            "at": self.received_at,
            "vendor": self.vendor,
            "route": self.route,
            "method": self.method,
            "path": self.path,
            "query": self.query.decode("latin-1"),
            "client_port": self.client_port,
            "headers": {
                name.decode("latin-1"): "…" if name in SECRET_HEADERS else value.decode("latin-1")
                for name, value in self.headers
            },
            "body": self.body.decode("utf-8", "replace"),
        }


class RequestLog:
    def __init__(self) -> None:
        self.entries: deque[LoggedRequest] = deque(maxlen=MAX_REQUESTS)

    def wrap_receive(self, scope: HTTPScope, vendor: Vendor, route: RouteKind | None, receive: Receive) -> Receive:
        """Logs the request now, and its body while the vendor reads it."""
        entry = self.add_request(scope, vendor, route)

        async def receive_and_log() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                entry.body.extend(message["body"][: MAX_BODY_BYTES - len(entry.body)])
            return message

        return receive_and_log

    def add_request(self, scope: HTTPScope, vendor: Vendor, route: RouteKind | None = None) -> LoggedRequest:
        headers = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
        entry = LoggedRequest(
            vendor, route, scope["method"], scope["path"], scope["query_string"], headers, _get_client_port(scope)
        )
        self.entries.append(entry)
        return entry


def _get_client_port(scope: HTTPScope) -> int:
    client = scope["client"]
    return client[1] if client else 0
