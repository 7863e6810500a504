"""The worker of one job: the only task that decides about it, until the job is settled or the lease is lost.

Its helper tasks submit orders, poll and fetch, and post updates to its mailbox. The worker commits these, and then
starts the next actions that follow from the saved job.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import compress
from typing import TypeVar

from msgspec.structs import replace

from gateway.engine.commit_events import emit_commit_events
from gateway.engine.engine_context import EngineContext
from gateway.engine.job_confirmation import JobConfirmer
from gateway.engine.job_context import JobContext
from gateway.engine.mailbox import Message
from gateway.engine.measured_commits import commit_job
from gateway.engine.order_submitter import OrderSubmitter
from gateway.engine.order_tracker import OrderTracker
from gateway.engine.unconfigured_job_release import JobReleaser
from gateway.events import ErrorReported
from gateway.jobs.commit import Commit, build_commit
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import (
    AttemptAbandoned,
    Decision,
    ImagesStored,
    JobAbandoned,
    JobExpired,
    JobUpdate,
    JobWithdrawn,
)
from gateway.jobs.next_actions import (
    MAX_RECLAIMS_WITHOUT_PROGRESS,
    NO_PREVIOUS_WORKER,
    AbandonAttempt,
    AbandonJob,
    AbandonLostImages,
    AttemptAction,
    AwaitClient,
    ExpireJob,
    JobAction,
    PreviousWorker,
    SubmitOrder,
    WithdrawJob,
    derive_actions,
)
from gateway.jobs.transitions import apply_update
from gateway.store.base import Applied, CommitOutcome, LeaseLost, StoreError, StoreUnavailable, VersionConflict

ResultT = TypeVar("ResultT")


class JobWorker:
    """Works on one job while it holds the lease, which `fence` proves.

    `reclaims`: how often the job was claimed since its last progress; 0 if it was created here.
    `previous_worker`: it may still report responses that only it can receive.
    """

    def __init__(
        self,
        context: EngineContext,
        job: Job,
        fence: int,
        reclaims: int = 0,
        previous_worker: PreviousWorker = NO_PREVIOUS_WORKER,
    ) -> None:
        self.context = context
        self.job_context = JobContext(context, job, fence)
        self._reclaims = reclaims
        self._previous_worker = previous_worker
        self._remote_job: Job | None = None
        self.is_created_here = reclaims == 0
        self.confirmer = JobConfirmer(self.job_context)
        self._has_lease = True
        self.tracker = OrderTracker(self.job_context)
        self.submitter = OrderSubmitter(self.job_context, self.tracker)
        self._releaser = JobReleaser(self.job_context, self.on_lease_lost)

    @property
    def job(self) -> Job:
        return self.job_context.job

    @property
    def fence(self) -> int:
        return self.job_context.fence

    @property
    def has_lease(self) -> bool:
        """False once this process has found that another worker has the lease."""
        return self._has_lease

    # --- run

    async def run(self) -> None:
        try:
            if 0 < self._reclaims < MAX_RECLAIMS_WITHOUT_PROGRESS:
                self.tracker.schedule_open_orders()
            while (self._has_lease and not self.job_context.job.is_settled) or self._has_orders_in_flight():
                if self._has_lease:
                    self._start_actions()
                messages = await self.job_context.mailbox.receive(self._get_receive_timeout())
                self._merge_remote_changes()
                await self._commit_messages(messages)
        finally:
            self.job_context.cancel_tasks()
            await self.job_context.wait_for_tasks()
            self.job_context.mailbox.close()
            self.job_context.progress_event.set()
            self.job_context.saved_event.set()

    def on_lease_lost(self) -> None:
        """Stops new work. Still awaits the responses of orders in flight: only this process can receive them."""
        self._has_lease = False
        self.job_context.cancel_tasks(keep=self.submitter.in_flight)
        self.job_context.mailbox.wake()

    def on_lease_regained(self, fence: int, other_worker: PreviousWorker) -> None:
        """Continues with a new fence. Called when the lease had expired and this process claimed its own job again.

        Running tasks continue. Open orders are polled, since this process may have been paused. `other_worker`: the
        worker that had the lease meanwhile, if any.
        """
        if fence > self.fence + 1:
            self._previous_worker = other_worker
        self.job_context.fence = fence
        self._has_lease = True
        self.tracker.schedule_open_orders()
        self.job_context.mailbox.wake()

    def _has_orders_in_flight(self) -> bool:
        return self.job_context.has_task(self.submitter.in_flight)

    def _get_receive_timeout(self) -> float:
        """Returns the seconds until the job's deadline. All other events wake the mailbox."""
        job, max_seconds = self.job_context.job, self.context.timing.workers.max_receive_seconds
        if job.state.is_terminal or job.is_overdue:
            return max_seconds
        remaining_seconds = job.deadline - self.context.wall_clock()
        return min(max(remaining_seconds, 0.05), max_seconds)

    # --- start actions

    def _start_actions(self) -> None:
        actions = derive_actions(
            self.job_context.job, self.context.wall_clock(), self._reclaims, self._previous_worker, self.is_created_here
        )
        if self._releaser.release_if_unservable(actions):
            return
        context = self.context
        if context.store.is_shared or context.callback_urls is not None or self._previous_worker.until:
            self.job_context.start_task("remote changes", self._watch_remote_changes)
        for attempt_number in self.tracker.pending_polls:
            self.job_context.start_task(("attempt", attempt_number), partial(self.tracker.poll_once, attempt_number))
        for action in actions:
            if not self._is_premature(action):
                self._start_action(action)

    def _start_action(self, action: JobAction) -> None:
        match action:
            case SubmitOrder(images=images):
                self.submitter.submit(images, action)
            case AbandonAttempt(attempt=attempt):
                is_lost = not self.job.can_poll(self.job_context.get_attempt(attempt))
                self.job_context.start_task(("abandon", attempt), partial(self._abandon_attempt, action, is_lost))
            case AttemptAction(attempt=attempt):
                self.job_context.start_task(("attempt", attempt), partial(self.tracker.run_action, action))
            case AwaitClient(until=until):
                self.job_context.start_task(AwaitClient, partial(self.confirmer.wait_for_client_retry, until))
            case _:
                self.job_context.start_task(type(action), partial(self._record_decision, action))

    def _is_premature(self, action: JobAction) -> bool:
        """Returns whether the action must wait for a pending poll, or for a task that handles the attempt's images."""
        if isinstance(action, AbandonLostImages) and self.job_context.has_task({("attempt", action.attempt)}):
            return True
        return bool(self.tracker.pending_polls) and isinstance(action, ExpireJob | AbandonAttempt)

    async def _abandon_attempt(self, action: AbandonAttempt, is_lost: bool) -> None:
        """Abandons the attempt, whose time is over, and cancels a task that still works on it."""
        update = AttemptAbandoned(fence=self.fence, attempt=action.attempt, fault=action.fault, is_lost=is_lost)
        if await self.job_context.mailbox.post(update):
            self.job_context.cancel_task(("attempt", action.attempt))

    async def _record_decision(self, action: JobAction) -> None:
        if isinstance(action, ExpireJob):
            await self.job_context.mailbox.post(JobExpired(fence=self.fence))
        elif isinstance(action, AbandonJob):
            message = (
                f"{self._reclaims} workers in a row made no progress. The job is abandoned: no more orders are sent."
            )
            self.context.emit(ErrorReported(component="engine", message=message, job=self.job.id))
            await self.job_context.mailbox.post(JobAbandoned(fence=self.fence))
        elif isinstance(action, WithdrawJob):
            await self.job_context.mailbox.post(JobWithdrawn(fence=self.fence))

    async def _watch_remote_changes(self) -> None:
        """Watches for changes that other replicas save: cancellations, callbacks that they received, and results of
        the previous worker."""
        with self.context.store.watch(self.job.id) as watch:
            while True:
                is_announced = await watch.wait_for_change(self.context.timing.workers.max_receive_seconds)
                await asyncio.sleep(self.context.timing.workers.settle_seconds)
                if is_announced and not watch.has_newer_version(self.job.version):
                    continue
                with contextlib.suppress(StoreUnavailable):
                    saved_job = await self.context.store.load_job(self.job.id)
                    if saved_job and saved_job.version > self.job.version:
                        self._remote_job = saved_job
                        self.job_context.mailbox.wake()

    def _merge_remote_changes(self) -> None:
        """Adopts changes that other replicas saved, while no commit of this worker is running.

        The orders of changed attempts are polled at once.
        """
        remote_job, self._remote_job = self._remote_job, None
        if remote_job is None or remote_job.version <= self.job.version:
            return
        before = self.job
        self._set_job(remote_job)
        for attempt in remote_job.attempts:
            if attempt != before.get_attempt(attempt.number):
                self.tracker.wake(attempt.number)

    def _set_job(self, job: Job) -> None:
        before = self.job
        self.job_context.set_job(job)
        self.tracker.schedule_found_orders(before)

    # --- committing

    async def _commit_messages(self, messages: list[Message]) -> None:
        """Saves the updates of the messages. Retries while the store is unavailable."""
        try:
            while messages:
                now = self.context.wall_clock()
                job, effects = self._apply_messages(messages, now)
                if not any(effects):
                    break
                commit = self._build_commit(job, list(compress(messages, effects)), now)
                outcome = await self._retry_until_available(partial(commit_job, self.context, commit))
                if isinstance(outcome, Applied):
                    return self._on_commit_applied(commit, messages, effects)
                messages = await self._on_commit_refused(commit, outcome, messages)
        finally:
            # Needed also if the worker is cancelled: otherwise the senders would wait without end.
            _resolve_messages(messages, [False] * len(messages))

    async def _retry_until_available(self, operation: Callable[[], Awaitable[ResultT]]) -> ResultT:
        """Repeats the store call until the store answers.

        A commit whose answer was lost is repeated unchanged, so that the store recognises it. A different commit would
        conflict with it.
        """
        while True:
            try:
                return await operation()
            except StoreUnavailable as error:
                self.context.emit(ErrorReported(component="store", message=str(error), job=self.job.id))
                await asyncio.sleep(self.context.timing.workers.store_retry_seconds)

    def _apply_messages(self, messages: list[Message], now: float) -> tuple[Job, list[bool]]:
        """Applies the messages to the job. Returns the new job, and for each message whether it changed anything.

        Decisions from before this process lost and regained the lease are dropped.
        """
        job, effects = self.job_context.job, []
        for message in messages:
            update = message.update
            is_outdated = isinstance(update, Decision) and update.fence != self.job_context.fence
            result = None if is_outdated else apply_update(job, update, now)
            effects.append(isinstance(result, Job))
            job = result if isinstance(result, Job) else job
        return job, effects

    def _build_commit(self, job: Job, messages: list[Message], now: float) -> Commit:
        has_decision = False
        documents: dict[str, bytes] = {}
        removed_documents: list[str] = []
        for message in messages:
            has_decision = has_decision or isinstance(message.update, Decision)
            removed_documents += message.removed_documents
            if message.documents and not _is_late_delivery(message.update, job):
                documents |= message.documents
        commit = build_commit(self.job_context.job, job, now, self.job_context.fence if has_decision else None)
        removed = dict.fromkeys((*removed_documents, *commit.removed_documents))
        return replace(commit, documents=documents, removed_documents=tuple(removed))

    def _on_commit_applied(self, commit: Commit, messages: list[Message], effects: list[bool]) -> None:
        before = self.job_context.job
        if commit.documents:
            # Before the watchers are notified: they ask for the images of the job at once.
            self.context.image_document_cache.add(commit.job.id, commit.documents)
        self._set_job(commit.job)
        self._reclaims = 0
        self.job_context.progress_event.set()
        self.job_context.saved_event.set()
        emit_commit_events(self.context, before, commit)
        _resolve_messages(messages, effects)

    async def _on_commit_refused(
        self, commit: Commit, outcome: CommitOutcome, messages: list[Message]
    ) -> list[Message]:
        """Returns the messages to apply again, to the job as other replicas have saved it.

        After a lost lease, only messages without decisions are returned: facts may be saved without the lease.
        """
        if isinstance(outcome, LeaseLost) and commit.fence == self.fence:
            self.on_lease_lost()
        elif isinstance(outcome, VersionConflict | LeaseLost) and (
            current_job := await self._retry_until_available(partial(self.context.store.load_job, self.job.id))
        ):
            self._set_job(current_job)
        else:
            self.on_lease_lost()
            raise StoreError(f"job {self.job.id} was deleted while its worker ran")
        if self._has_lease:
            return messages
        with_decisions = [message for message in messages if isinstance(message.update, Decision)]
        _resolve_messages(with_decisions, [False] * len(with_decisions))
        return [message for message in messages if message not in with_decisions]


def _is_late_delivery(update: JobUpdate, job: Job) -> bool:
    """Returns whether the images came too late to be delivered. The job books their cost but does not list them, so
    their documents are not saved."""
    if not isinstance(update, ImagesStored):
        return False
    attempt = job.get_attempt(update.attempt)
    return attempt is None or not attempt.delivered_count


def _resolve_messages(messages: list[Message], effects: list[bool]) -> None:
    for message, has_effect in zip(messages, effects, strict=True):
        if not message.saved_future.done():
            message.saved_future.set_result(has_effect)
