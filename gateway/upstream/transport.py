"""httpx's interface over aiohttp's engine, which neither slows down with many connections nor leaks cancelled ones.

No cookies, no redirects, no proxies from the environment, no unpacking, no credentials found anywhere.
"""

import asyncio
import ssl
from collections.abc import Mapping
from contextvars import ContextVar
from enum import Enum
from functools import lru_cache
from typing import Any, Self

import aiohttp
import httpx
import yarl
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace

from gateway.config.proxies import Proxy
from gateway.upstream import guard, host_lookup
from gateway.upstream.budget import SMALL_BYTES
from gateway.upstream.host_lookup import AllLookupsFull, HostLookup, Lookup, LookupLimits, SystemLookup
from gateway.upstream.proxied import ThroughProxy
from gateway.upstream.tls import TlsConnector

DEFAULT_CONNECT_SECONDS = 10.0
_IDLE_SECONDS = 15.0
_MOST_HEADER_BYTES = 32 << 10
_READ_AHEAD_BYTES = 64 << 10


class Journey:
    """How far a request has come. As long as nothing has left, nothing can have been bought."""

    __slots__ = ("_wire", "is_queued", "left")

    def __init__(self) -> None:
        self.left = False
        # Waits for one of our own connections to become free.
        self.is_queued = False
        self._wire: asyncio.Transport | None = None

    def approach(self, wire: asyncio.Transport) -> None:
        """Connected, but nothing of the request has left: TLS, or a proxy's tunnel, may be still to come."""
        self._wire = wire

    def depart(self, wire: asyncio.Transport | None) -> None:
        self.left = True
        self._wire = wire

    def break_off(self) -> None:
        """Closing politely would wait for the other side to take what is still unsent, perhaps for ever."""
        if self._wire is not None:
            self._wire.abort()

    def settle(self) -> None:
        """What is being closed is closed now; what is kept alive stays."""
        if self._wire is not None and self._wire.is_closing():
            self._wire.abort()


_journey: ContextVar[Journey] = ContextVar("journey")


