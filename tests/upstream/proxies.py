"""A proxy on loopback, where every name leads: tunnels after CONNECT, and passes on what is asked for as a whole."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from ssl import SSLContext
from typing import Any

from msgspec import Struct

from gateway.catalogue import Seller
from gateway.config.proxies import Proxy
from gateway.config.values import Secret
from gateway.upstream.client import Exchange, Upstream
from gateway.upstream.transport import Ways
from providers.progress import Unanswered
from providers.spec import Answer, Call
from tests.upstream.certified import NAME, speaking, trusting
from tests.upstream.servers import ORDER, QUICK, Behaviour, Server, answer, says, seller, server, serves

SCHEMES = ("http", "https")
USER, WORD = "canary-user", "canary%2Fword"
BASIC = b64encode(b"canary-user:canary/word").decode()
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


def proxy_at(url: str, *, known: bool = False) -> Proxy:
    """`known`: with credentials."""
    found = Proxy.parse(Secret(url.replace("//", f"//{USER}:{WORD}@") if known else url))
    assert found is not None
    return found


def forwards(dies: asyncio.Event | None = None, heard: bytearray | None = None) -> Behaviour:
    """`dies`: when both sides lose their connections. `heard`: all that it could read on its way to sellers."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, _ = head.split(b"\r\n")[0].split(b" ")
        place = target.removeprefix(b"http://").partition(b"/")[0]
        theirs, seller = await asyncio.open_connection("127.0.0.1", int(place.rpartition(b":")[2]))
        try:
            if method == b"CONNECT":
                writer.write(ESTABLISHED)
            else:
                seller.write(_passed_on(head))
            there = bytearray() if heard is None else heard
            there += head
            await _until_one_ends(_pipe(reader, seller, there), _pipe(theirs, writer, bytearray()), dies)
        finally:
            for side in (seller, writer):
                side.transport.abort()

    return behave


def _passed_on(head: bytes) -> bytes:
    """A seller takes a whole address for its path, too."""
    return b"".join(line for line in head.splitlines(keepends=True) if not line.lower().startswith(b"proxy-"))


async def _until_one_ends(
    there: Coroutine[Any, Any, None], back: Coroutine[Any, Any, None], dies: asyncio.Event | None
) -> None:
    tasks: list[asyncio.Task[Any]] = [asyncio.create_task(there), asyncio.create_task(back)]
    if dies:
        tasks.append(asyncio.create_task(dies.wait()))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _pipe(source: asyncio.StreamReader, sink: asyncio.StreamWriter, heard: bytearray) -> None:
    with suppress(OSError, RuntimeError):
        while data := await source.read(65536):
            heard += data
            sink.write(data)
            await sink.drain()


def refuses(status: str) -> Behaviour:
    return says(answer(b"<html>no</html>", status, ["Proxy-Authenticate: Basic"]))


class Street(Struct):
    """A proxy, a seller behind it, and a client that knows both."""

    upstream: Upstream
    seller: Server
    proxy: Server
    origin: str

    def account(self, *, known: bool = False, private: bool = True, proxy: Proxy | None = None) -> Seller:
        return seller(self.origin, private=private, proxy=proxy or proxy_at(self.proxy.url, known=known))

    async def ask(self, call: Call = ORDER, exchange: Exchange = QUICK) -> Answer | Unanswered:
        return await self.upstream.perform(call, self.account(known=True), exchange)


class Town:
    """Where the streets are: their certificate, and whether sellers speak TLS."""

    def __init__(self, certificate: Path, scheme: str) -> None:
        self.scheme, self._certificate = scheme, certificate

    @asynccontextmanager
    async def street(self, sells: Behaviour = serves, proxy: Behaviour | None = None) -> AsyncIterator[Street]:
        tls: SSLContext | None = speaking(self._certificate) if self.scheme == "https" else None
        async with server(sells, tls) as selling, server(proxy or forwards()) as between:
            async with Upstream(Ways(_knows_no_seller, trusting(self._certificate))) as upstream:
                yield Street(upstream, selling, between, f"{self.scheme}://{NAME}:{selling.port}")


async def _knows_no_seller(name: str) -> list[str]:
    """Names of sellers are for the proxy to look up."""
    assert name == "127.0.0.1" or name == "proxy.internal"
    return ["127.0.0.1"]
