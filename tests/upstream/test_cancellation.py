"""A call that is cancelled at any moment leaks no connection, slot, task or file."""

import asyncio
import gc
import random

import pytest

from gateway.memory_budget import MemoryBudget
from gateway.upstream.seller_client import CallOptions, SellerClient
from gateway.upstream.transport_pool import TransportPool
from providers.adapter import Answer, Call
from tests.harness.wait import wait_until_async
from tests.upstream.fake_servers import (
    EVENT_LOOPS,
    GET_CALL,
    ORDER_CALL,
    FakeServer,
    build_response,
    count_open_files,
    hang_forever,
    make_seller,
    read_request,
    run_server,
)

REQUEST_COUNT = 2_000
CONCURRENCY = 100
LARGE_CALL = Call(method="POST", location="/large", body=b"x" * (1 << 20))
LARGE_RESPONSE = build_response(b"y" * 300_000)


async def respond_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Responds slowly at every step, so that random cancellations hit all of them."""
    chance = random.Random(1)  # noqa: S311
    while True:
        await asyncio.sleep(chance.random() * 0.01)
        await read_request(reader)
        await asyncio.sleep(chance.random() * 0.02)
        reply = LARGE_RESPONSE if chance.random() < 0.3 else build_response()
        writer.write(reply[:20])
        await asyncio.sleep(chance.random() * 0.01)
        writer.write(reply[20:])
        await writer.drain()


async def _cancel_randomly(client: SellerClient, server: FakeServer) -> int:
    """Cancels calls at random moments. Returns how many were cancelled before their answer."""
    chance = random.Random(7)  # noqa: S311
    cancelled = 0

    async def send_and_cancel() -> None:
        nonlocal cancelled
        call = chance.choice((GET_CALL, ORDER_CALL, LARGE_CALL))
        options = CallOptions(timeout_seconds=30.0, fresh_connection=chance.random() < 0.5)
        sending = asyncio.create_task(client.send(call, make_seller(server.url), options))
        await asyncio.wait([sending], timeout=chance.random() ** 2 * 0.05)
        sending.cancel()
        outcome = (await asyncio.gather(sending, return_exceptions=True))[0]
        cancelled += isinstance(outcome, asyncio.CancelledError)

    for _ in range(REQUEST_COUNT // CONCURRENCY):
        await asyncio.gather(*(send_and_cancel() for _ in range(CONCURRENCY)))
    return cancelled


async def _check_for_leaks() -> None:
    budget = MemoryBudget(8 << 20)
    async with run_server(respond_slowly) as server:
        before = count_open_files()
        tasks = len(asyncio.all_tasks())
        async with SellerClient(TransportPool(max_connections=CONCURRENCY), budget) as client:
            cancelled = await _cancel_randomly(client, server)
            assert cancelled > REQUEST_COUNT // 2
            assert (budget.reserved_bytes, budget.waiter_count) == (0, 0)
            outcomes = await asyncio.gather(
                *(
                    client.send(
                        call,
                        make_seller(server.url),
                        CallOptions(timeout_seconds=10.0, fresh_connection=fresh_connection),
                    )
                    for call in (GET_CALL, LARGE_CALL)
                    for fresh_connection in (False, True)
                    for _ in range(25)
                )
            )
            assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
        gc.collect()
        await wait_until_async(lambda: server.open_connections == 0, "all connections are closed", timeout_seconds=10.0)
        await wait_until_async(lambda: len(asyncio.all_tasks()) <= tasks, "all tasks have ended", timeout_seconds=10.0)
        await wait_until_async(lambda: count_open_files() <= before, "all sockets are closed", timeout_seconds=10.0)


@pytest.mark.thorough
@pytest.mark.parametrize("loop", EVENT_LOOPS)
def test_cancelled_requests_leak_nothing(loop: str) -> None:
    EVENT_LOOPS[loop](_check_for_leaks())


@pytest.mark.parametrize("loop", EVENT_LOOPS)
@pytest.mark.parametrize("fresh_connection", [True, False], ids=["fresh", "reused"])
def test_cancelling_an_unread_large_order_closes_its_connection(loop: str, fresh_connection: bool) -> None:
    """A clean close would keep the connection until the other side has read the sent bytes."""

    async def scenario() -> None:
        async with run_server(hang_forever) as server, SellerClient() as client:
            before = count_open_files()
            large = Call(method="POST", location="/", body=b"x" * (30 << 20))
            options = CallOptions(timeout_seconds=30.0, fresh_connection=fresh_connection)
            sending = asyncio.create_task(client.send(large, make_seller(server.url), options))
            await asyncio.sleep(0.2)
            sending.cancel()
            await asyncio.wait([sending])
            assert sending.cancelled()
            # The server's end stays open, since it neither reads nor writes.
            await wait_until_async(
                lambda: count_open_files() <= before + 1, "only the server keeps its socket", timeout_seconds=10.0
            )
            assert client.memory_budget.reserved_bytes == 0

    EVENT_LOOPS[loop](scenario())


@pytest.mark.parametrize("loop", EVENT_LOOPS)
def test_early_response_to_a_large_order_closes_its_connection(loop: str) -> None:
    async def respond_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        # Wait until the buffers are full, so that a part of the order is still unsent.
        await asyncio.sleep(0.3)
        writer.write(build_response(b"too large", "413 Too Large"))
        await writer.drain()
        await asyncio.sleep(3600)

    async def scenario() -> None:
        async with run_server(respond_early) as server, SellerClient() as client:
            before = count_open_files()
            large = Call(method="POST", location="/", body=b"x" * (30 << 20))
            outcome = await client.send(large, make_seller(server.url), CallOptions(timeout_seconds=3.0))
            assert isinstance(outcome, Answer)
            assert outcome.status == 413
            await wait_until_async(
                lambda: count_open_files() <= before + 1, "only the server keeps its socket", timeout_seconds=10.0
            )

    EVENT_LOOPS[loop](scenario())
