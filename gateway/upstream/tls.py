"""TLS as asyncio does it, on whatever loop runs.

uvloop's own drops up to a quarter of a megabyte of an answer if its connection ends while its reader is busy
(`eof_received` in its sslproto.pyx, 0.23), and connections that are used once always end with their answer.
"""

import asyncio
import ssl
from asyncio import sslproto
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest

Connected = tuple[asyncio.Transport, ResponseHandler]


class TlsConnector(aiohttp.TCPConnector):
    """Connects without TLS, and then speaks it over that connection; or over a proxy's tunnel."""

    async def _wrap_create_connection(self, *args: Any, **named: Any) -> Connected:
        """`args`: what makes a protocol for a connection."""
        context, host = named.pop("ssl", None), named.pop("server_hostname", None)
        if not context:
            return await super()._wrap_create_connection(*args, **named)
        [make] = args
        speaking = _Speaking(self._loop, make(), context, host)
        try:
            await super()._wrap_create_connection(speaking.start, **named)
            return await speaking.hands_shaken(named["req"])
        except BaseException:
            speaking.break_off()
            raise

    async def _start_tls_connection(
        self,
        underlying_transport: asyncio.Transport,
        req: ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109  as the method that this stands for has it
        *_: Any,
    ) -> Connected:
        context, host = self._get_ssl_context(req), req.server_hostname or req.host
        speaking = _Speaking(self._loop, self._factory(), cast(ssl.SSLContext, context), host)
        try:
            async with asyncio.timeout(timeout.sock_connect):
                speaking.start_over(underlying_transport)
                return await speaking.hands_shaken(req)
        except BaseException:
            speaking.break_off()
            raise


class _Speaking:
    """One connection, on its way."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: ResponseHandler, context: ssl.SSLContext, host: str | None
    ) -> None:
        self._loop, self._protocol, self._context, self._host = loop, protocol, context, host
        self._shaken = loop.create_future()
        self._below: sslproto.SSLProtocol | None = None

    def start(self) -> sslproto.SSLProtocol:
        """When the connection is there."""
        self._below = sslproto.SSLProtocol(self._loop, self._protocol, self._context, self._shaken, False, self._host)
        return self._below

    def start_over(self, connection: asyncio.Transport) -> None:
        """A connection that has been used for something else until now."""
        below = self.start()
        connection.set_protocol(below)
        below.connection_made(connection)

    async def hands_shaken(self, request: ClientRequest) -> Connected:
        try:
            await self._shaken
        except OSError as error:
            raise aiohttp.ClientConnectorError(request.connection_key, error) from error
        return cast(asyncio.Transport, self._protocol.transport), self._protocol

    def break_off(self) -> None:
        if self._below is None:
            return
        for wire in (self._below._app_transport, self._below._transport):
            if wire is not None:
                return cast(asyncio.Transport, wire).abort()
