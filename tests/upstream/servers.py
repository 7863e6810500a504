"""Servers on loopback that do exactly one thing wrong, and what tests of the client share."""

import asyncio
import os
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import Any, TypeVar

import uvloop

from gateway.catalogue import Account, Seller
from gateway.config.proxies import Proxy
from gateway.config.values import Secret
from gateway.upstream.client import Exchange, Upstream
from providers import ADAPTERS
from providers.faults import FaultKind
from providers.progress import Unanswered
from providers.spec import Answer, Call

T = TypeVar("T")
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
KEY = "canary-key-5b1f"
GET = Call(method="GET", location="/things/1")
ORDER = Call(method="POST", location="/things", headers={"content-type": "application/json"}, body=b'{"n":1}')
QUICK = Exchange(seconds=5.0)
LOOPS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


class Server:
    """`requests` holds each request's head as it came; `connections` counts also those that never asked."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def server(behave: Behaviour, tls: SSLContext | None = None) -> AsyncIterator[Server]:
    served: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        this.connections += 1
        this.open += 1
        served.add(task := asyncio.current_task())  # type: ignore[arg-type]
        try:
            # Clients that leave in the middle are what these tests are about.
            # uvloop has a RuntimeError for it. Cancelled is whoever still hangs when the test is over.
            with suppress(OSError, RuntimeError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await behave(_Noting(reader, this), writer)
        finally:
            this.open -= 1
            served.discard(task)  # type: ignore[arg-type]
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    this = Server(listening.sockets[0].getsockname()[1])
    try:
        yield this
    finally:
        listening.close()
        for task in list(served):
            task.cancel()
        await asyncio.gather(*served, return_exceptions=True)
        await listening.wait_closed()


class _Noting(asyncio.StreamReader):
    """Reads for the behaviour, and notes each head."""

    def __init__(self, reader: asyncio.StreamReader, noted: Server) -> None:
        self._reader, self._noted = reader, noted

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        head = await self._reader.readuntil(separator)
        self._noted.requests.append(head)
        return head

    async def read(self, n: int = -1) -> bytes:
        return await self._reader.read(n)

    async def readexactly(self, n: int) -> bytes:
        return await self._reader.readexactly(n)


async def asked(reader: asyncio.StreamReader) -> bytes:
    """One whole request: its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return await reader.readexactly(int(length or 0))


def answer(body: bytes = b"{}", status: str = "200 OK", headers: Sequence[str] = ()) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def says(*chunks: bytes, every: float = 0.0) -> Behaviour:
    """Answers one request with these bytes, and closes."""

    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asked(reader)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(every)

    return behave


async def serves(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As it should be: one request after the other over the same connection."""
    while True:
        await asked(reader)
        writer.write(answer())
        await writer.drain()


async def hangs(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def then(first: Behaviour, after: Callable[[asyncio.StreamWriter], Awaitable[None] | None]) -> Behaviour:
    async def behave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await first(reader, writer)
        if (waiting := after(writer)) is not None:
            await waiting

    return behave


def reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def seller(url: str, *, private: bool = True, secret: str | None = KEY, proxy: Proxy | None = None) -> Seller:
    account = Account(
        name="tested",
        base_url=url,
        secret=Secret(secret) if secret else None,
        replay_trusted=False,
        callback_secrets=(),
        private=private,
        proxy=proxy,
    )
    return Seller(name="tested", account=account, adapter=ADAPTERS["openai"])


def run(test: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(test)


async def performed(behave: Behaviour, call: Call = ORDER, exchange: Exchange = QUICK) -> Answer | Unanswered:
    async with server(behave) as running, Upstream() as upstream:
        return await upstream.perform(call, seller(running.url), exchange)


def kind(outcome: Answer | Unanswered) -> FaultKind:
    assert isinstance(outcome, Unanswered), outcome
    return outcome.fault.kind


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(holds: Callable[[], bool], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
