"""An aiohttp connector that uses the TLS of asyncio instead of that of uvloop.

If a connection ends while its reader is busy, the TLS of uvloop drops up to a quarter of a megabyte of the response
(`eof_received` in its sslproto.pyx, 0.23). Connections that are used once always end with their response.
"""

import asyncio
import ssl
from asyncio import sslproto
from typing import Any, cast

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest

TransportAndProtocol = tuple[asyncio.Transport, ResponseHandler]


class TlsConnector(aiohttp.TCPConnector):
    """Connects without TLS, then starts TLS over that connection or over the tunnel of a proxy."""

    async def _wrap_create_connection(self, *args: Any, **kwargs: Any) -> TransportAndProtocol:
        """Wraps the function that creates a connection. `args`: the factory of the protocol of the connection."""
        context, host = kwargs.pop("ssl", None), kwargs.pop("server_hostname", None)
        if not context:
            return await super()._wrap_create_connection(*args, **kwargs)
        [make_protocol] = args
        handshake = _TlsHandshake(self._loop, make_protocol(), context, host)
        try:
            await super()._wrap_create_connection(handshake.start, **kwargs)
            return await handshake.wait(kwargs["req"])
        except BaseException:
            handshake.abort()
            raise

    async def _start_tls_connection(
        self,
        underlying_transport: asyncio.Transport,
        req: ClientRequest,
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - signature of the overridden method
        *_: Any,
    ) -> TransportAndProtocol:
        context, host = self._get_ssl_context(req), req.server_hostname or req.host
        handshake = _TlsHandshake(self._loop, self._factory(), cast(ssl.SSLContext, context), host)
        try:
            async with asyncio.timeout(timeout.sock_connect):
                handshake.start_on(underlying_transport)
                return await handshake.wait(req)
        except BaseException:
            handshake.abort()
            raise


class _TlsHandshake:
    """A TLS handshake in progress on one connection."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, protocol: ResponseHandler, context: ssl.SSLContext, host: str | None
    ) -> None:
        self._loop, self._protocol, self._context, self._host = loop, protocol, context, host
        self._done = loop.create_future()
        self._ssl_protocol: sslproto.SSLProtocol | None = None

    def start(self) -> sslproto.SSLProtocol:
        """Creates the TLS protocol for a new connection."""
        self._ssl_protocol = sslproto.SSLProtocol(
            self._loop, self._protocol, self._context, self._done, False, self._host
        )
        return self._ssl_protocol

    def start_on(self, connection: asyncio.Transport) -> None:
        """Starts TLS on a connection that was used without TLS so far."""
        ssl_protocol = self.start()
        connection.set_protocol(ssl_protocol)
        ssl_protocol.connection_made(connection)

    async def wait(self, request: ClientRequest) -> TransportAndProtocol:
        try:
            await self._done
        except OSError as error:
            raise aiohttp.ClientConnectorError(request.connection_key, error) from error
        return cast(asyncio.Transport, self._protocol.transport), self._protocol

    def abort(self) -> None:
        if self._ssl_protocol is None:
            return
        for transport in (self._ssl_protocol._app_transport, self._ssl_protocol._transport):
            if transport is not None:
                return cast(asyncio.Transport, transport).abort()
