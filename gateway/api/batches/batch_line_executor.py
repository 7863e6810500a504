"""Orders the lines of one batch, a limited number at the same time, and writes their results."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from msgspec import Struct
from msgspec.structs import replace

from gateway.api.api_context import ApiContext
from gateway.api.api_errors import ApiError
from gateway.api.batches.batch_lease import BatchLease
from gateway.api.batches.batch_line_submission import BatchLine, decode_line, order_line, parse_line, quote_line
from gateway.api.batches.batch_records import Batch, BatchError
from gateway.api.batches.batch_result_writer import LineSummary, ResultWriter
from gateway.api.batches.file_content import FILE_CHUNK_BYTES, InputLine
from gateway.api.batches.line_job_place import LineJobPlace
from gateway.api.batches.line_progress import MAX_LINES_AHEAD, LineProgress
from gateway.api.charge_sentences import NOT_CHARGED
from gateway.api.job_submission import SubmittedJob, find_existing_job, wait_for_confirmation
from gateway.assets.storage import StorageUnavailable
from gateway.jobs.job import Job, JobState
from gateway.store.base import StoreUnavailable

# No more lines are started while so many orders of batches wait for their seller.
MAX_WAITING_ORDERS = 8
JOB_DELETED = BatchError(
    code="job_deleted",
    message=(
        "The job of this line was deleted before its result was written, by a request or because the gateway did not "
        "run for as long as jobs are kept. Its images may have been charged, so the line was not ordered again."
    ),
)


class LineNotOrdered(Exception):
    """The batch was cancelled, or has expired, before the line was ordered."""


class LineJobDeleted(Exception):
    """The job of the line does not exist any more: it was deleted, or its retention ended while no gateway ran."""


class OpenLine(Struct):
    """A line whose result is not written yet. `ceiling`: the most it may cost, if the batch has a maximum cost."""

    summary: LineSummary
    ceiling: int
    job_id: str | None = None
    is_cancel_sent: bool = False


class BatchLineExecutor:
    """Orders the lines of one batch. `get_max_open`: how many of them may be open at the same time."""

    def __init__(self, context: ApiContext, lease: BatchLease, get_max_open: Callable[[], int]) -> None:
        self._context, self._lease, self._get_max_open = context, lease, get_max_open
        self._timing = context.timing.batches
        batch = lease.batch
        self._progress = LineProgress(batch.progress)
        self._writer = ResultWriter(context, batch)
        self._open: dict[asyncio.Task[Job], OpenLine] = {}
        # How many of the next lines an earlier run may have ordered.
        self._unsure_lines = MAX_LINES_AHEAD if batch.fence > 1 else 0
        self._saved_at = self._now
        # Lines look for existing jobs, and get places for new ones, in the order of the file.
        self._lookup_lock, self._place_lock = asyncio.Lock(), asyncio.Lock()

    @property
    def _batch(self) -> Batch:
        return self._lease.batch

    @property
    def _now(self) -> float:
        return self._context.engine.context.monotonic()

    async def order_all(self, lines: AsyncIterator[InputLine]) -> None:
        """Orders all lines that have no result yet, and returns when every result is saved."""
        try:
            async for line in lines:
                if self._progress.start_line(line.number, line.end):
                    await self._process_line(line)
            while self._open:
                await self._collect_results()
            await self._save_progress()
        finally:
            for task in self._open:
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)

    # --- ordering

    async def _process_line(self, line: InputLine) -> None:
        self._unsure_lines, may_exist = max(0, self._unsure_lines - 1), self._unsure_lines > 0
        while not self._has_room(may_exist):
            await self._collect_results()
        try:
            if not may_exist:
                self._require_running()
            parsed = await parse_line(self._context, self._batch, line)
            ceiling = await self._reserve_cost(parsed)
        except (ApiError, LineNotOrdered) as error:
            await self._write_outcome(_summarize_unparsed(line), error)
            await self._save_progress_if_due()
            # Lets other tasks run between two lines.
            await asyncio.sleep(0)
            return
        open_line = OpenLine(_summarize(parsed), ceiling)
        self._open[asyncio.create_task(self._run_line(parsed, open_line, may_exist))] = open_line

    def _has_room(self, may_exist: bool) -> bool:
        """Returns whether the next line may be started, or be reported as not ordered."""
        if not self._progress.has_room():
            return False
        is_stopped = not may_exist and self._get_stop_reason() is not None
        return is_stopped or self._may_open_another_line()

    def _may_open_another_line(self) -> bool:
        waiting_count = self._context.engine.context.limits.count_waiting_batch_orders()
        return len(self._open) < self._get_max_open() and waiting_count < MAX_WAITING_ORDERS

    async def _reserve_cost(self, line: BatchLine) -> int:
        """Waits until the rest of the batch's maximum cost covers the line. Returns the most that the line may cost.

        Raises ApiError if the rest never will.
        """
        if self._batch.max_cost is None:
            return 0
        ceiling = (await quote_line(self._context, line)).ceiling
        while self._progress.cost + sum(entry.ceiling for entry in self._open.values()) + ceiling > (
            self._batch.max_cost
        ):
            if not self._open:
                message = (
                    "The line may cost more than is left of the batch's max_cost, so it was not ordered. "
                    "Send it in a batch with a higher max_cost."
                )
                raise ApiError(400, "max_cost_exceeded", message, param="max_cost")
            await self._collect_results()
        return ceiling

    def _get_stop_reason(self) -> BatchError | None:
        """Returns why no more lines are ordered."""
        if self._batch.is_cancelling:
            message = f"The batch was cancelled before this line was ordered. {NOT_CHARGED}"
            return BatchError(code="batch_cancelled", message=message)
        if self._context.wall_clock() >= self._batch.expires_at:
            message = (
                f"The completion window ended before this line was ordered. Send it in another batch. {NOT_CHARGED}"
            )
            return BatchError(code="batch_expired", message=message)
        return None

    def _require_running(self) -> None:
        if self._get_stop_reason() is not None:
            raise LineNotOrdered

    async def _run_line(self, line: BatchLine, open_line: OpenLine, may_exist: bool) -> Job:
        """Creates the job of the line, and waits for its end."""
        with contextlib.closing(LineJobPlace(self._context, self._batch)) as place:
            job = await self._create_job(line, place, may_exist)
            open_line.job_id = job.id
            while not job.state.is_terminal:
                with contextlib.suppress(StoreUnavailable):
                    found = await self._context.engine.wait_for_job(job.id, self._timing.job_wait_seconds)
                    if found is None:
                        raise LineJobDeleted
                    job = found
            return job

    async def _create_job(self, line: BatchLine, place: LineJobPlace, may_exist: bool) -> Job:
        """Creates the job of the line, or finds it. Retries as long as that may help."""
        while True:
            try:
                job_id = await self._order_line(line, place, may_exist)
                job = await wait_for_confirmation(self._context, job_id)
                if not job.is_withdrawn:
                    return job
                line = _with_next_key(line)
            except ApiError as error:
                if error.code == "job_not_found":
                    raise LineJobDeleted from error
                if error.code == "withdrawn":
                    line = _with_next_key(line)
                elif not self._may_succeed_later(error):
                    raise
            except (StoreUnavailable, StorageUnavailable):
                pass
            # The store may have created the job, although its response was lost.
            may_exist = True
            await asyncio.sleep(self._timing.order_retry_seconds)

    async def _order_line(self, line: BatchLine, place: LineJobPlace, may_exist: bool) -> str:
        if (existing := await self._find_existing_job(line, place, may_exist)) is not None:
            return existing.job_id
        await self._reserve_place(place)
        # At the end of the window, jobs without an order are cancelled. Orders that run then have the usual deadline.
        window_seconds = self._batch.expires_at - self._context.wall_clock()
        deadline_seconds = window_seconds + self._context.catalogue().gateway.jobs.deadline_seconds
        return (await order_line(self._context, self._batch, line, deadline_seconds)).job_id

    async def _find_existing_job(self, line: BatchLine, place: LineJobPlace, may_exist: bool) -> SubmittedJob | None:
        """Returns the job that an earlier run created. Its place is held before later lines reserve theirs."""
        async with self._lookup_lock:
            existing = await find_existing_job(self._context, line.request) if may_exist else None
            if existing is not None:
                place.hold_for_existing_job()
            return existing

    async def _reserve_place(self, place: LineJobPlace) -> None:
        """Waits until the line's team and API key may have another job of a batch. A retried line has its place."""
        self._require_running()
        if place.is_held:
            return
        async with self._place_lock:
            self._require_running()
            while not place.reserve():
                await asyncio.sleep(self._timing.line_poll_seconds)
                self._require_running()

    def _may_succeed_later(self, error: ApiError) -> bool:
        """Returns whether the same line may be accepted later. The budget has room again when running lines cost less
        than was held for them."""
        has_running_lines = any(entry.job_id is not None for entry in self._open.values())
        return error.is_retryable or (error.code == "insufficient_quota" and has_running_lines)

    # --- results

    async def _collect_results(self) -> None:
        """Waits for the next results, for one tick at most, and writes them."""
        if self._open:
            done, _ = await asyncio.wait(
                self._open, timeout=self._timing.line_poll_seconds, return_when=asyncio.FIRST_COMPLETED
            )
        else:
            done = set()
            await asyncio.sleep(self._timing.line_poll_seconds)
        for task in done:
            open_line = self._open.pop(task)
            await self._write_outcome(open_line.summary, task.exception() or task.result())
        await self._cancel_open_jobs()
        await self._save_progress_if_due()

    async def _write_outcome(self, summary: LineSummary, outcome: Job | BaseException) -> None:
        is_completed, cost = False, 0
        if (stop_reason := self._get_stop_reason()) is not None and _is_unordered(outcome):
            await self._writer.write_error(summary, stop_reason)
        elif isinstance(outcome, Job):
            is_completed, cost = await self._writer.write_job(summary, outcome), outcome.captured_amount
        elif isinstance(outcome, ApiError):
            await self._writer.write_refusal(summary, outcome)
        elif isinstance(outcome, LineJobDeleted):
            await self._writer.write_error(summary, JOB_DELETED)
        else:
            raise outcome
        self._progress.record_written(summary.number, is_completed, cost)

    async def _cancel_open_jobs(self) -> None:
        """Cancels the jobs of a cancelled or expired batch: parts without an order are dropped, and
        running orders are followed to their end."""
        if self._get_stop_reason() is None:
            return
        for entry in list(self._open.values()):
            if entry.job_id is not None and not entry.is_cancel_sent:
                with contextlib.suppress(StoreUnavailable):
                    await self._context.engine.cancel_job(entry.job_id)
                    entry.is_cancel_sent = True

    async def _save_progress_if_due(self) -> None:
        is_due = (
            self._now - self._saved_at >= self._timing.checkpoint_interval_seconds
            or self._writer.unsaved_bytes >= FILE_CHUNK_BYTES
        )
        if is_due and self._progress.has_changed:
            await self._save_progress()

    async def _save_progress(self) -> None:
        """Stores the results, and then saves in one record which results are stored, and the progress."""
        progress = self._progress.take_snapshot()
        output, errors = await self._writer.flush()
        await self._lease.save(
            lambda batch: replace(batch, output=output, errors_output=errors, progress=progress, failures=0)
        )
        self._saved_at = self._now


def _is_unordered(outcome: Job | BaseException) -> bool:
    """Returns whether the line was stopped before anything was ordered."""
    if isinstance(outcome, Job):
        return outcome.state is JobState.CANCELLED and not outcome.attempts
    return isinstance(outcome, LineNotOrdered)


def _summarize(line: BatchLine) -> LineSummary:
    params = line.request.params
    return LineSummary(
        number=line.number,
        custom_id=line.custom_id,
        wants_url=params.response_format == "url",
        safety_identifier=params.safety_identifier or params.user,
    )


def _summarize_unparsed(line: InputLine) -> LineSummary:
    """Summarizes a line that is not ordered."""
    custom_id = ""
    with contextlib.suppress(ApiError):
        custom_id = str(decode_line(line.data or b"").get("custom_id", ""))
    return LineSummary(number=line.number, custom_id=custom_id)


def _with_next_key(line: BatchLine) -> BatchLine:
    """Returns the line with another idempotency key. The former one belongs to a job that was withdrawn before any
    order."""
    record = line.request.idempotency
    return replace(line, request=replace(line.request, idempotency=replace(record, key=f"{record.key}+")))
