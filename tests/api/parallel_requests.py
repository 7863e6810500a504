"""Sends many requests as they are, byte for byte, over several connections at once."""

import asyncio
import json
from collections.abc import Iterable, Iterator
from time import monotonic
from typing import Any

from msgspec import Struct

CONNECTION_COUNT = 6
TIMEOUT_SECONDS = 30.0


class RawRequest(Struct, frozen=True):
    method: bytes
    target: bytes
    headers: list[tuple[bytes, bytes]]
    body: bytes

    def render(self) -> bytes:
        lines = [b"%s %s HTTP/1.1" % (self.method, self.target), b"Host: x", b"Content-Length: %d" % len(self.body)]
        lines += [b"%s: %s" % header for header in self.headers]
        return b"\r\n".join((*lines, b"", self.body))


class AnsweredRequest(Struct, frozen=True):
    """A request and its response. The names of headers are in lower case."""

    request: RawRequest
    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    def __str__(self) -> str:
        request = self.request
        sent = f"{request.method!r} {request.target[:500]!r} {request.headers} {request.body[:2_000]!r}"
        return f"{sent} → {self.status} after {self.seconds:.2f} s: {self.body[:1_000]!r}"

    def parse_error(self) -> dict[str, Any]:
        error: dict[str, Any] = json.loads(self.body)["error"]
        return error


def send_requests(
    url: str, requests: Iterable[RawRequest], connection_count: int = CONNECTION_COUNT
) -> list[AnsweredRequest]:
    """Sends the requests, and returns them with their responses in the order of the responses."""
    return asyncio.run(_send_all(url, iter(requests), connection_count))


async def _send_all(url: str, requests: Iterator[RawRequest], connection_count: int) -> list[AnsweredRequest]:
    host, _, port = url.removeprefix("http://").partition(":")
    sent: list[AnsweredRequest] = []
    async with asyncio.TaskGroup() as tasks:
        for _ in range(connection_count):
            tasks.create_task(_send_in_turn(host, int(port), requests, sent))
    return sent


async def _send_in_turn(host: str, port: int, requests: Iterator[RawRequest], sent: list[AnsweredRequest]) -> None:
    """Sends one request after the other over one connection, until none is left. Connects again where the gateway
    announces that it closes the connection."""
    connection = None
    for request in requests:
        if connection is None:
            connection = await asyncio.open_connection(host, port)
        answer = await _send_request(connection, request)
        sent.append(answer)
        if answer.headers.get("connection") == "close":
            connection[1].close()
            connection = None
    if connection is not None:
        connection[1].close()


async def _send_request(
    connection: tuple[asyncio.StreamReader, asyncio.StreamWriter], request: RawRequest
) -> AnsweredRequest:
    reader, writer = connection
    started_at = monotonic()
    writer.write(request.render())
    async with asyncio.timeout(TIMEOUT_SECONDS):
        try:
            head = await reader.readuntil(b"\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise AssertionError(f"no response to {request}") from error
        status, headers, body = await _read_response(reader, request.method, head)
    return AnsweredRequest(request, status, headers, body, monotonic() - started_at)


async def _read_response(reader: asyncio.StreamReader, method: bytes, head: bytes) -> tuple[int, dict[str, str], bytes]:
    lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines[1:-2])}
    status = int(lines[0].split()[1])
    if method == b"HEAD" or status in (204, 304):
        return status, headers, b""
    if headers.get("transfer-encoding") == "chunked":
        return status, headers, b"".join([chunk async for chunk in _read_chunks(reader)])
    return status, headers, await reader.readexactly(int(headers["content-length"]))


async def _read_chunks(reader: asyncio.StreamReader) -> Any:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")
