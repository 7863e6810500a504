"""One replica's work on one batch: validates its lines, orders them, and completes its files."""

import asyncio
import contextlib
from collections.abc import Callable

import msgspec
from msgspec.structs import replace

from gateway.api.api_context import ApiContext
from gateway.api.batches.batch_lease import BatchLease
from gateway.api.batches.batch_line_executor import BatchLineExecutor
from gateway.api.batches.batch_records import (
    BATCH_TTL_SECONDS,
    MAX_SHOWN_ERRORS,
    Batch,
    BatchError,
    BatchStatus,
    OutputFile,
)
from gateway.api.batches.batch_result_writer import OutputWriter
from gateway.api.batches.batch_validation import BatchValidator, ValidationResult
from gateway.api.batches.file_content import FileContent, iterate_lines
from gateway.api.batches.file_library import delete_file_content, find_team_file, save_file
from gateway.api.batches.file_records import OUTPUT_PURPOSE, FileRecord
from gateway.api.batches.input_file_expiry import expire_input_file
from gateway.events import BatchEnded
from gateway.store.base import StoreUnavailable

# The lease is renewed so many times before it would end, so that a single failure does not lose it.
RENEWALS_PER_LEASE = 3
# After so many internal errors in a row, the batch fails.
MAX_FAILURES = 50
INTERRUPTED = BatchError(
    code="batch_interrupted",
    message=(
        "The input file was deleted, or the gateway did not run until a day after the completion window: no more lines "
        "are ordered. The batch's files have the results so far; GET /v1/jobs lists the jobs of all ordered lines."
    ),
)


