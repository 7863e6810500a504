import asyncio
import time

import pytest

from tests.harness.virtual_time_loop import Deadlock, Livelock, run_in_virtual_time


def test_long_sleeps_take_no_time_and_end_in_order() -> None:
    ended: list[tuple[str, float]] = []

    async def sleep_for(name: str, seconds: float) -> None:
        await asyncio.sleep(seconds)
        ended.append((name, asyncio.get_running_loop().time()))

    async def scenario() -> float:
        started_at = asyncio.get_running_loop().time()
        await asyncio.gather(sleep_for("day", 86_400.0), sleep_for("second", 1.0), sleep_for("hour", 3_600.0))
        return started_at

    before = time.monotonic()
    started_at = run_in_virtual_time(scenario())
    assert time.monotonic() - before < 30
    assert [(name, at - started_at) for name, at in ended] == [("second", 1.0), ("hour", 3_600.0), ("day", 86_400.0)]


def test_timeout_ends_at_its_exact_time() -> None:
    async def scenario() -> float:
        started_at = asyncio.get_running_loop().time()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(12.5):
                await asyncio.Event().wait()
        return asyncio.get_running_loop().time() - started_at

    assert run_in_virtual_time(scenario()) == 12.5


def test_functions_for_threads_run_at_once() -> None:
    async def scenario() -> tuple[int, str]:
        with pytest.raises(ZeroDivisionError):
            await asyncio.to_thread(lambda: 1 // 0)
        return await asyncio.to_thread(lambda: 42), await asyncio.get_running_loop().run_in_executor(None, str, 7)

    assert run_in_virtual_time(scenario()) == (42, "7")


def test_deadlock_names_waiting_tasks() -> None:
    async def wait_without_end() -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        await asyncio.gather(wait_without_end(), asyncio.create_task(wait_without_end()))

    with pytest.raises(Deadlock, match=r"wait_without_end waits at .*test_virtual_time_loop.py:\d+"):
        run_in_virtual_time(scenario())


def test_livelock_is_reported() -> None:
    async def spin() -> None:
        while True:  # noqa: ASYNC110  busy on purpose
            await asyncio.sleep(0)

    with pytest.raises(Livelock, match=r"spin waits at .*test_virtual_time_loop.py:\d+"):
        run_in_virtual_time(spin())


def test_cancelled_timers_do_not_move_the_time() -> None:
    async def scenario() -> float:
        loop = asyncio.get_running_loop()
        for seconds in range(100, 200):
            loop.call_later(seconds, lambda: None).cancel()
        started_at = loop.time()
        await asyncio.sleep(0.25)
        return loop.time() - started_at

    assert run_in_virtual_time(scenario()) == 0.25


def test_task_can_wait_for_a_slower_clock() -> None:
    """The clock of a replica slews: it comes closer to the time by a tenth of what remains, again and again."""

    async def wait_for_slower_clock() -> float:
        loop = asyncio.get_running_loop()
        started_at, remaining_seconds = loop.time(), 9.0
        while remaining_seconds > 0.0:
            await asyncio.sleep(remaining_seconds)
            remaining_seconds = 9.0 - 0.9 * (loop.time() - started_at)
        return loop.time() - started_at

    assert run_in_virtual_time(wait_for_slower_clock()) == pytest.approx(10.0)
