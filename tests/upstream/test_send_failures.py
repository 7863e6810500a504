"""Every way in which a call can fail, over real sockets: not sent, or response lost."""

import asyncio
import socket
import time
from collections.abc import Sequence

import pytest

from gateway.upstream.seller_client import CallOptions, SellerClient
from gateway.upstream.transport_pool import TransportPool
from providers.adapter import Answer, Call
from providers.faults import FaultKind
from providers.order_status import NoAnswer
from tests.upstream.broken_responses import BROKEN_RESPONSES, HALF_BODY, HALF_HEAD, NO_BYTES
from tests.upstream.fake_servers import (
    GET_CALL,
    ORDER_CALL,
    QUICK_OPTIONS,
    build_response,
    get_fault,
    get_fault_kind,
    hang_forever,
    keep_hanging,
    make_responder,
    make_seller,
    make_sequence,
    reset_connection,
    run_async,
    run_server,
    send_call,
    serve_requests,
)


@pytest.mark.parametrize("fresh_connection", [True, False], ids=["fresh", "reused"])
@pytest.mark.parametrize("name", BROKEN_RESPONSES)
def test_broken_response_to_an_order_is_response_lost(name: str, fresh_connection: bool) -> None:
    options = CallOptions(timeout_seconds=30.0, fresh_connection=fresh_connection)
    assert get_fault_kind(run_async(send_call(BROKEN_RESPONSES[name], options=options))) is FaultKind.RESPONSE_LOST


@pytest.mark.parametrize("name", BROKEN_RESPONSES)
def test_broken_response_to_a_get_is_response_lost(name: str) -> None:
    assert get_fault_kind(run_async(send_call(BROKEN_RESPONSES[name], GET_CALL))) is FaultKind.RESPONSE_LOST


SLOW_RESPONSES = {
    "hangs before it reads": hang_forever,
    "hangs before the head": make_sequence(make_responder(NO_BYTES), keep_hanging),
    "hangs within the head": make_sequence(make_responder(HALF_HEAD), keep_hanging),
    "hangs after the head": make_sequence(
        make_responder(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"), keep_hanging
    ),
    "hangs within the body": make_sequence(make_responder(HALF_BODY), keep_hanging),
    "a byte each 0.2 s": make_responder(*(bytes([byte]) for byte in build_response(b"0" * 400)), interval=0.2),
    "a byte of body each 0.2 s": make_responder(
        b"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\n", *[b"0"] * 400, interval=0.2
    ),
    "endless interim responses": make_responder(*[b"HTTP/1.1 103 Early Hints\r\n\r\n"] * 400, interval=0.05),
}


@pytest.mark.one_in(4)
@pytest.mark.parametrize("name", SLOW_RESPONSES)
def test_timeout_covers_the_whole_exchange(name: str) -> None:
    started_at = time.monotonic()
    assert (
        get_fault_kind(run_async(send_call(SLOW_RESPONSES[name], options=CallOptions(timeout_seconds=0.7))))
        is FaultKind.RESPONSE_LOST
    )
    assert 0.6 < time.monotonic() - started_at < 10


def test_large_order_to_a_server_that_never_reads_times_out() -> None:
    large = Call(method="POST", location="/", body=b"x" * (30 << 20))
    assert (
        get_fault_kind(run_async(send_call(hang_forever, large, CallOptions(timeout_seconds=0.5))))
        is FaultKind.RESPONSE_LOST
    )


def test_order_that_is_cut_off_half_way_is_response_lost() -> None:
    async def read_partly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1000)
        reset_connection(writer)

    large = Call(method="POST", location="/", body=b"x" * (30 << 20))
    assert get_fault_kind(run_async(send_call(read_partly, large))) is FaultKind.RESPONSE_LOST


