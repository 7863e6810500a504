"""Sends the webhooks of this process: takes new ones from the outbox, and makes the attempts that are due.

A webhook is claimed before each attempt: until the attempt is recorded, or the lease ends, no other replica sends it. A
process that crashes in between leaves its webhooks to the others, with the same id. So each webhook arrives at least
once, and twice only after a crash, or if its own answer was lost.
"""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Iterable, Iterator, Sequence

import msgspec
from msgspec.structs import replace

from gateway.config.value_types import WebhookUrl
from gateway.event_wait import wait_and_clear
from gateway.events import ComponentError, ErrorReported, describe_exception
from gateway.jobs.commit import WebhookDelivery
from gateway.jobs.document_names import WEBHOOK
from gateway.jobs.job import Job
from gateway.store.base import DAY_SECONDS, ClaimedDelivery, StoreUnavailable
from gateway.store.team_records import RecordKind, TeamRecord
from gateway.task_supervisor import SupervisedTask
from gateway.webhooks.send_slots import Group, SendSlots
from gateway.webhooks.webhook_attempt import WebhookContext, make_attempt
from gateway.webhooks.webhook_events import WebhookAttempted
from gateway.webhooks.webhook_records import (
    JITTER,
    OWN_OUTCOMES,
    WebhookAttempt,
    WebhookOutcome,
    WebhookRecord,
    add_attempt,
    decode_delivery,
    encode_delivery,
    make_delivery_id,
)

MAX_HANDED_OVER, PAGE_RECORDS = 100, 500


