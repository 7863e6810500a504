"""Hearing of a job's changes, whoever makes them."""

import asyncio
from collections import defaultdict
from typing import Self


class Watch:
    """Open from `with` to its end. A change that happens in between is never missed."""

    def __init__(self, watches: "Watches", job: str) -> None:
        self._watches = watches
        self._job = job
        self._happened = asyncio.Event()

    def __enter__(self) -> Self:
        self._watches.add(self._job, self._happened)
        return self

    def __exit__(self, *raised: object) -> None:
        self._watches.remove(self._job, self._happened)

    async def changed(self, seconds: float) -> bool:
        """Waits for a change since the last call, for so long at most. True may be a false alarm."""
        try:
            async with asyncio.timeout(seconds):
                await self._happened.wait()
        except TimeoutError:
            return False
        self._happened.clear()
        return True


class Watches:
    """All that are open in this process."""

    def __init__(self) -> None:
        self._open: defaultdict[str, set[asyncio.Event]] = defaultdict(set)

    def add(self, job: str, happened: asyncio.Event) -> None:
        self._open[job].add(happened)

    def remove(self, job: str, happened: asyncio.Event) -> None:
        self._open[job].discard(happened)
        if not self._open[job]:
            del self._open[job]

    def tell(self, job: str) -> None:
        for happened in self._open.get(job, ()):
            happened.set()

    def tell_all(self) -> None:
        """Something may have been missed: let everybody look."""
        for job in self._open:
            self.tell(job)
