"""The last requests that vendors were sent, for whoever debugs a client: in memory, keys masked, bodies cut."""

import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from litestar.types import HTTPScope, Receive

from sandbox.mischief import Route, Vendor

KEPT_REQUESTS = 1_000
KEPT_BODY_BYTES = 64 << 10
SECRET_HEADERS = {b"authorization", b"proxy-authorization", b"x-api-key", b"api-key", b"cookie"}


@dataclass(slots=True)
class Entry:
    """Bytes as they came: as text they would take twice the room and more.

    Not the scope itself, to which the framework ties whole bodies and connections.
    """

    vendor: Vendor
    route: Route | None
    method: str
    path: str
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    at: float = field(default_factory=time.time)
    body: bytearray = field(default_factory=bytearray)

    def shown(self) -> dict[str, object]:
        return {
            "at": self.at,
            "vendor": self.vendor,
            "route": self.route,
            "method": self.method,
            "path": self.path,
            "query": self.query.decode("latin-1"),
            "headers": {
                name.decode("latin-1"): "…" if name in SECRET_HEADERS else value.decode("latin-1")
                for name, value in self.headers
            },
            "body": self.body.decode("utf-8", "replace"),
        }


class RequestLog:
    def __init__(self) -> None:
        self.entries: deque[Entry] = deque(maxlen=KEPT_REQUESTS)

    def recording(self, scope: HTTPScope, vendor: Vendor, route: Route | None, receive: Receive) -> Receive:
        """Notes the request now, and its body as the vendor reads it."""
        entry = self.note(scope, vendor, route)

        async def receive_noting() -> Any:
            message = await receive()
            if message["type"] == "http.request":
                entry.body.extend(message["body"][: KEPT_BODY_BYTES - len(entry.body)])
            return message

        return receive_noting

    def note(self, scope: HTTPScope, vendor: Vendor, route: Route | None = None) -> Entry:
        headers = tuple((bytes(name), bytes(value)) for name, value in scope["headers"])
        entry = Entry(vendor, route, scope["method"], scope["path"], scope["query_string"], headers)
        self.entries.append(entry)
        return entry