class WebhookSender:
    """Sends webhooks until it is stopped. `lag_seconds`: for how long the most overdue webhook has been due."""

    def __init__(self, context: WebhookContext) -> None:
        self.lag_seconds = 0.0
        self._context = context
        self._records = context.store.team_records
        self._slots = SendSlots(context.timing.max_queue_seconds)
        self._sends: dict[str, asyncio.Task[None]] = {}
        self._slot_freed = asyncio.Event()
        self._is_stopped = False

    async def run(self, task: SupervisedTask) -> None:
        while not self._is_stopped:
            has_more = await self.send_due()
            task.record_success()
            if not has_more:
                await asyncio.sleep(self._context.timing.interval_seconds)

    async def stop(self) -> None:
        """Lets the running attempts end, which takes no longer than their timeout. Safe to repeat."""
        self._is_stopped = True
        while self._sends:
            await asyncio.wait(self._sends.values())

    async def send_due(self) -> bool:
        """Takes new webhooks from the outbox, and starts the attempts that are due, for about the interval. Returns
        whether more may be due already."""
        timing = self._context.timing
        claimed = await self._context.store.claim_deliveries(MAX_HANDED_OVER, timing.lease_seconds)
        if claimed:
            # A target that was added before the end of a job gets its webhook, whichever replica has added it.
            await self._context.refresh_targets()
        await self._gather(self._hand_over(delivery) for delivery in claimed)
        page = await self._records.list_due(RecordKind.DELIVERY, PAGE_RECORDS)
        due = [record for record in self._decode_page(page) if record.id not in self._sends]
        waiting = await self._clear_page(due)
        # Those behind may be of other teams and targets. Without progress, the same page would be read at once again.
        is_more_behind = len(claimed) == MAX_HANDED_OVER or (len(page) == PAGE_RECORDS and len(waiting) < len(due))
        are_waiting = await self._start_attempts(waiting, 0.0 if is_more_behind else timing.interval_seconds)
        return are_waiting or len(page) == PAGE_RECORDS or is_more_behind

    def _decode_page(self, page: Iterable[TeamRecord]) -> Iterator[WebhookRecord]:
        """Yields the records. One that an incompatible version wrote does not stop the others."""
        for stored in page:
            try:
                yield decode_delivery(stored)
            except msgspec.MsgspecError as error:
                self._report(error)

    async def _clear_page(self, page: Sequence[WebhookRecord]) -> list[WebhookRecord]:
        """Returns the webhooks to send soon. A webhook whose target or team is busy for longer is put
        off, so that it does not stand before those of others; the record of an old one is deleted."""
        max_queue_seconds, queue = self._context.timing.max_queue_seconds, Counter[Group]()
        soon, steps = list[WebhookRecord](), list[Awaitable[object]]()
        now = self._context.wall_clock()
        self.lag_seconds = max((now - record.due_at for record in page if record.is_pending), default=0.0)
        for record in page:
            if not record.is_pending:
                steps.append(self._records.delete(record.id))
            elif (wait_seconds := self._slots.estimate_wait(record, queue)) > max_queue_seconds:
                steps.append(self._put_off(record, wait_seconds))
            else:
                soon.append(record)
        self._slots.set_due(soon)
        await self._gather(steps)
        return soon

    async def _start_attempts(self, waiting: list[WebhookRecord], seconds: float) -> bool:
        """Starts attempts as slots become free, for these seconds. Returns whether some are still waiting."""
        loop = asyncio.get_running_loop()
        ends_at = loop.time() + seconds
        while not self._is_stopped:
            self._slot_freed.clear()
            waiting = self._start_free(waiting)
            if not waiting or not await wait_and_clear(self._slot_freed, ends_at - loop.time()):
                break
        return bool(waiting)

    def _start_free(self, waiting: Sequence[WebhookRecord]) -> list[WebhookRecord]:
        """Starts the attempts that have a slot now. Returns the others."""
        others = list[WebhookRecord]()
        for record in waiting:
            if groups := self._slots.try_acquire(record):
                self._start(record, groups)
            else:
                others.append(record)
        return others

    async def _put_off(self, record: WebhookRecord, seconds: float) -> None:
        """Makes the webhook due later. Its attempts are not counted, and another replica may have claimed it."""
        spread = 1 - JITTER + 2 * JITTER * self._context.draw_random()
        delay = min(seconds, self._context.timing.max_wait_seconds) * spread
        await self._records.save(encode_delivery(record), delay)

    async def _gather(self, steps: Iterable[Awaitable[object]]) -> None:
        """Runs the steps at the same time. An error of one does not end the others."""
        for result in await asyncio.gather(*steps, return_exceptions=True):
            if isinstance(result, StoreUnavailable):
                raise result
            if isinstance(result, Exception):
                self._report(result)

    def _report(self, error: BaseException) -> None:
        message = str(error) if isinstance(error, ComponentError) else describe_exception(error)
        self._context.emit(ErrorReported(component="webhooks", message=message))

    # --- new webhooks

    async def _hand_over(self, claimed: ClaimedDelivery) -> None:
        """Makes a record for each target of the event, and then removes the event from the outbox. After a crash in
        between this is repeated: the records have the same ids, so none is made twice."""
        event, store = claimed.delivery, self._context.store
        job = await store.load_job(event.job)
        if job is not None:
            documents = await store.load_documents(event.job, WEBHOOK)
            for record in self._make_records(event, job, documents.get(WEBHOOK)):
                await self._records.save(encode_delivery(record), 0.0)
        await store.ack_delivery(event.id, event.job)

    def _make_records(self, event: WebhookDelivery, job: Job, url: bytes | None) -> Iterator[WebhookRecord]:
        """Makes the records of the URL that the job names itself, and of the team's targets that want the event."""
        hosts = {"": WebhookUrl(url.decode()).host} if url else {}
        for name, target in self._context.catalogue().get_webhook_targets(job.team).items():
            if event.event_name in target.config.events:
                hosts[name] = target.config.url.host
        for target_name, host in hosts.items():
            yield WebhookRecord(
                id=make_delivery_id(event.id, target_name),
                team=job.team,
                created_at=event.created_at,
                event=event.event_name,
                job=job.id,
                target=target_name,
                host=host,
                due_at=event.created_at,
                traceparent=job.traceparent,
            )

    # --- attempts

    def _start(self, record: WebhookRecord, groups: tuple[Group, ...]) -> None:
        """Starts an attempt that has a slot, and frees the slot at its end."""
        self._sends[record.id] = task = asyncio.create_task(self._send(record))

        def end(ended: "asyncio.Task[None]") -> None:
            del self._sends[record.id]
            self._slots.release(groups)
            self._slot_freed.set()
            if not ended.cancelled() and (error := ended.exception()) is not None:
                self._report(error)

        task.add_done_callback(end)

    async def _send(self, record: WebhookRecord) -> None:
        """Claims the webhook, makes an attempt, and records it."""
        if not await self._records.save(encode_delivery(record), self._context.timing.lease_seconds):
            return
        claimed = replace(record, version=record.version + 1)
        attempt = await make_attempt(self._context, claimed)
        if attempt.outcome not in OWN_OUTCOMES:
            has_failed = attempt.outcome is not WebhookOutcome.DELIVERED
            self._slots.record_attempt(record, attempt.seconds, has_failed=has_failed)
        self._emit(await self._record_attempt(claimed, attempt), attempt)

    async def _record_attempt(self, record: WebhookRecord, attempt: WebhookAttempt) -> WebhookRecord:
        """Saves the attempt. While the store is unavailable this is repeated until the lease or the process ends:
        without a record, the webhook would be sent again."""
        timing = self._context.timing
        async with asyncio.timeout(timing.lease_seconds):
            while True:
                try:
                    return await self._save_attempt(record, attempt)
                except StoreUnavailable:
                    if self._is_stopped:
                        raise
                await asyncio.sleep(timing.interval_seconds)

    async def _save_attempt(self, record: WebhookRecord, attempt: WebhookAttempt) -> WebhookRecord:
        """Adds the attempt to the record as it is stored now: another replica or a request may have changed it."""
        draw = self._context.draw_random()
        while True:
            now = self._context.wall_clock()
            changed = add_attempt(record, attempt, self._context.timing.retry_delays_seconds, now, draw)
            due_in_seconds = changed.due_at - now if changed.is_pending else self._get_retention_seconds()
            if await self._records.save(encode_delivery(changed), due_in_seconds):
                return changed
            stored = await self._records.load(record.id)
            if stored is None:
                return changed
            record = decode_delivery(stored)
            if attempt in record.attempts:
                # The answer of the store to an earlier save was lost.
                return record

    def _get_retention_seconds(self) -> float:
        return self._context.catalogue().gateway.retention.jobs_days * DAY_SECONDS

    def _emit(self, record: WebhookRecord, attempt: WebhookAttempt) -> None:
        now = self._context.wall_clock()
        self._context.emit(
            WebhookAttempted(
                at=now,
                delivery=record.id,
                name=record.event,
                team=record.team,
                job=record.job or None,
                target=record.target or None,
                outcome=attempt.outcome,
                status=attempt.status,
                attempt=record.tries,
                seconds=round(attempt.seconds, 3),
                delivery_status=record.status,
                age_seconds=round(max(0.0, now - record.created_at), 3),
            )
        )
