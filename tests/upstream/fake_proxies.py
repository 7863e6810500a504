"""A proxy on loopback that every hostname resolves to: tunnels after CONNECT, forwards plain HTTP requests."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from ssl import SSLContext
from typing import Any

from msgspec import Struct

from gateway.catalogue import Seller
from gateway.config.account_proxy import Proxy
from gateway.config.value_types import Secret
from gateway.timeouts_and_intervals import ConnectionTiming
from gateway.upstream.seller_client import CallOptions, SellerClient
from gateway.upstream.transport_pool import TransportPool
from providers.adapter import Answer, Call
from providers.order_status import NoAnswer
from tests.upstream.fake_servers import (
    ORDER_CALL,
    QUICK_OPTIONS,
    ConnectionHandler,
    FakeServer,
    build_response,
    make_responder,
    make_seller,
    run_server,
    serve_requests,
)
from tests.upstream.tls_certificates import SELLER_HOST, make_client_context, make_server_context

SCHEMES = ("http", "https")
PROXY_USER, PROXY_PASSWORD = "canary-user", "canary%2Fword"
BASIC_CREDENTIALS = b64encode(b"canary-user:canary/word").decode()
CONNECT_RESPONSE = b"HTTP/1.1 200 Connection established\r\n\r\n"


def make_proxy(url: str, *, with_credentials: bool = False) -> Proxy:
    """Returns a proxy's configuration."""
    proxy = Proxy.parse(Secret(url.replace("//", f"//{PROXY_USER}:{PROXY_PASSWORD}@") if with_credentials else url))
    assert proxy is not None
    return proxy


def make_forwarder(stop_event: asyncio.Event | None = None, recorded: bytearray | None = None) -> ConnectionHandler:
    """Returns a proxy. `stop_event` closes its connections; `recorded` collects what it reads on the way to sellers."""

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        authority = target.removeprefix(b"http://").partition(b"/")[0]
        seller_reader, seller_writer = await asyncio.open_connection("127.0.0.1", int(authority.rpartition(b":")[2]))
        try:
            if method == b"CONNECT":
                writer.write(CONNECT_RESPONSE)
            else:
                seller_writer.write(_strip_proxy_headers(head))
            outgoing = bytearray() if recorded is None else recorded
            outgoing += head
            await _run_until_one_ends(
                _relay(reader, seller_writer, outgoing), _relay(seller_reader, writer, bytearray()), stop_event
            )
        finally:
            for side in (seller_writer, writer):
                side.transport.abort()

    return forward


def _strip_proxy_headers(head: bytes) -> bytes:
    """Removes the proxy's headers. The full URL stays: sellers accept it as a path."""
    return b"".join(line for line in head.splitlines(keepends=True) if not line.lower().startswith(b"proxy-"))


async def _run_until_one_ends(
    outgoing: Coroutine[Any, Any, None], incoming: Coroutine[Any, Any, None], stop_event: asyncio.Event | None
) -> None:
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(outgoing), asyncio.create_task(incoming)]
    if stop_event:
        tasks.append(asyncio.create_task(stop_event.wait()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _relay(source: asyncio.StreamReader, sink: asyncio.StreamWriter, recorded: bytearray) -> None:
    with suppress(OSError, RuntimeError):
        while data := await source.read(65536):
            recorded += data
            sink.write(data)
            await sink.drain()


def make_rejecting_proxy(status: str) -> ConnectionHandler:
    return make_responder(build_response(b"<html>no</html>", status, ["Proxy-Authenticate: Basic"]))


class ProxySetup(Struct):
    """A proxy, a seller behind it, and a client."""

    client: SellerClient
    seller: FakeServer
    proxy: FakeServer
    seller_origin: str

    def make_seller(
        self, *, with_credentials: bool = False, allows_private_addresses: bool = True, proxy: Proxy | None = None
    ) -> Seller:
        return make_seller(
            self.seller_origin,
            allows_private_addresses=allows_private_addresses,
            proxy=proxy or make_proxy(self.proxy.url, with_credentials=with_credentials),
        )

    async def send_order(self, call: Call = ORDER_CALL, options: CallOptions = QUICK_OPTIONS) -> Answer | NoAnswer:
        return await self.client.send(call, self.make_seller(with_credentials=True), options)


class ProxyEnvironment:
    """Starts proxies and sellers; `scheme` says whether sellers use TLS."""

    def __init__(self, certificate: Path, scheme: str) -> None:
        self.scheme, self._certificate = scheme, certificate

    @asynccontextmanager
    async def start_servers(
        self,
        handle_seller: ConnectionHandler = serve_requests,
        handle_proxy: ConnectionHandler | None = None,
        timing: ConnectionTiming = ConnectionTiming(),
    ) -> AsyncIterator[ProxySetup]:
        tls: SSLContext | None = make_server_context(self._certificate) if self.scheme == "https" else None
        async with (
            run_server(handle_seller, tls) as seller_server,
            run_server(handle_proxy or make_forwarder()) as proxy_server,
        ):
            async with SellerClient(
                TransportPool(_resolve_proxy_only, make_client_context(self._certificate), timing=timing)
            ) as client:
                yield ProxySetup(
                    client, seller_server, proxy_server, f"{self.scheme}://{SELLER_HOST}:{seller_server.port}"
                )


async def _resolve_proxy_only(hostname: str) -> list[str]:
    """Fails for sellers' names: only the proxy may resolve them."""
    assert hostname == "127.0.0.1" or hostname == "proxy.internal"
    return ["127.0.0.1"]
