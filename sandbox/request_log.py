"""The last requests that vendors were sent, for whoever debugs a client: in memory, keys masked, bodies cut."""

import time
from collections import deque
from typing import Any

from litestar.types import HTTPScope, Receive

from sandbox.mischief import Route, Vendor

KEPT_REQUESTS = 1_000
KEPT_BODY_BYTES = 64 << 10


class RequestLog:
    def __init__(self) -> None:
        self.entries: deque[dict[str, object]] = deque(maxlen=KEPT_REQUESTS)

    def recording(self, scope: HTTPScope, vendor: Vendor, route: Route | None, receive: Receive) -> Receive:
        """Notes the request now, and its body as the vendor reads it."""
        entry: dict[str, object] = {
            "at": time.time(),
            "vendor": vendor,
            "route": route,
            "method": scope["method"],
            "path": scope["path"],
            "headers": {
                name.decode("latin-1"): "…" if name == b"authorization" else value.decode("latin-1")
                for name, value in scope["headers"]
            },
            "body": "",
        }
        self.entries.append(entry)
        seen = bytearray()

        async def receive_noting() -> Any:
            message = await receive()
            if message["type"] == "http.request" and len(seen) < KEPT_BODY_BYTES:
                seen.extend(message["body"][: KEPT_BODY_BYTES - len(seen)])
                entry["body"] = seen.decode("utf-8", "replace")
            return message

        return receive_noting
