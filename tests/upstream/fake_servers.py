"""Servers on loopback that misbehave in one way, and helpers for tests of the client."""

import asyncio
import os
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext
from typing import Any, TypeVar

import uvloop

from gateway.catalogue import Seller, SellerAccount
from gateway.config.account_proxy import Proxy
from gateway.config.value_types import Secret
from gateway.upstream.seller_client import CallOptions, SellerClient
from providers import ADAPTERS
from providers.adapter import Answer, Call
from providers.faults import Fault, FaultKind
from providers.order_status import NoAnswer

T = TypeVar("T")
ConnectionHandler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
API_KEY = "canary-key-5b1f"
GET_CALL = Call(method="GET", location="/things/1")
ORDER_CALL = Call(method="POST", location="/things", headers={"content-type": "application/json"}, body=b'{"n":1}')
QUICK_OPTIONS = CallOptions(timeout_seconds=30.0)
EVENT_LOOPS: dict[str, Callable[[Coroutine[Any, Any, None]], None]] = {"asyncio": asyncio.run, "uvloop": uvloop.run}


class FakeServer:
    """A server on a free port that records its connections and requests.

    `request_heads`: heads of requests as received. `connection_count` includes connections without a request.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.request_heads: list[bytes] = []
        self.connection_count = 0
        self.open_connections = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


@asynccontextmanager
async def run_server(handle: ConnectionHandler, tls: SSLContext | None = None) -> AsyncIterator[FakeServer]:
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        fake_server.connection_count += 1
        fake_server.open_connections += 1
        tasks.add(task := asyncio.current_task())  # type: ignore[arg-type]
        try:
            # Clients that disconnect are expected here.
            # uvloop raises RuntimeError for it. Connections that still hang at the end of a test are cancelled.
            with suppress(OSError, RuntimeError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await handle(_RecordingReader(reader, fake_server), writer)
        finally:
            fake_server.open_connections -= 1
            tasks.discard(task)  # type: ignore[arg-type]
            writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    fake_server = FakeServer(listener.sockets[0].getsockname()[1])
    try:
        yield fake_server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()


class _RecordingReader(asyncio.StreamReader):
    """Records the heads of the requests that a handler reads."""

    def __init__(self, reader: asyncio.StreamReader, fake_server: FakeServer) -> None:
        self._reader, self._server = reader, fake_server

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reader, name)

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        head = await self._reader.readuntil(separator)
        self._server.request_heads.append(head)
        return head

    async def read(self, n: int = -1) -> bytes:
        return await self._reader.read(n)

    async def readexactly(self, n: int) -> bytes:
        return await self._reader.readexactly(n)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    """Reads one request and returns its body."""
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = head.partition(b"content-length: ")[2].partition(b"\r\n")[0]
    return await reader.readexactly(int(length or 0))


def build_response(body: bytes = b"{}", status: str = "200 OK", headers: Sequence[str] = ()) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def make_responder(*chunks: bytes, interval: float = 0.0) -> ConnectionHandler:
    """Responds to one request with these bytes, then closes."""

    async def send_chunks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(interval)

    return send_chunks


async def serve_requests(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Serves requests correctly, one after the other over the same connection."""
    while True:
        await read_request(reader)
        writer.write(build_response())
        await writer.drain()


async def hang_forever(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def make_sequence(
    first: ConnectionHandler, finish: Callable[[asyncio.StreamWriter], Awaitable[None] | None]
) -> ConnectionHandler:
    async def run_both(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await first(reader, writer)
        if (awaitable := finish(writer)) is not None:
            await awaitable

    return run_both


def reset_connection(writer: asyncio.StreamWriter) -> None:
    """Closes with RST instead of FIN."""
    connection = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def keep_hanging(_: asyncio.StreamWriter) -> None:
    await asyncio.sleep(3600)


def make_seller(
    url: str, *, allows_private_addresses: bool = True, api_key: str | None = API_KEY, proxy: Proxy | None = None
) -> Seller:
    account = SellerAccount(
        name="tested",
        base_url=url,
        api_key=Secret(api_key) if api_key else None,
        replay_trusted=False,
        callback_secrets=(),
        allows_private_addresses=allows_private_addresses,
        proxy=proxy,
    )
    return Seller(name="tested", account=account, adapter=ADAPTERS["openai"])


def run_async(scenario: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(scenario)


async def send_call(
    handle: ConnectionHandler, call: Call = ORDER_CALL, options: CallOptions = QUICK_OPTIONS
) -> Answer | NoAnswer:
    async with run_server(handle) as server, SellerClient() as client:
        return await client.send(call, make_seller(server.url), options)


def get_fault(outcome: Answer | NoAnswer) -> Fault:
    assert isinstance(outcome, NoAnswer), outcome
    return outcome.fault


def get_fault_kind(outcome: Answer | NoAnswer) -> FaultKind:
    return get_fault(outcome).kind


def count_open_files() -> int:
    return len(os.listdir("/proc/self/fd"))
