"""Rate limit of an account, and the slowdown after a seller's rejections."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from gateway.health.concurrency_limiter import SlotTimeout
from gateway.timeouts_and_intervals import HealthTiming
from providers.faults import FaultKind
from tests.harness.virtual_time_loop import in_virtual_time, run_in_virtual_time
from tests.unit.health.limit_helpers import (
    WAIT_TIMEOUT_SECONDS,
    ManualClock,
    count_free_slots,
    make_fault,
    make_limits,
    run_tasks,
)


@in_virtual_time
async def test_rate_limit_holds_in_any_minute() -> None:
    clock = ManualClock()
    limits = make_limits(clock, per_minute=3)
    assert await count_free_slots(limits, 2) == 2
    clock.now += 59
    assert await count_free_slots(limits) == 1
    assert limits.get_load("a") >= 1
    clock.now += 1
    assert limits.get_load("a") == 0
    assert await count_free_slots(limits) == 2
    clock.now += 59
    assert await count_free_slots(limits) == 1


def test_waiter_is_admitted_in_next_minute() -> None:
    timing = HealthTiming(rate_window_seconds=0.1)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        limits, start = make_limits(loop.time, timing, per_minute=1), loop.time()
        for _ in range(3):
            async with limits.slot("a", WAIT_TIMEOUT_SECONDS):
                pass
        assert 0.2 <= loop.time() - start < 2

    run_in_virtual_time(scenario())


# --- backpressure


@pytest.mark.parametrize("kind", [FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.OVERLOADED])
@pytest.mark.parametrize(("retry_after", "seconds"), [(20, 20), (0, 1), (-1, 1), (90_000, 300)])
@in_virtual_time
async def test_retry_after_blocks_all_orders_until_its_end(kind: FaultKind, retry_after: float, seconds: float) -> None:
    clock = ManualClock()
    limits = make_limits(clock)
    limits.on_fault("a", make_fault(retry_after, kind))
    clock.now += seconds - 0.01
    assert limits.get_load("a") >= 1
    assert await count_free_slots(limits) == 0
    clock.now += 0.01
    assert limits.get_load("a") == 0
    assert await count_free_slots(limits) == 40


BACKPRESSURE_FAULTS = {FaultKind.RATE_LIMITED, FaultKind.UNAVAILABLE, FaultKind.OVERLOADED}


@pytest.mark.parametrize("kind", [kind for kind in FaultKind if kind not in BACKPRESSURE_FAULTS])
def test_other_faults_block_no_order(kind: FaultKind) -> None:
    limits = make_limits(concurrency=4)
    limits.on_fault("a", make_fault(60, kind))
    assert limits.get_load("a") == 0


@in_virtual_time
async def test_pause_longer_than_timeout_fails_at_once() -> None:
    limits = make_limits()
    limits.on_fault("a", make_fault(60))
    async with asyncio.timeout(WAIT_TIMEOUT_SECONDS):
        with pytest.raises(SlotTimeout):
            async with limits.slot("a", 30):
                pass
    assert limits.get_load("a") >= 1


def test_waiter_is_admitted_at_end_of_pause() -> None:
    timing = HealthTiming(min_retry_after_seconds=0.1)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        limits, start = make_limits(loop.time, timing), loop.time()
        limits.on_fault("a", make_fault(0.1))
        async with limits.slot("a", WAIT_TIMEOUT_SECONDS):
            assert 0.1 <= loop.time() - start < 2

    run_in_virtual_time(scenario())


@in_virtual_time
async def test_waiters_keep_their_place_at_end_of_pause() -> None:
    clock = ManualClock()
    limits = make_limits(clock, concurrency=1)
    limits.on_fault("a", make_fault(60))

    async def wait_for_slot() -> None:
        async with limits.slot("a", 60 + WAIT_TIMEOUT_SECONDS):
            assert clock.now == 1_060

    with run_tasks(wait_for_slot()) as (waiter,):
        await asyncio.sleep(0)
        clock.now += 60
        assert await count_free_slots(limits) == 0
        await waiter


@in_virtual_time
async def test_rate_limit_fault_halves_concurrency_and_it_recovers_stepwise() -> None:
    clock = ManualClock()
    limits, free_slots = make_limits(clock, concurrency=8), []
    for _ in range(4):
        clock.now += 2
        limits.on_fault("a", make_fault())
        free_slots.append(await count_free_slots(limits))
    assert free_slots == [4, 2, 1, 1]
    for expected in range(1, 8):
        assert await count_free_slots(limits) == expected
        clock.now += 9.9
        assert await count_free_slots(limits) == expected
        clock.now += 0.1
    assert await count_free_slots(limits) == 8
    clock.now += 1_000
    assert await count_free_slots(limits) == 8


@in_virtual_time
async def test_rejections_within_one_second_count_once() -> None:
    limits = make_limits(concurrency=8)
    for _ in range(8):
        limits.on_fault("a", make_fault())
    assert await count_free_slots(limits) == 4


@in_virtual_time
async def test_without_limit_observed_peak_is_halved() -> None:
    clock = ManualClock()
    limits = make_limits(clock)
    assert await count_free_slots(limits, 10) == 10
    limits.on_fault("a", make_fault())
    assert await count_free_slots(limits) == 5
    clock.now += 49
    assert await count_free_slots(limits) == 9
    clock.now += 1
    assert await count_free_slots(limits) == 40


@in_virtual_time
async def test_without_recent_orders_nothing_is_halved() -> None:
    clock = ManualClock()
    limits = make_limits(clock)
    limits.on_fault("a", make_fault())
    assert await count_free_slots(limits) == 40
    clock.now += 120
    limits.on_fault("a", make_fault())
    assert await count_free_slots(limits) == 40, "a peak of more than a minute ago does not count"


def test_waiter_is_admitted_as_limit_recovers() -> None:
    timing = HealthTiming(recovery_interval_seconds=0.05)

    async def scenario() -> None:
        limits = make_limits(asyncio.get_running_loop().time, timing, concurrency=4)
        limits.on_fault("a", make_fault())
        async with AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(limits.slot("a", WAIT_TIMEOUT_SECONDS))
            assert limits.count_in_flight("a") == 4

    run_in_virtual_time(scenario())
