"""A blocked event loop shows in the measured lag."""

import asyncio
import time

from gateway.task_supervisor import TaskSupervisor
from gateway.telemetry.event_loop_monitor import EventLoopMonitor

INTERVAL_SECONDS, BLOCKED_SECONDS = 0.02, 0.3


def test_blocked_event_loop_shows_its_lag() -> None:
    lags: list[float] = []

    async def block_loop() -> None:
        task = TaskSupervisor().run("event_loop.measure", EventLoopMonitor(INTERVAL_SECONDS, lags.append).run)
        await asyncio.sleep(3 * INTERVAL_SECONDS)
        time.sleep(BLOCKED_SECONDS)  # noqa: ASYNC251  the subject of the test
        await asyncio.sleep(3 * INTERVAL_SECONDS)
        await task.stop()

    asyncio.run(block_loop())
    assert len(lags) >= 3
    assert max(lags) >= BLOCKED_SECONDS - INTERVAL_SECONDS
    assert min(lags) >= 0
