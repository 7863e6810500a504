"""Claims due batches, runs a few of them at the same time, and deletes those that ended long ago."""

import asyncio
import contextlib
from collections import Counter

from msgspec import Struct
from msgspec.structs import replace

from gateway.api.api_context import ApiContext
from gateway.api.batches.batch_lease import BatchLease, BatchLeaseLost, claim_batch
from gateway.api.batches.batch_records import Batch, decode_batch
from gateway.api.batches.batch_run import BatchRun
from gateway.api.batches.deleted_records import delete_expired_marks, delete_record
from gateway.api.batches.file_library import delete_expired_files
from gateway.assets.storage import StorageUnavailable
from gateway.events import ErrorReported, describe_exception
from gateway.store.base import StoreUnavailable
from gateway.store.team_records import RecordKind

# Bounds for the memory of all runs: each buffers up to two chunks of its output files.
MAX_RUNS, MAX_RUNS_PER_TEAM = 8, 4


class BatchLoad(Struct, frozen=True, kw_only=True):
    """The work of a process on batches. `waiting`: batches that no process has room for, seen by all of them."""

    running: int
    waiting: int
    lines_left: int


class BatchScheduler:
    """Runs the batches of this process. The lines of all runs share the configured number of open lines."""

    def __init__(self, context: ApiContext, lease_seconds: float) -> None:
        self._context, self._lease_seconds = context, lease_seconds
        self._runs: dict[str, asyncio.Task[None]] = {}
        self._leases: dict[str, BatchLease] = {}
        self._waiting_count = 0
        self._teams = Counter[str]()
        self._is_stopped = False

    async def claim_due_batches(self) -> None:
        """Claims due batches for which this process has room, and deletes those that ended long ago."""
        if self._is_stopped:
            return
        waiting_count = 0
        for record in await self._context.store.team_records.list_due(RecordKind.BATCH):
            batch = decode_batch(record)
            if batch.status.has_ended:
                await delete_record(self._context, record)
            elif self._has_room(batch):
                lease = await claim_batch(self._context.store.team_records, batch, self._lease_seconds)
                if lease is not None:
                    self._start_run(lease)
            else:
                waiting_count += 1
        self._waiting_count = waiting_count

    def get_load(self) -> BatchLoad:
        batches = [lease.batch for lease in self._leases.values()]
        lines_left = sum(batch.total - batch.progress.completed - batch.progress.failed for batch in batches)
        return BatchLoad(running=len(batches), waiting=self._waiting_count, lines_left=lines_left)

    def _has_room(self, batch: Batch) -> bool:
        is_free = batch.id not in self._runs and len(self._runs) < MAX_RUNS
        return is_free and self._teams[batch.team] < MAX_RUNS_PER_TEAM and not self._is_stopped

    def _start_run(self, lease: BatchLease) -> None:
        batch_id, team = lease.batch.id, lease.batch.team
        self._teams[team] += 1
        self._leases[batch_id] = lease
        self._runs[batch_id] = task = asyncio.create_task(self._run(lease))

        def end_run(_: "asyncio.Task[None]") -> None:
            del self._runs[batch_id], self._leases[batch_id]
            self._teams[team] -= 1

        task.add_done_callback(end_run)

    def _get_max_open(self) -> int:
        """Returns how many lines each run may have open."""
        return max(1, self._context.catalogue().gateway.batches.open_lines // max(1, len(self._runs)))

    async def _run(self, lease: BatchLease) -> None:
        try:
            await BatchRun(self._context, lease, self._lease_seconds, self._get_max_open).run()
        except BatchLeaseLost:
            return
        except asyncio.CancelledError:
            await self._release(lease)
            raise
        except Exception as error:  # noqa: BLE001  the batch is claimed again
            await self._report_failure(lease, error)

    async def _release(self, lease: BatchLease) -> None:
        """Releases a batch at shutdown, so that another replica continues it at once."""
        with contextlib.suppress(StoreUnavailable, BatchLeaseLost):
            await lease.save(lambda batch: batch, 0.0)

    async def _report_failure(self, lease: BatchLease, error: Exception) -> None:
        """Schedules another run. An outage of the store or the image storage is not counted as a failure."""
        self._context.engine.context.emit(ErrorReported(component="batches", message=describe_exception(error)))
        is_outage = isinstance(error, StoreUnavailable | StorageUnavailable)
        failures = lease.batch.failures + (not is_outage)
        with contextlib.suppress(StoreUnavailable, BatchLeaseLost):
            await lease.save(
                lambda batch: replace(batch, failures=failures),
                min(self._context.timing.batches.max_failure_backoff_seconds, 2.0 ** min(failures, 10)),
            )

    async def delete_expired_records(self) -> None:
        await delete_expired_files(self._context)
        await delete_expired_marks(self._context)

    async def stop(self) -> None:
        """Releases all batches. Their jobs continue. Safe to repeat."""
        self._is_stopped = True
        while tasks := list(self._runs.values()):
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.sleep(0)
