"""How many orders are in progress at once, who waits for a place, and what happens when the limit changes."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.config.blocks import AccountLimits
from gateway.upstream.limits import NoSlot
from tests.unit.upstream.limited import SOON, limited, places, running


def test_no_more_orders_are_in_progress_than_are_allowed() -> None:
    async def scenario() -> None:
        limits = limited(concurrency=3)
        assert await places(limits) == 3
        assert limits.in_progress("a") == 0
        assert await places(limits) == 3

    asyncio.run(scenario())


def test_nothing_is_limited_unless_it_is_said() -> None:
    async def scenario() -> None:
        limits = limited()
        async with limits.slot("a", 0), limits.slot("b", 0), limits.slot("b", 0):
            assert (limits.load("a"), limits.load("b"), limits.load("c")) == (0, 0, 0)
            assert limits.in_progress("b") == 2

    asyncio.run(scenario())


def test_load_is_what_is_in_progress_against_what_is_allowed() -> None:
    async def scenario() -> None:
        limits = limited(concurrency=4)
        async with limits.slot("a", 0):
            assert limits.load("a") == 0.25
            async with limits.slot("a", 0), limits.slot("a", 0), limits.slot("a", 0):
                assert limits.load("a") == 1

    asyncio.run(scenario())


def test_whoever_comes_first_is_let_in_first() -> None:
    async def scenario() -> None:
        limits, order = limited(concurrency=1), []

        async def one(number: int) -> None:
            async with limits.slot("a", SOON):
                order.append(number)
                await asyncio.sleep(0)

        await asyncio.gather(*(one(number) for number in range(20)))
        assert order == list(range(20))

    asyncio.run(scenario())


def test_nobody_overtakes_those_who_wait() -> None:
    async def scenario() -> None:
        limits = limited(concurrency=1)

        async def wait() -> None:
            async with limits.slot("a", SOON):
                await asyncio.sleep(SOON)

        async with limits.slot("a", 0):
            with running(wait()):
                await asyncio.sleep(0)
                limits.configure({"a": AccountLimits(concurrency=2)})
                limits.configure({"a": AccountLimits(concurrency=3)})
                await asyncio.sleep(0)
                assert limits.in_progress("a") == 2
                async with limits.slot("a", 0):
                    assert limits.in_progress("a") == 3

    asyncio.run(scenario())


def test_who_waits_too_long_is_told_so_and_holds_nobody_up() -> None:
    async def scenario() -> None:
        limits = limited(concurrency=1)
        async with limits.slot("a", 0):
            with pytest.raises(NoSlot):
                async with limits.slot("a", 0.01):
                    pytest.fail("nobody may be here")
        assert await places(limits) == 1

    asyncio.run(scenario())


def test_a_failing_order_gives_its_place_back() -> None:
    async def scenario() -> None:
        limits = limited(concurrency=1)
        with pytest.raises(RuntimeError):
            async with limits.slot("a", 0):
                raise RuntimeError
        assert await places(limits) == 1

    asyncio.run(scenario())


def test_who_is_let_in_and_cancelled_at_the_same_moment_gives_the_place_to_the_next() -> None:
    async def scenario() -> None:
        limits, reached = limited(concurrency=1, per_minute=3), []

        async def wait(name: str) -> None:
            async with limits.slot("a", SOON):
                reached.append(name)

        first = limits.slot("a", 0)
        await first.__aenter__()
        with running(wait("second"), wait("third")) as (second, third):
            await asyncio.sleep(0)
            await first.__aexit__(None, None, None)
            second.cancel()
            await third
        assert reached == ["third"]
        assert await places(limits) == 1, "the cancelled one has not used up the minute either"

    asyncio.run(scenario())


# --- changes


def test_a_lower_limit_waits_for_what_is_in_progress() -> None:
    async def scenario() -> None:
        limits = limited(concurrency=4)
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(limits.slot("a", 0))
            limits.configure({"a": AccountLimits(concurrency=2)})
            assert (limits.in_progress("a"), limits.load("a")) == (4, 2)
            assert await places(limits) == 0
        assert await places(limits) == 2

    asyncio.run(scenario())


def test_a_higher_limit_lets_those_in_who_wait() -> None:
    async def scenario() -> None:
        limits = limited(concurrency=1)

        async def work() -> None:
            async with limits.slot("a", SOON):
                await asyncio.sleep(SOON)

        with running(*(work() for _ in range(3))):
            await asyncio.sleep(0)
            limits.configure({"a": AccountLimits(concurrency=3)})
            await asyncio.sleep(0)
            assert limits.in_progress("a") == 3

    asyncio.run(scenario())


def test_an_account_that_is_gone_keeps_its_limit_until_nothing_is_in_progress_there() -> None:
    async def scenario() -> None:
        limits = limited(concurrency=1)
        async with limits.slot("a", 0):
            limits.configure({})
            assert await places(limits) == 0
        limits.configure({})
        assert await places(limits) == 40

    asyncio.run(scenario())
