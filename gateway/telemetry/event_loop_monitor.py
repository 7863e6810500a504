"""Measures how late the event loop runs: a task that sleeps is woken later while something blocks the loop."""

import asyncio
from collections.abc import Callable

from gateway.task_supervisor import SupervisedTask


class EventLoopMonitor:
    """Measures the lag of the event loop every `interval` seconds, and reports it to `observe`."""

    def __init__(self, interval: float, observe: Callable[[float], None]) -> None:
        self._interval, self._observe = interval, observe

    async def run(self, task: SupervisedTask) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due_at = loop.time() + self._interval
            await asyncio.sleep(self._interval)
            self._observe(max(0.0, loop.time() - due_at))
            task.record_success()
