"""Concurrency limit of an account: how many orders run at the same time, which wait, and what a changed limit does."""

import asyncio

import pytest

from gateway.config.schema import AccountLimits
from gateway.health.concurrency_limiter import SlotTimeout
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.health.limit_helpers import (
    WAIT_TIMEOUT_SECONDS,
    count_free_slots,
    hold_slot,
    hold_slots,
    make_limits,
    run_tasks,
)


@in_virtual_time
async def test_concurrency_limit_holds() -> None:
    limits = make_limits(concurrency=3)
    assert await count_free_slots(limits) == 3
    assert limits.count_in_flight("a") == 0
    assert await count_free_slots(limits) == 3


@in_virtual_time
async def test_nothing_is_limited_by_default() -> None:
    limits = make_limits()
    async with limits.slot("a", 0), limits.slot("b", 0), limits.slot("b", 0):
        assert (limits.get_load("a"), limits.get_load("b"), limits.get_load("c")) == (0, 0, 0)
        assert limits.count_in_flight("b") == 2


@in_virtual_time
async def test_load_is_in_flight_divided_by_limit() -> None:
    limits = make_limits(concurrency=4)
    async with limits.slot("a", 0):
        assert limits.get_load("a") == 0.25
        async with limits.slot("a", 0), limits.slot("a", 0), limits.slot("a", 0):
            assert limits.get_load("a") == 1


@in_virtual_time
async def test_waiters_are_admitted_in_order() -> None:
    limits, order = make_limits(concurrency=1), []

    async def place_order(number: int) -> None:
        async with limits.slot("a", WAIT_TIMEOUT_SECONDS):
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(place_order(number) for number in range(20)))
    assert order == list(range(20))


@in_virtual_time
async def test_newcomers_do_not_overtake_waiters() -> None:
    limits = make_limits(concurrency=1)
    async with limits.slot("a", 0):
        with run_tasks(hold_slot(limits)):
            await asyncio.sleep(0)
            limits.configure({"a": AccountLimits(concurrency=2)})
            limits.configure({"a": AccountLimits(concurrency=3)})
            await asyncio.sleep(0)
            assert limits.count_in_flight("a") == 2
            async with limits.slot("a", 0):
                assert limits.count_in_flight("a") == 3


@in_virtual_time
async def test_timed_out_waiter_blocks_no_order() -> None:
    limits = make_limits(concurrency=1)
    async with limits.slot("a", 0):
        with pytest.raises(SlotTimeout):
            async with limits.slot("a", 0.01):
                pytest.fail("no slot is free")
    assert await count_free_slots(limits) == 1


@in_virtual_time
async def test_failing_order_releases_its_slot() -> None:
    limits = make_limits(concurrency=1)
    with pytest.raises(RuntimeError):
        async with limits.slot("a", 0):
            raise RuntimeError
    assert await count_free_slots(limits) == 1


@in_virtual_time
async def test_cancelled_waiter_passes_slot_to_next() -> None:
    limits, admitted = make_limits(concurrency=1, per_minute=3), []

    async def wait_for_slot(name: str) -> None:
        async with limits.slot("a", WAIT_TIMEOUT_SECONDS):
            admitted.append(name)

    first = limits.slot("a", 0)
    await first.__aenter__()
    with run_tasks(wait_for_slot("second"), wait_for_slot("third")) as (second, third):
        await asyncio.sleep(0)
        await first.__aexit__(None, None, None)
        second.cancel()
        await third
    assert admitted == ["third"]
    assert await count_free_slots(limits) == 1, "the cancelled order does not count against the rate limit"


# --- changes


@in_virtual_time
async def test_lowered_limit_waits_for_orders_in_flight() -> None:
    limits = make_limits(concurrency=4)
    async with hold_slots(limits, 4):
        limits.configure({"a": AccountLimits(concurrency=2)})
        assert (limits.count_in_flight("a"), limits.get_load("a")) == (4, 2)
        assert await count_free_slots(limits) == 0
    assert await count_free_slots(limits) == 2


@in_virtual_time
async def test_raised_limit_admits_waiters() -> None:
    limits = make_limits(concurrency=1)
    with run_tasks(*(hold_slot(limits) for _ in range(3))):
        await asyncio.sleep(0)
        limits.configure({"a": AccountLimits(concurrency=3)})
        await asyncio.sleep(0)
        assert limits.count_in_flight("a") == 3


@in_virtual_time
async def test_removed_account_keeps_limit_until_idle() -> None:
    limits = make_limits(concurrency=1)
    async with limits.slot("a", 0):
        limits.configure({})
        assert await count_free_slots(limits) == 0
    limits.configure({})
    assert await count_free_slots(limits) == 40