class _Connector(TlsConnector):
    """Everything up to here, TLS included, was before the request's first byte."""

    async def connect(
        self,
        req: ClientRequest,
        traces: list[Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - the engine's own signature
    ) -> Connection:
        connection = await super().connect(req, traces, timeout)
        _journey.get().depart(connection.transport)
        return connection

    async def _wait_for_available_connection(self, *args: Any) -> None:
        journey = _journey.get()
        journey.is_queued = True
        await super()._wait_for_available_connection(*args)
        journey.is_queued = False

    async def _create_direct_connection(self, *args: Any, **named: Any) -> tuple[asyncio.Transport, ResponseHandler]:
        """Also to a proxy that is still to be asked for a tunnel: the engine forgets it if it is closed meanwhile."""
        wire, protocol = await super()._create_direct_connection(*args, **named)
        _journey.get().approach(wire)
        return wire, protocol


class EngineTransport(httpx.AsyncBaseTransport):
    """One session of aiohttp's. To be made where an event loop runs."""

    def __init__(self, connector: aiohttp.BaseConnector) -> None:
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            timeout=_timeout(DEFAULT_CONNECT_SECONDS),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
            read_bufsize=_READ_AHEAD_BYTES,
            max_field_size=_MOST_HEADER_BYTES,
            max_line_size=_MOST_HEADER_BYTES,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Raises httpx's errors: a PoolTimeout if nothing was tried, for want of something of ours; a ConnectError or
        ConnectTimeout if no byte has left; else others."""
        journey = request.extensions.get("journey") or Journey()
        journey.left = journey.is_queued = False
        _journey.set(journey)
        host_lookup.tenant.set(request.extensions.get("tenant", ""))
        try:
            response = await self._send(request)
        except asyncio.CancelledError:
            journey.break_off()
            raise
        except Exception as error:  # noqa: BLE001 - whatever breaks in the engine, the request may have left
            journey.break_off()
            failure = _failure(error, journey)
        else:
            return httpx.Response(
                response.status, headers=list(response.raw_headers), stream=_Incoming(response, journey)
            )
        # Outside of `except`, since the engine's errors hold addresses and headers that no log may see.
        raise failure

    async def _send(self, request: httpx.Request) -> aiohttp.ClientResponse:
        connect_seconds = request.extensions.get("timeout", {}).get("connect") or DEFAULT_CONNECT_SECONDS
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw]
        return await self._session.request(
            request.method,
            # As it is: a signed address that is quoted anew is another one.
            yarl.URL(str(request.url), encoded=True),
            headers=headers,
            data=await _payload(request, {name.lower(): value for name, value in headers}),
            allow_redirects=False,
            timeout=_timeout(connect_seconds),
            **request.extensions.get("engine", {}),
        )

    async def aclose(self) -> None:
        await self._session.close()


@lru_cache(maxsize=64)
def _timeout(connect_seconds: float) -> aiohttp.ClientTimeout:
    """Only for connecting, TLS and a free slot included: the rest is the caller's deadline."""
    return aiohttp.ClientTimeout(total=None, connect=connect_seconds, ceil_threshold=connect_seconds)


async def _payload(request: httpx.Request, headers: Mapping[str, str]) -> bytes | httpx.AsyncByteStream | None:
    """A small body whole, so that it leaves together with the headers."""
    length = headers.get("content-length")
    if length is None and "transfer-encoding" not in headers:
        return None
    stream = request.stream
    if not isinstance(stream, httpx.AsyncByteStream):
        raise TypeError("the body is not asynchronous")
    if length is None or int(length) > SMALL_BYTES:
        return stream
    return b"".join([piece async for piece in stream]) or None


def _failure(error: Exception, journey: Journey) -> httpx.TransportError:
    name = _name(error)
    if journey.is_queued or isinstance(getattr(error, "os_error", None), AllLookupsFull):
        return httpx.PoolTimeout(name)
    if not journey.left:
        return httpx.ConnectTimeout(name) if isinstance(error, TimeoutError) else httpx.ConnectError(name)
    if isinstance(error, aiohttp.ClientResponseError | aiohttp.ServerDisconnectedError):
        return httpx.RemoteProtocolError(name)
    return httpx.ReadError(name)


def _name(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientHttpProxyError):
        return f"ProxyAnswered{error.status}"
    whose = "Proxy" if isinstance(error, aiohttp.ClientProxyConnectionError) else ""
    return whose + type(getattr(error, "os_error", error)).__name__


class _Incoming(httpx.AsyncByteStream):
    """An answer's body as it comes. Given up before its end, its connection is broken off."""

    def __init__(self, response: aiohttp.ClientResponse, journey: Journey) -> None:
        self._response = response
        self._journey = journey

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        try:
            chunk = await self._response.content.readany()
        except Exception as error:  # noqa: BLE001 - as above
            failure = _failure(error, self._journey)
        else:
            if chunk:
                return chunk
            raise StopAsyncIteration
        raise failure

    async def aclose(self) -> None:
        # Does nothing to a connection that went back to the pool when the body ended.
        self._response.close()
        self._journey.settle()


class HostSource(Enum):
    """Who has chosen the name of a host."""

    OPERATOR = "operator"
    SELLER = "seller"
    CLIENT = "client"


MAX_CONNECTIONS = 2_000
# A seller's own name is one of the operator's few: each is looked up once at a time, and never waits for another.
LOOKUPS = {
    HostSource.OPERATOR: LookupLimits(at_once=64, per_tenant=4, stale_seconds=3_600.0),
    HostSource.SELLER: LookupLimits(at_once=32, per_tenant=8),
    # The system asks a name server again after 5 s: one lost packet is survived.
    HostSource.CLIENT: LookupLimits(at_once=32, per_tenant=8, seconds=6.0),
}


class _Exits:
    """The transports to hosts whose names come from one source: into the public internet only, or anywhere; over
    connections that are kept alive, or fresh ones; by ourselves, or through a proxy."""

    def __init__(self, lookup: Lookup, lookup_of_proxies: Lookup, tls: ssl.SSLContext | None, limit: int) -> None:
        def engine(allowed: guard.Guard, lookup: Lookup, fresh: bool) -> httpx.AsyncBaseTransport:
            connector = _Connector(
                resolver=guard.GuardedResolver(allowed, lookup),
                # Ours remembers names, too, and for all connectors.
                use_dns_cache=False,
                socket_factory=guard.sockets(allowed),
                ssl=tls or True,
                limit=limit,
                **({"force_close": True} if fresh else {"keepalive_timeout": _IDLE_SECONDS}),
            )
            return EngineTransport(connector)

        self.direct = {
            (private, fresh): engine(guard.anywhere if private else guard.is_public, lookup, fresh)
            for private in (False, True)
            for fresh in (False, True)
        }
        self.to_proxies = {fresh: engine(guard.anywhere, lookup_of_proxies, fresh) for fresh in (False, True)}

    async def aclose(self) -> None:
        for transport in (*self.direct.values(), *self.to_proxies.values()):
            await transport.aclose()


class Ways:
    """The ways out, apart by who names the host: lookups and connections that one source uses up are not missing to
    another. A proxy is always the operator's choice, so it may be anywhere."""

    def __init__(
        self,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
        most_connections: int = MAX_CONNECTIONS,
    ) -> None:
        self._lookups = {source: HostLookup(lookup or SystemLookup(), limits) for source, limits in LOOKUPS.items()}
        to_proxies = self._lookups[HostSource.OPERATOR]
        self._exits = {source: _Exits(own, to_proxies, tls, most_connections) for source, own in self._lookups.items()}

    def way(
        self, *, private: bool, fresh: bool, proxy: Proxy | None = None, source: HostSource = HostSource.OPERATOR
    ) -> httpx.AsyncBaseTransport:
        exits = self._exits[source]
        if proxy is None:
            return exits.direct[private, fresh]
        return ThroughProxy(exits.to_proxies[fresh], proxy, guard.anywhere if private else guard.sounds_public)

    async def aclose(self) -> None:
        for exits in self._exits.values():
            await exits.aclose()
        for lookup in self._lookups.values():
            lookup.close()
