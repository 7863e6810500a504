"""httpx transport on top of aiohttp, which stays fast with many connections and does not leak cancelled ones.

It stores no cookies, follows no redirects, decodes nothing, and ignores proxies and credentials of the environment.
"""

import asyncio
from collections.abc import Iterable
from contextvars import ContextVar
from functools import lru_cache, partial
from typing import Any, Self, cast

import aiohttp
import httpx
import yarl
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from multidict import CIMultiDict

from gateway.memory_budget import SMALL_BODY_BYTES
from gateway.upstream import dns_lookup
from gateway.upstream.asyncio_tls_connector import TlsConnector
from gateway.upstream.dns_lookup import TotalLookupLimitReached
from gateway.upstream.kernel_socket_state import has_input, read_acknowledged_bytes
from gateway.upstream.request_body_encoder import RequestBody

DEFAULT_CONNECT_TIMEOUT_SECONDS = 10.0
_MAX_HEADER_BYTES = 32 << 10
_READ_AHEAD_BYTES = 64 << 10
# The type of a body is never guessed.
_OMITTED_HEADERS: CIMultiDict[None] = CIMultiDict({"Content-Type": None})


class SendProgress:
    """How much of a request has been sent. Before its first byte is sent, nothing can have been bought."""

    __slots__ = ("_connection", "_protocol", "has_sent_bytes", "is_queued")

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.has_sent_bytes = False
        # Whether the request waits for a connection of the pool.
        self.is_queued = False
        self._connection: asyncio.Transport | None = None
        self._protocol: RequestProtocol | None = None

    def on_connected(self, connection: asyncio.Transport) -> None:
        """Records the connection. No part of the request was sent yet: TLS or the tunnel of a proxy may come first."""
        self._connection = connection

    def on_sending(self, protocol: "RequestProtocol") -> None:
        self.has_sent_bytes = True
        self._protocol = protocol
        self._connection = cast(asyncio.Transport, protocol.transport)
        protocol.start_request()

    @property
    def is_proven_unread(self) -> bool:
        """Whether the seller closed the connection before it received any byte of the request."""
        return self._protocol is not None and self._protocol.is_request_unread

    def abort(self) -> None:
        """Closes the connection at once. A clean close would wait for the other side to read what is still unsent."""
        if self._connection is not None:
            self._connection.abort()

    def finish_close(self) -> None:
        """Aborts the connection if it is closing; a kept-alive one stays open."""
        if self._connection is not None and self._connection.is_closing():
            self._connection.abort()


_current_progress: ContextVar[SendProgress] = ContextVar("current_progress")


class RequestProtocol(ResponseHandler):
    """Finds out whether a connection ended before its request arrived.

    The end of a connection acknowledges all that the other side's kernel received before. If that includes nothing of
    the request, no program there has read it or ever will.

    This is proven only on a connection on which an earlier request was counted. Not every system counts: gVisor always
    returns 0, and eBPF can pass data to a proxy on the same machine without acknowledging it.
    """

    is_request_unread = False
    _acknowledged_bytes: int | None = None
    _has_counted = False

    def start_request(self) -> None:
        before, self._acknowledged_bytes = self._acknowledged_bytes, read_acknowledged_bytes(self.transport)
        self._has_counted = before is not None and self._acknowledged_bytes not in (None, before)

    def eof_received(self) -> None:
        self.is_request_unread = (
            self._has_counted and read_acknowledged_bytes(self.transport) == self._acknowledged_bytes
        )
        super().eof_received()


class ExactRequest(ClientRequest):
    """Sends exactly the given headers, and those that describe the body."""

    def update_auto_headers(self, _: Iterable[str] | None) -> None:
        self._skip_auto_headers = _OMITTED_HEADERS


