"""Notifies tasks of this process about changes of a job."""

import asyncio
from collections import defaultdict
from math import inf
from typing import Self

from gateway.event_wait import wait_and_clear


class JobWatch:
    """Watches one job within a `with` block. No change that happens inside the block is missed."""

    def __init__(self, watchers: "JobWatchers", job_id: str) -> None:
        self._watchers = watchers
        self._job_id = job_id
        self._event = asyncio.Event()
        # The highest announced version of the job; infinite if a change may have been missed.
        self._announced_version: float = 0

    def __enter__(self) -> Self:
        self._watchers.add(self._job_id, self)
        return self

    def __exit__(self, *raised: object) -> None:
        self._watchers.remove(self._job_id, self)

    def announce(self, version: float) -> None:
        """Announces that the job has this version now."""
        self._announced_version = max(self._announced_version, version)
        self._event.set()

    def has_newer_version(self, version: int) -> bool:
        """Returns whether the job may have a later version than this one, as far as changes were announced. The next
        call considers later announcements only."""
        announced_version, self._announced_version = self._announced_version, 0
        return announced_version > version

    async def wait_for_change(self, timeout_seconds: float) -> bool:
        """Waits for a change since the last call. Returns False after the timeout. It may return True without a
        change."""
        return await wait_and_clear(self._event, timeout_seconds)


class JobWatchers:
    """All open watches of this process."""

    def __init__(self) -> None:
        # In the order of their creation, since the order of a set would differ between two equal runs.
        self._watches: defaultdict[str, dict[JobWatch, None]] = defaultdict(dict)

    def add(self, job_id: str, watch: JobWatch) -> None:
        self._watches[job_id][watch] = None

    def remove(self, job_id: str, watch: JobWatch) -> None:
        self._watches[job_id].pop(watch, None)
        if not self._watches[job_id]:
            del self._watches[job_id]

    def notify(self, job_id: str, version: float = inf) -> None:
        """Wakes the watchers of a job. `version`: the version that the job has now, if it is known."""
        for watch in self._watches.get(job_id, ()):
            watch.announce(version)

    def notify_all(self) -> None:
        """Wakes all watchers, because changes may have been missed."""
        for job_id in self._watches:
            self.notify(job_id)
