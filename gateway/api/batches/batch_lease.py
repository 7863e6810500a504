"""The lease of a batch that this replica works on. A change is saved only while the lease's fence is the stored one."""

import asyncio
from collections.abc import Callable

from msgspec.structs import replace

from gateway.api.batches.batch_records import Batch, decode_batch
from gateway.store.team_records import RecordKind, TeamRecordStore, encode_record

BatchChange = Callable[[Batch], Batch]


class BatchLeaseLost(Exception):
    """Another replica works on the batch now."""


class BatchLease:
    """Saves the changes of one batch. While the lease lasts, another replica can only cancel the batch.

    `batch`: as it was last saved or loaded.
    """

    def __init__(self, records: TeamRecordStore, batch: Batch, lease_seconds: float) -> None:
        self.batch = batch
        self._records, self._lease_seconds = records, lease_seconds
        self._lock = asyncio.Lock()

    async def save(self, change: BatchChange, due_in_seconds: float | None = None) -> None:
        """Saves a change, and renews the lease; or makes the batch due again after `due_in_seconds`, if that is given.

        Raises BatchLeaseLost if another replica claimed the batch.
        """
        due_in = self._lease_seconds if due_in_seconds is None else due_in_seconds
        async with self._lock:
            while not await self._records.save(encode_record(RecordKind.BATCH, change(self.batch)), due_in):
                await self._load()
            changed = change(self.batch)
            self.batch = replace(changed, version=changed.version + 1)

    async def refresh(self) -> None:
        """Loads the batch again, because another replica may have cancelled it.

        Raises BatchLeaseLost if another replica claimed it.
        """
        async with self._lock:
            await self._load()

    async def _load(self) -> None:
        record = await self._records.load(self.batch.id)
        if record is None or (stored := decode_batch(record)).fence != self.batch.fence:
            raise BatchLeaseLost
        self.batch = stored


async def claim_batch(records: TeamRecordStore, batch: Batch, lease_seconds: float) -> BatchLease | None:
    """Claims a batch that is due. Returns None if another replica was faster."""
    claimed = replace(batch, fence=batch.fence + 1)
    if not await records.save(encode_record(RecordKind.BATCH, claimed), lease_seconds):
        return None
    return BatchLease(records, replace(claimed, version=claimed.version + 1), lease_seconds)
