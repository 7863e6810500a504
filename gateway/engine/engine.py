"""Runs all jobs of this process.

It creates jobs, claims those of other replicas, renews leases, and hands its jobs over at shutdown.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Sequence

from msgspec.structs import replace

from gateway.assets.object_keys import make_object_prefix
from gateway.engine.commit_events import emit_commit_events, identify_job
from gateway.engine.engine_context import EngineContext
from gateway.engine.job_caller_remover import JobCallerRemover
from gateway.engine.job_cleanup_runner import delete_expired_content
from gateway.engine.job_creation import CreateJobCommand, CreateJobResult, create_job
from gateway.engine.job_worker import JobWorker
from gateway.engine.measured_commits import commit_job
from gateway.events import ErrorReported, JobAccepted, JobReclaimed, describe_exception, make_error_event
from gateway.jobs.commit import build_update_commit
from gateway.jobs.document_names import list_document_names
from gateway.jobs.job import Job
from gateway.jobs.job_update_types import CancelRequested, Fact, JobConfirmed, JobContentDeleted
from gateway.jobs.next_actions import MAX_RECLAIMS_WITHOUT_PROGRESS, NO_PREVIOUS_WORKER, PreviousWorker
from gateway.jobs.transitions import Ignored
from gateway.store.base import (
    FIRST_FENCE,
    RENEWALS_PER_LEASE,
    Applied,
    ClaimedJob,
    StoreError,
    StoreUnavailable,
    min_survival_seconds,
)
from gateway.store.job_watch import JobWatch
from gateway.task_supervisor import SupervisedTask, TaskSupervisor

# A claim may spend so many claim intervals on suspects before it claims other jobs again.
MAX_SUSPECT_INTERVALS = 5.0


class Engine:
    """Runs jobs from `start` to `drain`. `lease_seconds`: how long a lease lasts after each renewal."""

    def __init__(self, context: EngineContext, lease_seconds: float) -> None:
        self.context = context
        self._lease_seconds = lease_seconds
        self.workers: dict[str, JobWorker] = {}
        self._worker_tasks: set[asyncio.Task[None]] = set()
        self.job_caller_remover = JobCallerRemover(context.store, context.timing.clients)
        self._periodic_tasks: list[SupervisedTask] = []
        self._draining = asyncio.Event()
        self._handover_requested = asyncio.Event()
        # Held until each claimed job has a worker or is released.
        self._claim_lock = asyncio.Lock()
        self.is_stopped = False
        self._partitions_to_audit: list[int] = []
        # The time of the last successful write, by `context.monotonic`. Health is published every second.
        self.last_write_at = context.monotonic()

    @property
    def seconds_since_write(self) -> float:
        return self.context.monotonic() - self.last_write_at

    @property
    def can_write(self) -> bool:
        """Whether the store has recently applied a write."""
        return self.seconds_since_write < self.context.timing.maintenance.max_write_gap_seconds

    # --- start and shutdown

    def start(self, supervisor: TaskSupervisor) -> None:
        timing = self.context.timing
        periodic_functions: dict[str, tuple[Callable[[], Awaitable[None]], float]] = {
            "engine.claim_jobs": (self._claim_due_jobs, timing.claims.interval_seconds),
            "engine.claim_jobs_of_killed_replicas": (
                self._claim_jobs_of_killed_replicas,
                timing.claims.killed_replica_check_interval_seconds,
            ),
            "engine.renew_leases": (self._renew_all_leases, self._lease_seconds / RENEWALS_PER_LEASE),
            "engine.publish_health": (self._publish_health, timing.maintenance.publish_interval_seconds),
            "engine.audit_store": (self._audit_store, timing.maintenance.audit_check_interval_seconds),
            "engine.delete_expired": (self._delete_expired, timing.maintenance.cleanup_interval_seconds),
        }
        for name, (periodic_function, seconds) in periodic_functions.items():
            self._periodic_tasks.append(supervisor.run_every(name, seconds, periodic_function))

    async def drain(self, timeout_seconds: float) -> int:
        """Stops claiming, waits for running jobs, then releases the rest. Returns how many were released."""
        self._draining.set()
        drain_conditions = (
            asyncio.create_task(self._wait_for_workers()),
            asyncio.create_task(self._handover_requested.wait()),
        )
        await asyncio.wait(drain_conditions, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED)
        await self._wait_for_last_claim()
        remaining_workers = list(self.workers.values())
        for task in (tasks := (*drain_conditions, *self._worker_tasks)):
            task.cancel()
        await asyncio.wait(tasks)
        await asyncio.gather(*(periodic_task.stop() for periodic_task in self._periodic_tasks))
        await asyncio.gather(*(self._hand_over(worker) for worker in remaining_workers))
        self.is_stopped = True
        self.context.job_watchers.notify_all()
        await self.job_caller_remover.close()
        return len(remaining_workers)

    def hand_over_all_jobs(self) -> None:
        """Ends a running `drain` early: all remaining jobs are released now."""
        self._handover_requested.set()

    async def _wait_for_workers(self) -> None:
        while self._worker_tasks:
            await asyncio.wait(self._worker_tasks)

    async def _wait_for_last_claim(self) -> None:
        """Waits for a running claim, so that its jobs are released too, before their leases expire."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.context.timing.claims.last_claim_timeout_seconds), self._claim_lock:
                return

    async def _hand_over(self, worker: JobWorker) -> None:
        with contextlib.suppress(StoreUnavailable):
            if worker.is_created_here and not worker.job.is_confirmed:
                # The response to its clients says that another replica continues the job.
                await self.save_fact(worker.job.id, JobConfirmed())
            await self.context.store.release_job(worker.job.id, worker.fence, 0.0)

    # --- jobs

    async def create_job(self, command: CreateJobCommand) -> CreateJobResult:
        """Creates a job. If the store applied the commit, the worker of the job is running when this returns."""
        result = await create_job(self.context, command)
        if isinstance(result.outcome, Applied):
            self._start_new_job(result)
        return result

    async def confirm_job(self, job_id: str) -> Job | None:
        """Saves that a job is to be bought even if this process crashes. Returns the job as saved.

        A job that was already withdrawn stays withdrawn.
        """
        if worker := self.workers.get(job_id):
            await worker.confirmer.confirm()
            if worker.job.is_confirmed:
                return worker.job
        # This process does not hold the lease, or lost it: another replica may hold it, and withdraw the job.
        return await self.save_fact(job_id, JobConfirmed())

    async def cancel_job(self, job_id: str) -> Job | None:
        """Saves that the team cancels the job. Returns the job as saved; it is unchanged if it has ended before.

        Images that are not ordered are dropped. Running orders are tracked to their end, since no seller cancels them.
        """
        return await self._record_fact(job_id, CancelRequested())

    async def delete_job_content(self, job_id: str) -> Job | None:
        """Deletes the images and documents of a settled job, and all text in the job itself. Returns the job as saved;
        it is unchanged if it is not settled.

        The costs stay: a seller may still report a charge. After a failure, repeat the call.
        """
        job = await self.get_job(job_id)
        if job is None or not job.is_settled:
            return job
        saved_job = await self._record_fact(job_id, JobContentDeleted(), list_document_names(job))
        # A paused replica may still store images. If it does so later, it finds that the job is deleted.
        self.context.unread_images.discard(make_object_prefix(job_id))
        await self.context.storage.delete_prefix(make_object_prefix(job_id))
        return saved_job

    async def _record_fact(self, job_id: str, fact: Fact, removed_documents: tuple[str, ...] = ()) -> Job | None:
        """Saves a fact through the worker of the job in this process, or directly. Returns the job as saved."""
        worker = self.workers.get(job_id)
        if worker and await worker.job_context.mailbox.post(fact, removed_documents=removed_documents):
            return worker.job
        # This process has no worker of the job, or the worker could not change it any more.
        return await self.save_fact(job_id, fact, removed_documents)

    async def save_fact(self, job_id: str, fact: Fact, removed_documents: tuple[str, ...] = ()) -> Job | None:
        """Saves a fact about a job whose worker may run in another replica. Returns the job as saved."""
        while job := await self.context.store.load_job(job_id):
            commit = build_update_commit(job, fact, self.context.wall_clock())
            if isinstance(commit, Ignored):
                return job
            commit = replace(commit, removed_documents=(*commit.removed_documents, *removed_documents))
            if isinstance(await commit_job(self.context, commit), Applied):
                emit_commit_events(self.context, job, commit)
                return commit.job
        return None

    def _start_new_job(self, result: CreateJobResult) -> None:
        job = result.commit.job
        self._emit_job_accepted(job, result.policy)
        # Only a worker that reclaims a job loads these documents from the store.
        self._start_worker(job, FIRST_FENCE).job_context.order_documents = result.documents

    def _emit_job_accepted(self, job: Job, policy: str) -> None:
        self.context.emit(
            JobAccepted(
                **identify_job(job, job.created_at),
                team=job.team,
                model=job.model,
                images=job.n,
                cell=job.route[0].cell,
                policy=policy,
            )
        )

    def _start_worker(
        self, job: Job, fence: int, reclaims: int = 0, previous_worker: PreviousWorker = NO_PREVIOUS_WORKER
    ) -> JobWorker:
        worker = JobWorker(self.context, job, fence, reclaims, previous_worker)
        self.workers[job.id] = worker
        self.context.open_jobs.add(job)
        task = asyncio.create_task(worker.run())
        self._worker_tasks.add(task)
        task.add_done_callback(lambda task: self._on_worker_done(worker, task))
        return worker

    def _on_worker_done(self, worker: JobWorker, task: "asyncio.Task[None]") -> None:
        if self.workers.get(worker.job.id) is worker:
            del self.workers[worker.job.id]
            self.context.open_jobs.remove(worker.job.id)
        self._worker_tasks.discard(task)
        if not task.cancelled() and (error := task.exception()):
            # The next worker that claims the job continues it.
            self.context.emit(ErrorReported(component="engine", message=describe_exception(error), job=worker.job.id))

    async def get_job(self, job_id: str) -> Job | None:
        """Returns the job as held by its worker in this process. If it has none, loads the job from the store."""
        worker = self.workers.get(job_id)
        return worker.job if worker else await self.context.store.load_job(job_id)

    async def wait_for_job(self, job_id: str, timeout_seconds: float) -> Job | None:
        """Waits until the job is terminal, for at most `timeout_seconds`, or until this process is stopped."""
        give_up_at = self.context.monotonic() + timeout_seconds
        while True:
            # The worker in this process changes the job earlier than the store reports it.
            is_local = job_id in self.workers
            watch = JobWatch(self.context.job_watchers, job_id) if is_local else self.context.store.watch(job_id)
            with watch:
                while is_local == (job_id in self.workers):
                    job = await self.get_job(job_id)
                    remaining_seconds = give_up_at - self.context.monotonic()
                    if job is None or job.state.is_terminal or remaining_seconds <= 0 or self.is_stopped:
                        return job
                    await watch.wait_for_change(min(remaining_seconds, self.context.timing.clients.job_poll_seconds))

    @contextlib.contextmanager
    def watch_job(self, job_id: str) -> Iterator[JobWatch]:
        """Watches for changes of the job by any replica, and for the stop of this process."""
        with self.context.store.watch(job_id) as watch:
            self.context.job_watchers.add(job_id, watch)
            try:
                yield watch
            finally:
                self.context.job_watchers.remove(job_id, watch)

    def on_callback(self, job_id: str, attempt_number: int, ticket: str | None) -> int | None:
        """Passes a seller's callback to the job's worker in this process, which polls the order at once.

        Returns the fence of that worker; None if this process does not hold the lease.
        """
        worker = self.workers.get(job_id)
        if worker is None or not worker.has_lease:
            return None
        worker.tracker.on_callback(attempt_number, ticket)
        return worker.fence

    async def has_lease(self, job_id: str, fence: int) -> bool:
        """Asks the store whether this process holds the lease. After a pause, a process may not have noticed that it
        lost the lease."""
        worker = self.workers.get(job_id)
        if worker is None or worker.fence != fence:
            return False
        await self._renew_leases({job_id: fence})
        return worker.has_lease and worker.fence == fence

    # --- periodic tasks

    async def _claim_due_jobs(self) -> None:
        """Claims due jobs. Claims again while there are suspects, so that many of them run in one interval."""
        stop_at = self.context.monotonic() + self.context.timing.claims.interval_seconds * MAX_SUSPECT_INTERVALS
        while not self._draining.is_set():
            async with self._claim_lock:
                suspects = await self._start_claimed_jobs(await self.context.store.claim_jobs())
            for suspect in suspects:
                await self._run_suspect_alone(suspect)
            if not suspects or self.context.monotonic() >= stop_at:
                return

    async def _claim_jobs_of_killed_replicas(self) -> None:
        """Claims the jobs of replicas whose processes have ended, without waiting until their leases end."""
        if await self.context.store.expire_leases_of_killed_replicas():
            await self._claim_due_jobs()

    async def _start_claimed_jobs(self, claimed_jobs: Sequence[ClaimedJob]) -> Sequence[ClaimedJob]:
        """Starts the workers of claimed jobs, those of suspects last. Returns the suspects.

        While draining, claimed jobs are released at once.
        """
        trusted = [claimed_job for claimed_job in claimed_jobs if not claimed_job.is_suspect]
        await asyncio.gather(*(self._start_or_release(claimed_job) for claimed_job in trusted))
        suspects = claimed_jobs[len(trusted) :]
        if suspects and trusted:
            await self._wait_for_drain(self.context.timing.claims.suspect_run_seconds)
        for claimed_job in suspects:
            await self._start_or_release(claimed_job)
        return suspects

    async def _wait_for_drain(self, timeout_seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                await self._draining.wait()

    async def _start_or_release(self, claimed_job: ClaimedJob) -> None:
        if not self._draining.is_set() or claimed_job.job.id in self.workers:
            self._start_claimed_job(claimed_job)
            return
        with contextlib.suppress(StoreUnavailable):
            await self.context.store.release_job(claimed_job.job.id, claimed_job.fence, 0.0)

    async def _run_suspect_alone(self, claimed_job: ClaimedJob) -> None:
        """Runs a suspect alone, so that a crash is known to be caused by this job.

        If this process does not crash, it renews the lease at once. That resets the job's crash count, unless earlier
        workers ran for longer before they crashed.
        """
        if (worker := self.workers.get(claimed_job.job.id)) is None:
            return
        timing = self.context.timing.claims
        seconds, event = timing.suspect_run_seconds, worker.job_context.progress_event
        if claimed_job.max_owned_seconds and claimed_job.reclaims == MAX_RECLAIMS_WITHOUT_PROGRESS - 1:
            # After one more crash the job is abandoned: only a saved change or a longer run can still reset the count.
            seconds = min(
                min_survival_seconds(claimed_job.max_owned_seconds, self._lease_seconds) + timing.suspect_run_seconds,
                timing.max_suspect_run_seconds,
            )
            event = worker.job_context.saved_event
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await event.wait()
        if self.workers.get(worker.job.id) is worker:
            await self._renew_leases({worker.job.id: worker.fence})

    def _start_claimed_job(self, claimed_job: ClaimedJob) -> JobWorker:
        job, now = claimed_job.job, self.context.wall_clock()
        previous_worker = PreviousWorker(until=now + self._lease_seconds, attempt_count=len(job.attempts))
        if worker := self.workers.get(job.id):
            # This process could not renew its lease in time. Its previous worker still awaits responses to orders.
            worker.on_lease_regained(claimed_job.fence, previous_worker)
            return worker
        self.context.emit(JobReclaimed(**identify_job(job, now), reclaims=claimed_job.reclaims))
        return self._start_worker(job, claimed_job.fence, claimed_job.reclaims, previous_worker)

    async def _renew_all_leases(self) -> None:
        await self._renew_leases({job_id: worker.fence for job_id, worker in self.workers.items()})

    async def _renew_leases(self, leases: dict[str, int]) -> None:
        for job_id in await self.context.store.renew_leases(leases):
            if (worker := self.workers.get(job_id)) and worker.fence == leases[job_id] and not worker.job.is_settled:
                worker.on_lease_lost()

    async def _publish_health(self) -> None:
        context, store = self.context, self.context.store
        await store.publish_signal(store.replica_id, context.health.make_snapshot(context.wall_clock()))
        self.last_write_at = context.monotonic()
        context.health.merge_snapshots(await store.read_signals(), context.wall_clock())

    async def _audit_store(self) -> None:
        """Audits all partitions if this replica has the audit of this hour. After a failure it continues where it
        failed."""
        store = self.context.store
        if not self._partitions_to_audit and await store.claim_audit(
            self.context.timing.maintenance.audit_interval_seconds
        ):
            self._partitions_to_audit = list(store.partitions)
        while self._partitions_to_audit:
            await self._audit_partition(self._partitions_to_audit[0])
            del self._partitions_to_audit[0]

    async def _audit_partition(self, partition: int) -> None:
        try:
            report = await self.context.store.audit(partition)
        except StoreUnavailable:
            raise
        except StoreError as error:
            # Only a newer version can read a job or entry here. Its audit, or a later one, repairs the partition.
            self.context.emit(make_error_event(error))
            return
        if report.discrepancy_count:
            message = f"audit repaired {report.discrepancy_count} inconsistencies in partition {partition}"
            self.context.emit(ErrorReported(component="audit", message=message))

    async def _delete_expired(self) -> None:
        await delete_expired_content(self.context, self.save_fact)
        await self.context.store.delete_expired()