class BatchRun:
    """The work on one batch under its lease. `get_max_open`: how many lines may be open at the same time."""

    def __init__(
        self, context: ApiContext, lease: BatchLease, lease_seconds: float, get_max_open: Callable[[], int]
    ) -> None:
        self._context, self.lease, self._get_max_open = context, lease, get_max_open
        self._renewal_interval_seconds = lease_seconds / RENEWALS_PER_LEASE

    async def run(self) -> None:
        """Works on the batch until it has ended. Raises BatchLeaseLost if another replica claimed it."""
        work, renewal = asyncio.create_task(self._work()), asyncio.create_task(self._keep_lease())
        try:
            done, _ = await asyncio.wait((work, renewal), return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            for task in (work, renewal):
                task.cancel()
            await asyncio.gather(work, renewal, return_exceptions=True)

    async def _keep_lease(self) -> None:
        """Renews the lease, and notices a cancellation."""
        monotonic = self._context.engine.context.monotonic
        renewed_at = monotonic()
        while True:
            await asyncio.sleep(self._context.timing.batches.refresh_interval_seconds)
            # During an outage of the store, the lease may end. Then another replica claims the batch.
            with contextlib.suppress(StoreUnavailable):
                if monotonic() - renewed_at >= self._renewal_interval_seconds:
                    await self.lease.save(lambda batch: batch)
                    renewed_at = monotonic()
                else:
                    await self.lease.refresh()

    async def _work(self) -> None:
        batch = self.lease.batch
        if batch.failures >= MAX_FAILURES:
            message = (
                "Internal errors stopped this batch: report them to the operator. Its files have the results so far; "
                "GET /v1/jobs lists the jobs of all ordered lines."
            )
            return await self._end(BatchStatus.FAILED, (BatchError(code="internal_error", message=message),))
        if batch.errors:
            return await self._end(BatchStatus.FAILED, batch.errors)
        if self._needs_input():
            if (file := await self._find_input()) is None:
                return await self._end(BatchStatus.FAILED, (INTERRUPTED,))
            if batch.estimate is None:
                await self._validate(file)
            if not self.lease.batch.status.has_ended:
                await self._order_lines(file)
        if not self.lease.batch.status.has_ended:
            await self._finish()

    def _needs_input(self) -> bool:
        """Returns whether lines are to be validated, ordered, or reported as not ordered."""
        batch = self.lease.batch
        is_cancelled_before_validation = batch.is_cancelling and batch.estimate is None
        return batch.status is not BatchStatus.FINALIZING and not is_cancelled_before_validation

    async def _find_input(self) -> FileRecord | None:
        """Returns the input file. None if it does not exist any more, or if it is unknown by now which lines were
        ordered."""
        batch = self.lease.batch
        if self._context.wall_clock() >= batch.created_at + batch.line_key_ttl_seconds:
            return None
        return await find_team_file(self._context, batch.team, batch.input_file_id)

    # --- phases

    async def _validate(self, file: FileRecord) -> None:
        batch = self.lease.batch
        with contextlib.closing(FileContent(self._context.storage, file)) as content:
            result = await BatchValidator(self._context, batch).validate(iterate_lines(content))
        if result.errors:
            await self._fail_validation(result)
        else:
            await self.lease.save(lambda batch: self._start(batch, result))

    def _start(self, batch: Batch, result: ValidationResult) -> Batch:
        validated = replace(batch, total=result.total, estimate=result.estimate)
        if batch.is_cancelling:
            return validated
        return validated.with_status(BatchStatus.IN_PROGRESS, self._context.wall_clock())

    async def _fail_validation(self, result: ValidationResult) -> None:
        """Saves all errors in the error file, and the first ones in the batch. After a crash, they are not found again:
        the input file may be gone."""
        writer = OutputWriter(self._context, self.lease.batch.errors_output, self.lease.batch.fence)
        for error in result.errors:
            await writer.write(msgspec.json.encode(error))
            await writer.end_line()
        errors_output = await writer.flush()
        await self.lease.save(
            lambda batch: replace(
                batch,
                total=result.total,
                errors_output=errors_output,
                error_count=len(result.errors),
                errors=result.errors[:MAX_SHOWN_ERRORS],
            )
        )
        await self._end(BatchStatus.FAILED, result.errors)

    async def _order_lines(self, file: FileRecord) -> None:
        batch = self.lease.batch
        with contextlib.closing(FileContent(self._context.storage, file)) as content:
            executor = BatchLineExecutor(self._context, self.lease, self._get_max_open)
            await executor.order_all(iterate_lines(content, batch.progress.position))

    async def _finish(self) -> None:
        now = self._context.wall_clock()
        if self.lease.batch.status is not BatchStatus.FINALIZING:
            await self.lease.save(lambda batch: batch.with_status(BatchStatus.FINALIZING, now))
        batch = self.lease.batch
        status = BatchStatus.CANCELLED if batch.is_cancelling else BatchStatus.COMPLETED
        if status is BatchStatus.COMPLETED and batch.reached_at[BatchStatus.FINALIZING] >= batch.expires_at:
            status = BatchStatus.EXPIRED
        await self._end(status)

    async def _end(self, status: BatchStatus, errors: tuple[BatchError, ...] = ()) -> None:
        """Publishes the files of the batch, and ends it."""
        batch, now = self.lease.batch, self._context.wall_clock()
        for output, name in ((batch.output, "output"), (batch.errors_output, "errors")):
            await self._publish_file(batch, output, f"{batch.id}_{name}.jsonl")
        # Before the end is saved, since nothing would repeat it after a crash.
        await expire_input_file(self._context, batch)
        await self.lease.save(
            lambda batch: replace(batch, errors=errors[:MAX_SHOWN_ERRORS]).with_status(status, now),
            BATCH_TTL_SECONDS,
        )
        progress = self.lease.batch.progress
        self._context.engine.context.emit(
            BatchEnded(
                batch=batch.id,
                team=batch.team,
                status=status,
                lines=batch.total,
                completed=progress.completed,
                failed=progress.failed,
                seconds=round(now - batch.created_at, 1),
            )
        )

    async def _publish_file(self, batch: Batch, output: OutputFile, filename: str) -> None:
        """Saves the record of an output file. A file without lines is deleted: earlier runs may have stored chunks."""
        if not output.lines:
            return await delete_file_content(self._context, output.id)
        now = self._context.wall_clock()
        file = FileRecord(
            id=output.id,
            team=batch.team,
            created_at=now,
            expires_at=now + batch.output_ttl_seconds,
            filename=filename,
            purpose=OUTPUT_PURPOSE,
            size_bytes=output.size_bytes,
            chunks=output.chunks,
            is_complete=True,
        )
        await save_file(self._context, file)
