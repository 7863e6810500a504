"""Orders of batches use a share of an account's limits, and interactive orders go first.

The bound: an interactive order never waits for an order of a batch while fewer than the rest of the limit is in flight.
With a limit of one order, it waits for the one that is in flight, and never for one that waits.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from gateway.config.schema import AccountLimits
from gateway.health.account_limiters import AccountLimiters
from gateway.health.concurrency_limiter import Priority, SlotTimeout
from tests.harness.manual_clock import ManualClock
from tests.harness.virtual_time_loop import in_virtual_time
from tests.unit.health.limit_helpers import (
    WAIT_TIMEOUT_SECONDS,
    count_free_slots,
    hold_slots,
    make_fault,
    make_limits,
    run_tasks,
)

BATCH = Priority.BATCH


async def hold_batch_slot(limits: AccountLimiters) -> None:
    async with limits.slot("a", WAIT_TIMEOUT_SECONDS, BATCH):
        await asyncio.sleep(WAIT_TIMEOUT_SECONDS)


@asynccontextmanager
async def run_batch(limits: AccountLimiters, orders: int = 500) -> AsyncIterator[None]:
    """Starts so many orders of a batch. Those beyond its share wait."""
    with run_tasks(*(hold_batch_slot(limits) for _ in range(orders))):
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        yield


@pytest.mark.parametrize("limit", ["concurrency", "per_minute"])
@in_virtual_time
async def test_batch_leaves_half_of_a_limit_free(limit: str) -> None:
    limits = make_limits(**{limit: 10})
    async with run_batch(limits):
        assert limits.count_in_flight("a") == 5
        assert limits.count_waiting_batch_orders() == 495
        assert await count_free_slots(limits) == 5


@in_virtual_time
async def test_batch_load_does_not_turn_interactive_orders_away() -> None:
    limits = make_limits(concurrency=10)
    async with run_batch(limits):
        assert limits.get_load("a") == 0.5


@in_virtual_time
async def test_interactive_order_precedes_waiting_orders_of_a_batch() -> None:
    limits = make_limits(concurrency=1)
    holder = limits.slot("a", 0, BATCH)
    await holder.__aenter__()
    async with run_batch(limits):
        interactive = asyncio.create_task(limits.slot("a", WAIT_TIMEOUT_SECONDS).__aenter__())
        await asyncio.sleep(0)
        assert not interactive.done()
        await holder.__aexit__(None, None, None)
        await interactive
        assert limits.count_waiting_batch_orders() == 500


@in_virtual_time
async def test_batch_waits_while_interactive_orders_use_all_slots() -> None:
    limits = make_limits(concurrency=4)
    async with hold_slots(limits, 4):
        with pytest.raises(SlotTimeout):
            async with limits.slot("a", 1.0, BATCH):
                pass
        assert limits.count_waiting_batch_orders() == 0


@in_virtual_time
async def test_batch_continues_when_its_orders_end() -> None:
    limits, done = make_limits(concurrency=4), []

    async def place_order(number: int) -> None:
        async with limits.slot("a", WAIT_TIMEOUT_SECONDS, BATCH):
            await asyncio.sleep(1.0)
            done.append((number, limits.count_in_flight("a")))

    await asyncio.gather(*(place_order(number) for number in range(6)))
    assert [number for number, _ in done] == [0, 1, 2, 3, 4, 5]
    assert max(in_flight for _, in_flight in done) == 2
    assert await count_free_slots(limits) == 4


@in_virtual_time
async def test_batch_waits_for_its_share_of_the_next_minute() -> None:
    limits, started = make_limits(asyncio.get_running_loop().time, per_minute=4), []

    async def place_order() -> None:
        async with limits.slot("a", 200.0, BATCH):
            started.append(asyncio.get_running_loop().time())

    began_at = asyncio.get_running_loop().time()
    await asyncio.gather(*(place_order() for _ in range(5)))
    assert [round(at - began_at) for at in started] == [0, 0, 60, 60, 120]


@in_virtual_time
async def test_share_of_a_limit_is_configurable_and_at_least_one() -> None:
    limits = make_limits(concurrency=10)
    for share, expected in ((0.2, 2), (0.01, 1), (1.0, 10)):
        limits.configure({"a": AccountLimits(concurrency=10)}, share)
        async with run_batch(limits):
            assert limits.count_in_flight("a") == expected


@in_virtual_time
async def test_share_applies_to_a_reduced_limit() -> None:
    limits = make_limits(ManualClock(), concurrency=8)
    limits.on_fault("a", make_fault())
    async with run_batch(limits):
        assert limits.count_in_flight("a") == 2


@in_virtual_time
async def test_batch_has_no_limit_where_the_account_has_none() -> None:
    limits = make_limits()
    async with run_batch(limits, 50):
        assert limits.count_in_flight("a") == 50


@in_virtual_time
async def test_waiting_orders_of_a_batch_set_no_timer_that_fires_at_once() -> None:
    """Only the end of an order can admit the next one: a timer would fire every millisecond."""
    limits = make_limits(asyncio.get_running_loop().time, concurrency=2)
    async with run_batch(limits, 3):
        assert limits._limiters["a"]._wakeup is None
