"""Notifies tasks of this process about changes of a job."""

import asyncio
from collections import defaultdict
from typing import Self

from gateway.event_wait import wait_and_clear


class JobWatch:
    """Watches one job within a `with` block. No change that happens inside the block is missed."""

    def __init__(self, watchers: "JobWatchers", job_id: str) -> None:
        self._watchers = watchers
        self._job_id = job_id
        self._event = asyncio.Event()

    def __enter__(self) -> Self:
        self._watchers.add(self._job_id, self._event)
        return self

    def __exit__(self, *raised: object) -> None:
        self._watchers.remove(self._job_id, self._event)

    async def wait_for_change(self, timeout_seconds: float) -> bool:
        """Waits for a change since the last call. Returns False after the timeout. It may return True without a
        change."""
        return await wait_and_clear(self._event, timeout_seconds)


class JobWatchers:
    """All open watches of this process."""

    def __init__(self) -> None:
        # In the order of their creation, since the order of a set would differ between two equal runs.
        self._events: defaultdict[str, dict[asyncio.Event, None]] = defaultdict(dict)

    def add(self, job_id: str, event: asyncio.Event) -> None:
        self._events[job_id][event] = None

    def remove(self, job_id: str, event: asyncio.Event) -> None:
        self._events[job_id].pop(event, None)
        if not self._events[job_id]:
            del self._events[job_id]

    def notify(self, job_id: str) -> None:
        for event in self._events.get(job_id, ()):
            event.set()

    def notify_all(self) -> None:
        """Wakes all watchers, because changes may have been missed."""
        for job_id in self._events:
            self.notify(job_id)