class ProgressConnector(TlsConnector):
    """Records in SendProgress when a request connects and when its first byte may be sent."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory = cast(partial[ResponseHandler], partial(RequestProtocol, loop=self._loop))

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's signature
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        _current_progress.get().on_sending(cast(RequestProtocol, connection.protocol))
        return connection

    async def _get(self, *args: Any) -> Connection | None:
        """Returns an idle connection that has not ended, and on which no data came without a request: such data would
        be taken for the response to the next one."""
        while (connection := await super()._get(*args)) is not None:
            protocol, transport = connection.protocol, connection.transport
            is_usable = protocol is not None and transport is not None and not protocol.should_close
            if is_usable and not has_input(cast(asyncio.Transport, transport)):
                return connection
            connection.close()
        return None

    async def _wait_for_available_connection(self, *args: Any) -> None:
        progress = _current_progress.get()
        progress.is_queued = True
        await super()._wait_for_available_connection(*args)
        progress.is_queued = False

    async def _create_direct_connection(self, *args: Any, **kwargs: Any) -> tuple[asyncio.Transport, ResponseHandler]:
        """Creates a connection and records it. Also records connections to a proxy before its tunnel is established: if
        they are closed before that, aiohttp loses them."""
        connection, protocol = await super()._create_direct_connection(*args, **kwargs)
        _current_progress.get().on_connected(connection)
        return connection, protocol


class AiohttpTransport(httpx.AsyncBaseTransport):
    """Sends requests with one aiohttp session. Make it in a running event loop."""

    def __init__(self, connector: aiohttp.BaseConnector) -> None:
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=_make_timeout(DEFAULT_CONNECT_TIMEOUT_SECONDS),
            request_class=ExactRequest,
            read_bufsize=_READ_AHEAD_BYTES,
            max_field_size=_MAX_HEADER_BYTES,
            max_line_size=_MAX_HEADER_BYTES,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Sends a request. Raises only errors of httpx.

        PoolTimeout: a limit of this gateway prevented sending. ConnectError, ConnectTimeout: no byte was sent, or none
        was received. After any other error, the request may have been received.
        """
        progress = request.extensions.get("progress") or SendProgress()
        try:
            return await self._send_once(request, progress)
        except httpx.ConnectError:
            if not progress.is_proven_unread:
                raise
        # By now, this process has noticed all connections that the seller closed at the same time.
        return await self._send_once(request, progress)

    async def _send_once(self, request: httpx.Request, progress: SendProgress) -> httpx.Response:
        progress.reset()
        _current_progress.set(progress)
        dns_lookup.current_tenant.set(request.extensions.get("tenant", ""))
        try:
            response = await self._send_request(request)
        except asyncio.CancelledError:
            progress.abort()
            raise
        except Exception as error:  # noqa: BLE001 - after any error of aiohttp, the request may have been sent
            progress.abort()
            failure = _to_httpx_error(error, progress)
        else:
            return httpx.Response(
                response.status, headers=list(response.raw_headers), stream=_ResponseStream(response, progress)
            )
        # Raised outside of `except`: aiohttp's errors contain URLs and headers that must not be logged.
        raise failure

    async def _send_request(self, request: httpx.Request) -> aiohttp.ClientResponse:
        connect_timeout_seconds = (
            request.extensions.get("timeout", {}).get("connect") or DEFAULT_CONNECT_TIMEOUT_SECONDS
        )
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        return await self._session.request(
            request.method,
            # The URL is used unchanged: quoting a signed URL again would invalidate it.
            _to_yarl_url(str(request.url)),
            headers=headers,
            data=await _get_payload(request),
            allow_redirects=False,
            timeout=_make_timeout(connect_timeout_seconds),
            **request.extensions.get("aiohttp_options", {}),
        )

    async def aclose(self) -> None:
        await self._session.close()


@lru_cache(maxsize=1_024)
def _to_yarl_url(url: str) -> yarl.URL:
    return yarl.URL(url, encoded=True)


@lru_cache(maxsize=64)
def _make_timeout(connect_timeout_seconds: float) -> aiohttp.ClientTimeout:
    """Makes the timeout for connecting, which includes TLS and the wait for a free connection. The caller limits the
    rest."""
    return aiohttp.ClientTimeout(total=None, connect=connect_timeout_seconds, ceil_threshold=connect_timeout_seconds)


async def _get_payload(request: httpx.Request) -> bytes | httpx.AsyncByteStream | None:
    """Returns the body to send. A small body is returned whole, so that it is sent together with the headers."""
    stream = request.stream
    if isinstance(stream, RequestBody) and stream.size <= SMALL_BODY_BYTES:
        return stream.read_all() or None
    length = request.headers.get("content-length")
    if length is None and "transfer-encoding" not in request.headers:
        return None
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError("request body must be an AsyncByteStream")
    if length is None or int(length) > SMALL_BODY_BYTES:
        return stream
    return b"".join([chunk async for chunk in stream]) or None


def _to_httpx_error(error: Exception, progress: SendProgress) -> httpx.TransportError:
    name = _describe_error(error)
    if progress.is_queued or isinstance(getattr(error, "os_error", None), TotalLookupLimitReached):
        return httpx.PoolTimeout(name)
    if progress.is_proven_unread:
        return httpx.ConnectError(name)
    if not progress.has_sent_bytes:
        return httpx.ConnectTimeout(name) if isinstance(error, TimeoutError) else httpx.ConnectError(name)
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ServerDisconnectedError):
        return httpx.RemoteProtocolError(name)
    return httpx.ReadError(name)


def _describe_error(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"ProxyStatus{error.status}"
    prefix = "Proxy" if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    return prefix + type(getattr(error, "os_error", error)).__name__


class _ResponseStream(httpx.AsyncByteStream):
    """Streams a response body. Closing it before its end aborts the connection."""

    def __init__(self, response: aiohttp.ClientResponse, progress: SendProgress) -> None:
        self._response = response
        self._progress = progress

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.content.readany()
        except Exception as error:  # noqa: BLE001 - any error of aiohttp becomes one of httpx
            failure = _to_httpx_error(error, self._progress)
        else:
            if chunk:
                return chunk
            raise StopAsyncIteration
        raise failure

    async def aclose(self) -> None:
        # No effect on a connection that went back to the pool when the body ended.
        self._response.close()
        self._progress.finish_close()