def test_refused_connection_is_not_sent() -> None:
    async def send_order() -> Answer | NoAnswer:
        with socket.socket() as reserved:
            reserved.bind(("127.0.0.1", 0))
            async with SellerClient() as client:
                return await client.send(
                    ORDER_CALL, make_seller(f"http://127.0.0.1:{reserved.getsockname()[1]}"), QUICK_OPTIONS
                )

    outcome = run_async(send_order())
    assert get_fault_kind(outcome) is FaultKind.NOT_SENT
    assert get_fault(outcome).message == "ConnectionRefusedError"


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), socket.gaierror(-3, "try again"), OSError("odd")])
def test_failed_dns_lookup_is_not_sent(error: OSError) -> None:
    async def fail_lookup(_: str) -> Sequence[str]:
        raise error

    async def send_order() -> Answer | NoAnswer:
        async with SellerClient(TransportPool(lookup=fail_lookup)) as client:
            return await client.send(ORDER_CALL, make_seller("https://seller.invalid"), QUICK_OPTIONS)

    assert get_fault_kind(run_async(send_order())) is FaultKind.NOT_SENT


@pytest.mark.parametrize("host", ["seller.invalid", "a" * 70 + ".invalid", "a..b.invalid", "xn--.invalid"])
def test_unknown_hostname_is_not_sent(host: str) -> None:
    async def send_order() -> Answer | NoAnswer:
        async with SellerClient() as client:
            return await client.send(ORDER_CALL, make_seller(f"https://{host}"), QUICK_OPTIONS)

    assert get_fault_kind(run_async(send_order())) is FaultKind.NOT_SENT


def test_hanging_dns_lookup_ends_with_the_connect_timeout() -> None:
    async def hang_lookup(_: str) -> Sequence[str]:
        await asyncio.sleep(3600)
        return ()

    async def send_order(options: CallOptions) -> Answer | NoAnswer:
        async with SellerClient(TransportPool(lookup=hang_lookup)) as client:
            return await client.send(ORDER_CALL, make_seller("https://seller.invalid"), options)

    for options in (CallOptions(timeout_seconds=30.0, connect_timeout_seconds=0.3), CallOptions(timeout_seconds=0.3)):
        started_at = time.monotonic()
        assert get_fault_kind(run_async(send_order(options))) is FaultKind.NOT_SENT
        assert time.monotonic() - started_at < 15


def test_listener_that_never_accepts_is_not_sent() -> None:
    async def send_order() -> Answer | NoAnswer:
        with socket.socket() as full:
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            blockers = [socket.socket() for _ in range(4)]
            for blocker in blockers:
                blocker.setblocking(False)
                blocker.connect_ex(full.getsockname())
            async with SellerClient() as client:
                try:
                    url = f"http://127.0.0.1:{full.getsockname()[1]}"
                    return await client.send(
                        ORDER_CALL, make_seller(url), CallOptions(timeout_seconds=30.0, connect_timeout_seconds=0.3)
                    )
                finally:
                    for blocker in blockers:
                        blocker.close()

    assert get_fault_kind(run_async(send_order())) is FaultKind.NOT_SENT


@pytest.mark.parametrize(
    "options", [CallOptions(timeout_seconds=2.0, connect_timeout_seconds=0.2), CallOptions(timeout_seconds=0.2)]
)
def test_exhausted_connection_pool_is_gateway_busy(options: CallOptions) -> None:
    async def send_order() -> tuple[Answer | NoAnswer, int]:
        async with run_server(hang_forever) as server, SellerClient(TransportPool(max_connections=1)) as client:
            first = asyncio.create_task(client.send(ORDER_CALL, make_seller(server.url), QUICK_OPTIONS))
            await asyncio.sleep(0.1)
            second = await client.send(ORDER_CALL, make_seller(server.url), options)
            first.cancel()
            await asyncio.wait([first])
            return second, server.connection_count

    outcome, connections = run_async(send_order())
    assert get_fault_kind(outcome) is FaultKind.GATEWAY_BUSY
    assert connections == 1


def test_closed_client_sends_nothing() -> None:
    async def send_order() -> tuple[Answer | NoAnswer, int]:
        async with run_server(serve_requests) as server:
            client = SellerClient()
            await client.aclose()
            return await client.send(ORDER_CALL, make_seller(server.url), QUICK_OPTIONS), server.connection_count

    outcome, connections = run_async(send_order())
    assert get_fault_kind(outcome) is FaultKind.NOT_SENT
    assert connections == 0
