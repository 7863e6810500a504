"""Closes a connection whose client still sends, so that the client gets the response first.

If a socket is closed while bytes of its client are unread, the client's machine discards what it has received. So the
sending side is closed first, and input is discarded until the client closes, too.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class LingeringTransport:
    """The transport of one response. `close` calls `linger` if the body of the request is incomplete."""

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle, linger: Callable[[], None]) -> None:
        self._transport = transport
        self._cycle = cycle
        self._linger = linger

    def close(self) -> None:
        if self._cycle.more_body and not self._transport.is_closing():
            self._linger()
        else:
            self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
