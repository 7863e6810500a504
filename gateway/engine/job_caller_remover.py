"""Removes disconnected clients from their jobs. Retries in the background until the store has saved the removal.

Afterwards, an identical request of another client creates a job of its own.
"""

import asyncio
import contextlib

from gateway.jobs.commit import IdempotencyRecord
from gateway.store.base import Store, StoreUnavailable
from gateway.timeouts_and_intervals import ClientTiming

MAX_PENDING = 10_000


class JobCallerRemover:
    """The removals that are not saved yet."""

    def __init__(self, store: Store, timing: ClientTiming) -> None:
        self._store = store
        self._timing = timing
        self._pending: set[asyncio.Task[None]] = set()

    def remove_in_background(self, team: str, record: IdempotencyRecord) -> None:
        if not record.is_body_key or len(self._pending) >= MAX_PENDING:
            return
        task = asyncio.create_task(self._remove_client(team, record))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _remove_client(self, team: str, record: IdempotencyRecord) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._timing.removal_timeout_seconds):
                while True:
                    with contextlib.suppress(StoreUnavailable):
                        return await self._store.remove_caller(team, record)
                    await asyncio.sleep(self._timing.removal_retry_seconds)

    async def close(self) -> None:
        """Waits a little for pending removals, then cancels the rest."""
        if self._pending:
            await asyncio.wait(self._pending, timeout=self._timing.last_removals_timeout_seconds)
        for task in self._pending:
            task.cancel()
