"""Whoever gives up, at whatever moment, leaves nothing behind: no connection, slot, task or file."""

import asyncio
import gc
import random

import pytest

from gateway.upstream.budget import ByteBudget
from gateway.upstream.client import Exchange, Upstream
from gateway.upstream.transport import Ways
from providers.spec import Answer, Call
from tests.upstream.servers import GET, LOOPS, ORDER, Server, answer, asked, hangs, open_files, seller, server, until

REQUESTS = 2_000
AT_ONCE = 100
LARGE = Call(method="POST", location="/large", body=b"x" * (1 << 20))
LARGE_ANSWER = answer(b"y" * 300_000)


async def dawdles(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Slow at every step, so that whoever leaves at a random moment leaves at any of them."""
    chance = random.Random(1)  # noqa: S311
    while True:
        await asyncio.sleep(chance.random() * 0.01)
        await asked(reader)
        await asyncio.sleep(chance.random() * 0.02)
        reply = LARGE_ANSWER if chance.random() < 0.3 else answer()
        writer.write(reply[:20])
        await asyncio.sleep(chance.random() * 0.01)
        writer.write(reply[20:])
        await writer.drain()


async def _cancel_at_random(upstream: Upstream, running: Server) -> int:
    """How many were cancelled; the others had been answered before."""
    chance = random.Random(7)  # noqa: S311
    cancelled = 0

    async def one() -> None:
        nonlocal cancelled
        call = chance.choice((GET, ORDER, LARGE))
        exchange = Exchange(seconds=30.0, fresh=chance.random() < 0.5)
        asking = asyncio.create_task(upstream.perform(call, seller(running.url), exchange))
        await asyncio.wait([asking], timeout=chance.random() ** 2 * 0.05)
        asking.cancel()
        outcome = (await asyncio.gather(asking, return_exceptions=True))[0]
        cancelled += isinstance(outcome, asyncio.CancelledError)

    for _ in range(REQUESTS // AT_ONCE):
        await asyncio.gather(*(one() for _ in range(AT_ONCE)))
    return cancelled


async def _leaves_nothing() -> None:
    budget = ByteBudget(8 << 20)
    async with server(dawdles) as running:
        before = open_files()
        tasks = len(asyncio.all_tasks())
        async with Upstream(Ways(most_connections=AT_ONCE), budget) as upstream:
            cancelled = await _cancel_at_random(upstream, running)
            assert cancelled > REQUESTS // 2
            assert (budget.taken, budget.waiting) == (0, 0)
            outcomes = await asyncio.gather(
                *(
                    upstream.perform(call, seller(running.url), Exchange(seconds=10.0, fresh=fresh))
                    for call in (GET, LARGE)
                    for fresh in (False, True)
                    for _ in range(25)
                )
            )
            assert all(isinstance(outcome, Answer) for outcome in outcomes), outcomes
        gc.collect()
        await until(lambda: running.open == 0)
        await until(lambda: len(asyncio.all_tasks()) == tasks)
        await until(lambda: open_files() == before)


@pytest.mark.parametrize("loop", LOOPS)
def test_cancelled_requests_leave_nothing_behind(loop: str) -> None:
    LOOPS[loop](_leaves_nothing())


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "kept"])
def test_a_large_order_that_nobody_reads_can_be_dropped_at_once(loop: str, fresh: bool) -> None:
    """Closing politely would keep the connection until the other side has read what is on its way."""

    async def drops() -> None:
        async with server(hangs) as running, Upstream() as upstream:
            before = open_files()
            large = Call(method="POST", location="/", body=b"x" * (30 << 20))
            exchange = Exchange(seconds=30.0, fresh=fresh)
            asking = asyncio.create_task(upstream.perform(large, seller(running.url), exchange))
            await asyncio.sleep(0.2)
            asking.cancel()
            await asyncio.wait([asking])
            assert asking.cancelled()
            # The server's own side stays open, since it neither reads nor writes.
            await until(lambda: open_files() == before + 1)
            assert upstream.budget.taken == 0

    LOOPS[loop](drops())


@pytest.mark.parametrize("loop", LOOPS)
def test_an_early_answer_to_a_large_order_leaves_no_half_sent_connection(loop: str) -> None:
    async def answers_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        # Until nothing more fits on the way, so that some of the order is still unsent.
        await asyncio.sleep(0.3)
        writer.write(answer(b"too large", "413 Too Large"))
        await writer.drain()
        await asyncio.sleep(3600)

    async def asks() -> None:
        async with server(answers_early) as running, Upstream() as upstream:
            before = open_files()
            large = Call(method="POST", location="/", body=b"x" * (30 << 20))
            outcome = await upstream.perform(large, seller(running.url), Exchange(seconds=3.0))
            assert isinstance(outcome, Answer)
            assert outcome.status == 413
            await until(lambda: open_files() == before + 1)

    LOOPS[loop](asks())
