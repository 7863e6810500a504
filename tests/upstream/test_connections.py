"""Which connection a call uses, and which servers must never receive the API key."""

import asyncio
import contextlib
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from gateway.timeouts_and_intervals import ConnectionTiming
from gateway.upstream import transport
from gateway.upstream.seller_client import CallOptions, SellerClient
from gateway.upstream.transport_pool import TransportPool
from providers.adapter import Answer, Call
from providers.faults import FaultKind
from providers.order_status import NoAnswer
from tests.upstream.fake_servers import (
    API_KEY,
    EVENT_LOOPS,
    GET_CALL,
    ORDER_CALL,
    QUICK_OPTIONS,
    ConnectionHandler,
    build_response,
    get_fault_kind,
    make_responder,
    make_seller,
    read_request,
    run_async,
    run_server,
    serve_requests,
)


async def answer_once_then_drop(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Responds with keep-alive, and drops the connection at the next request."""
    await read_request(reader)
    writer.write(build_response())
    await writer.drain()
    await read_request(reader)


async def drop_first_request(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads one request, and drops its connection without a response."""
    await read_request(reader)


async def close_while_idle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await read_request(reader)
    writer.write(build_response())
    await writer.drain()


async def _send_twice(
    handle: ConnectionHandler, call: Call, *, fresh_connection: bool, pause: float
) -> tuple[Answer | NoAnswer, int]:
    pool = TransportPool(timing=ConnectionTiming(fresh_connection_seconds=0.05))
    async with run_server(handle) as server, SellerClient(pool) as client:
        seller = make_seller(server.url)
        first = await client.send(call, seller, CallOptions(timeout_seconds=30.0, fresh_connection=fresh_connection))
        assert isinstance(first, Answer)
        await asyncio.sleep(pause)
        second = await client.send(call, seller, CallOptions(timeout_seconds=30.0, fresh_connection=fresh_connection))
        return second, server.connection_count


def test_idle_connection_is_reused() -> None:
    second, connections = run_async(_send_twice(serve_requests, ORDER_CALL, fresh_connection=False, pause=0.0))
    assert isinstance(second, Answer)
    assert connections == 1


@pytest.mark.parametrize(("pause", "connections"), [(0.0, 1), (0.2, 2)], ids=["just answered", "idle for long"])
def test_fresh_order_reuses_only_a_connection_that_just_answered(pause: float, connections: int) -> None:
    second, opened = run_async(_send_twice(serve_requests, ORDER_CALL, fresh_connection=True, pause=pause))
    assert isinstance(second, Answer)
    assert opened == connections


def test_fresh_order_is_never_lost_on_a_dead_connection() -> None:
    for pause in (0.0, 0.001, 0.2):
        second, connections = run_async(_send_twice(close_while_idle, ORDER_CALL, fresh_connection=True, pause=pause))
        assert isinstance(second, Answer)
        assert connections == 2


class ClosingServer:
    """Answers one request on each connection and closes it, from a thread of its own."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.requests = 0
        self.closed = threading.Event()

    def serve(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            with connection:
                if connection.recv(65_536):
                    self.requests += 1
                    connection.sendall(build_response())
            self.closed.set()


@contextlib.contextmanager
def run_closing_server() -> Iterator[tuple[str, ClosingServer]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = ClosingServer(listener)
        threading.Thread(target=server.serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", server


@pytest.mark.parametrize("has_noticed_end", [True, False], ids=["end noticed", "end unnoticed"])
@pytest.mark.parametrize("loop", EVENT_LOOPS)
def test_order_on_a_connection_that_closed_meanwhile_is_sent_again(
    loop: str, has_noticed_end: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of the connection acknowledges no byte of the order: no program has read it, so it may be sent again."""
    if not has_noticed_end:
        monkeypatch.setattr(transport, "has_input", lambda _: False)
    outcomes: list[Answer | NoAnswer] = []

    async def send_orders(url: str, server: ClosingServer) -> None:
        options = CallOptions(timeout_seconds=30.0, fresh_connection=True)
        async with SellerClient() as client:
            for _ in range(20):
                outcomes.append(await client.send(ORDER_CALL, make_seller(url), options))
                # Blocks the event loop, so that it cannot notice that the connection has ended.
                assert server.closed.wait(5)
                server.closed.clear()
                time.sleep(0.002)  # noqa: ASYNC251

    with run_closing_server() as (url, server):
        EVENT_LOOPS[loop](send_orders(url, server))
    assert all(isinstance(outcome, Answer) for outcome in outcomes)
    assert server.requests == len(outcomes)


def test_order_that_was_acknowledged_is_not_sent_again() -> None:
    """The server reads the order, and closes the connection without an answer."""
    second, connections = run_async(_send_twice(answer_once_then_drop, ORDER_CALL, fresh_connection=True, pause=0.0))
    assert get_fault_kind(second) is FaultKind.RESPONSE_LOST
    assert connections == 1


@pytest.mark.parametrize("handle", [answer_once_then_drop, drop_first_request], ids=["reused", "new"])
@pytest.mark.parametrize("count", [0, 1])
def test_order_is_not_sent_again_if_the_system_does_not_count(
    handle: ConnectionHandler, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The field always contains 0 in gVisor, and stays as it is if eBPF passes the data to a sidecar."""
    monkeypatch.setattr(transport, "read_acknowledged_bytes", lambda _: count)

    async def send_orders() -> tuple[Answer | NoAnswer, int]:
        options = CallOptions(timeout_seconds=30.0, fresh_connection=True)
        async with run_server(handle) as server, SellerClient() as client:
            await client.send(ORDER_CALL, make_seller(server.url), options)
            outcome = await client.send(ORDER_CALL, make_seller(server.url), options)
            return outcome, len(server.request_heads)

    outcome, request_count = run_async(send_orders())
    assert get_fault_kind(outcome) is FaultKind.RESPONSE_LOST
    assert request_count == 2


def test_order_on_a_closing_connection_is_response_lost_and_not_resent() -> None:
    second, connections = run_async(_send_twice(answer_once_then_drop, ORDER_CALL, fresh_connection=False, pause=0.0))
    assert get_fault_kind(second) is FaultKind.RESPONSE_LOST
    assert connections == 1


def test_get_on_a_closing_connection_is_resent() -> None:
    second, connections = run_async(_send_twice(answer_once_then_drop, GET_CALL, fresh_connection=False, pause=0.0))
    assert isinstance(second, Answer)
    assert connections == 2


@pytest.mark.parametrize("call", [GET_CALL, ORDER_CALL], ids=["get", "order"])
def test_connection_closed_while_idle_is_not_reused(call: Call) -> None:
    second, connections = run_async(_send_twice(close_while_idle, call, fresh_connection=False, pause=0.1))
    assert isinstance(second, Answer)
    assert connections == 2


@pytest.mark.parametrize("surplus", [build_response(b"stale"), b"\r\nnoise"], ids=["second response", "noise"])
@pytest.mark.parametrize("fresh_connection", [True, False])
def test_connection_with_surplus_data_is_not_reused(fresh_connection: bool, surplus: bytes) -> None:
    """The data came without a request. Otherwise it would be taken for the response to the next order."""

    async def respond_twice(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            await read_request(reader)
            writer.write(build_response())
            await writer.drain()
            await asyncio.sleep(0.02)
            writer.write(surplus)
            await writer.drain()

    async def send_orders() -> tuple[Answer | NoAnswer, int]:
        options = CallOptions(timeout_seconds=30.0, fresh_connection=fresh_connection)
        async with run_server(respond_twice) as server, SellerClient() as client:
            await client.send(ORDER_CALL, make_seller(server.url), options)
            await asyncio.sleep(0.1)
            return await client.send(ORDER_CALL, make_seller(server.url), options), server.connection_count

    outcome, connections = run_async(send_orders())
    assert isinstance(outcome, Answer)
    assert outcome.body == b"{}"
    assert connections == 2


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("call", [GET_CALL, ORDER_CALL], ids=["get", "order"])
def test_redirects_are_not_followed(status: int, call: Call) -> None:
    async def send_call() -> tuple[Answer | NoAnswer, int]:
        async with run_server(serve_requests) as canary, SellerClient() as client:
            redirect = make_responder(build_response(b"", f"{status} Moved", [f"Location: {canary.url}/stolen"]))
            async with run_server(redirect) as server:
                outcome = await client.send(call, make_seller(server.url), QUICK_OPTIONS)
            return outcome, canary.connection_count

    outcome, connections = run_async(send_call())
    assert isinstance(outcome, Answer)
    assert outcome.status == status
    assert connections == 0


def test_presigned_upload_uses_the_exact_url_and_no_api_key() -> None:
    """The URL is sent byte for byte as signed."""
    path = "/bucket/a%2Fb%20c/~d?X-Sig=a%2Fb%2B%3D&empty=&x=%7e"

    async def put() -> bytes:
        async with run_server(serve_requests) as store, SellerClient() as client:
            call = Call(
                method="PUT",
                location=store.url + path,
                headers={"Content-Type": "image/png", "Content-Length": "7"},
                body=b"pngdata",
                is_presigned=True,
            )
            # The upload's host may even be the account's own.
            outcome = await client.send(call, make_seller(store.url), QUICK_OPTIONS)
            assert isinstance(outcome, Answer)
            return store.request_heads[0]

    head = run_async(put())
    assert head.split(b" ")[1] == path.encode()
    assert API_KEY.encode() not in head
    assert b"authorization" not in head.lower()
    assert b"content-type: image/png" in head.lower()


def test_cookies_are_not_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_call() -> list[bytes]:
        async with run_server(_set_cookies) as server, SellerClient() as client:
            await client.send(GET_CALL, make_seller(server.url), QUICK_OPTIONS)
            await client.send(GET_CALL, make_seller(server.url), QUICK_OPTIONS)
            return server.request_heads

    heads = run_async(send_call())
    assert len(heads) == 2
    assert b"cookie" not in heads[1].lower()


async def _set_cookies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(build_response(headers=["Set-Cookie: session=1; Path=/"]))


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy"])
def test_direct_requests_ignore_proxy_environment_variables(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def send_call() -> tuple[int, int]:
        async with run_server(serve_requests) as proxy, run_server(serve_requests) as server:
            monkeypatch.setenv(name, proxy.url)
            async with SellerClient() as client:
                await client.send(GET_CALL, make_seller(server.url), QUICK_OPTIONS)
            return proxy.connection_count, server.connection_count

    assert run_async(send_call()) == (0, 1)
